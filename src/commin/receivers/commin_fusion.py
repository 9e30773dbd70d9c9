r"""Calibrated fusion: for each step and frequency band the best mix of what the prior, the INN and the link say of x.

    x̂ = x0 + G_b·[f⁻¹(y, d) − x0] + H_b·[y − x0]   in each band b of the 3-D DCT over (colour, row, column),

with (G_b, H_b) the least-squares solution against the true x over held-out pictures: the best estimate of this form
from x_t and y, which would be E[x | x_t, y] if all were Gaussian. Fitted greedily, each step behind those before it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from commin.inn.degradation import Degradation
from commin.inn.split import dct_matrix
from commin.units import IMAGE_CHANNELS

RIDGE = 1e-4
"""Share of the mean power added to the normal equations: where two corrections are one, it is halved between them."""


class Bands:
    """Luma and chroma of an orthonormal 3-D DCT, each cut into rings of equal steps of √frequency.

    The DCT of three colours is (1, 1, 1)/√3, luma, and two chromas. Ring i of n holds the frequencies
    √((u/H)² + (v/W)²) from √2·(i/n)² up to √2·((i+1)/n)²; band i is luma's, band n + i chroma's.
    """

    def __init__(self, height: int, width: int, rings: int, device: torch.device) -> None:
        self.count = 2 * rings
        self._colours, self._rows, self._columns = (dct_matrix(n).to(device) for n in (IMAGE_CHANNELS, height, width))
        radius = torch.hypot(torch.arange(height)[:, None] / height, torch.arange(width) / width)
        ring = ((radius / math.sqrt(2)).sqrt() * rings).long().clamp(max=rings - 1)
        self._index = torch.stack([ring, ring + rings, ring + rings]).to(device)

    def transform(self, x: Tensor) -> Tensor:
        """DCT coefficients of x, both (R, 3, H, W)."""
        planes = self._rows @ x @ self._columns.T
        return torch.einsum("kc,rcyx->rkyx", self._colours, planes)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The x that has these coefficients, both (R, 3, H, W)."""
        planes = torch.einsum("kc,rkyx->rcyx", self._colours, coefficients)
        return self._rows.T @ planes @ self._columns

    def spread(self, values: Tensor) -> Tensor:
        """A value for each band, (R, bands), as one for each coefficient, (R, 3, H, W)."""
        return values[:, self._index]

    def mean(self, coefficients: Tensor) -> Tensor:
        """Mean over rows and the coefficients of each band: (R, 3, H, W) to (bands,)."""
        index = self._index.flatten()
        sums = coefficients.new_zeros(self.count).index_add_(0, index, coefficients.mean(0).flatten())
        return sums / torch.bincount(index, minlength=self.count).clamp_min(1)


def corrections(inn: Degradation | None, x0: Tensor, y: Tensor, snr_db: Tensor) -> tuple[Tensor, Tensor]:
    """f⁻¹(y, d) − x0 with d of f(x0), and y − x0; all (R, 3, H, W) in [−1, 1]. Without an INN the first is zero."""
    if inn is None:
        return torch.zeros_like(x0), y - x0
    return inn.replace((x0 + 1) / 2, (y + 1) / 2, 1.0, snr_db) * 2 - 1 - x0, y - x0


def fuse(bands: Bands, x0: Tensor, through_inn: Tensor, direct: Tensor, gains: Tensor) -> Tensor:
    """x0 + G·through_inn + H·direct, band by band: pictures (R, 3, H, W), gains (R, 2, bands) with G first."""
    g, h = bands.spread(gains[:, 0]), bands.spread(gains[:, 1])
    return x0 + bands.inverse(g * bands.transform(through_inn) + h * bands.transform(direct))


def solve_gains(bands: Bands, error: Tensor, through_inn: Tensor, direct: Tensor) -> Tensor:
    """(G, H), (2, bands): the least ‖error − G·through_inn − H·direct‖² in each band; error = x − x0, (R, 3, H, W)."""
    e, a, b = (bands.transform(part) for part in (error, through_inn, direct))
    gram = torch.stack([bands.mean(a * a), bands.mean(a * b), bands.mean(a * b), bands.mean(b * b)], dim=1)
    gram = gram.view(-1, 2, 2).double()
    right = torch.stack([bands.mean(a * e), bands.mean(b * e)], dim=1).double()
    power = gram.diagonal(dim1=1, dim2=2).mean(1)
    ridge = (RIDGE * power + 1e-12)[:, None, None] * torch.eye(2, dtype=torch.float64, device=gram.device)
    gains: Tensor = torch.linalg.solve(gram + ridge, right)
    return gains.T.float()


def chunked(function: Callable[..., Tensor], size: int) -> Callable[..., Tensor]:
    """The same function of tensors, given at most ``size`` rows at a time."""

    def run(*rows: Tensor) -> Tensor:
        return torch.cat([function(*part) for part in zip(*(row.split(size) for row in rows), strict=True)])

    return run
