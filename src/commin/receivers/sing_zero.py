r"""SING-Zero: the link as a linear map A, and what A keeps of x0 exchanged for what arrived.

    x̂ = w_t·A†y + (I − w_t·A†A)·x0,  at each step of `commin.receivers.commin_fast`'s walk in the place of its INN

A is a filter: one gain a_b for each band of `commin.receivers.commin_fusion.Bands`, the least-squares fit of y to a_b·x
over pictures whose transmission is known. Convolutional networks at both ends and a white channel treat all places and
directions alike, so that a filter is the linear map that they can be close to. SING itself takes average pooling ×2
whatever the link; a table without a fit stands for that, with a_b = 1 for the lower half of the frequencies.

A† = 1/a_b where a_b ≥ ½, and 0 elsewhere, A's null-space: y is a conditional mean, so of x's power P in a band it holds
a_b²·P of picture and a_b·(1 − a_b)·P of noise, and below ½ the noise is more. w_t = r²/(r² + σ²) as for commin-fast, r
and σ measured on A†A·x: DDNM's exact replacement, w = 1, is for measurements without noise. Sources: SING
(arXiv:2503.12484), section on SING-Zero; DDNM (arXiv:2212.00490), eq. (13).
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from commin.diffusion.prior import Prior
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import Correct, Ways, restore_fast
from commin.receivers.commin_fit import Examples, bayesian_weights
from commin.receivers.commin_fusion import Bands
from commin.receivers.commin_rows import Progress, Rows, check_parts
from commin.receivers.commin_settings import FastPoint, FastSettings, RowSettings
from commin.receivers.commin_table import DIGITS, interpolate_link

KEPT = 0.5
"""Least a_b that A† divides by."""


class ZeroPoint(FastPoint):
    """A point of the fast receiver's table, with ``response``: a_b of every band there; empty for `half`."""

    response: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """See `FastPoint.shape`."""
        return (*super().shape, len(self.response))


DEFAULTS = tuple(ZeroPoint(bcr="1/48", snr_db=snr, weights=(w,)) for snr, w in ((-5, 0.15), (0, 0.2), (5, 0.3)))


class ZeroSettings(FastSettings):
    """The walk and the table of SING-Zero."""

    points: tuple[ZeroPoint, ...] = Field(DEFAULTS, min_length=1)

    @model_validator(mode="after")
    def _bands(self) -> Self:
        if len(self.points[0].response) not in (0, 2 * self.rings):
            raise ValueError(f"points: response needs {2 * self.rings} bands")
        return self

    def response(self, bcr: Fraction, snr_db: Tensor) -> Tensor:
        """a_b of rows at SNRs (R,) in dB, (R, bands)."""
        half = _half(self.rings)
        numbers = [(Fraction(p.bcr), p.snr_db, torch.tensor(p.response or half)) for p in self.points]
        return interpolate_link(numbers, bcr, snr_db).to(snr_db.device)


def _half(rings: int) -> tuple[float, ...]:
    """a_b of a filter that keeps the rings within half of the frequencies of a row."""
    return tuple(float(math.sqrt(2) * ((ring + 1) / rings) ** 2 <= 0.5) for ring in range(rings)) * 2


class SingZero(nn.Module):
    """Few steps from a noised estimate, what the linear map keeps exchanged at x0."""

    name = "sing-zero"

    def __init__(
        self, prior: Prior, settings: ZeroSettings | None = None, naturalness: float | None = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.prior, self.settings = prior, settings or ZeroSettings()
        self.naturalness, self.progress = naturalness, progress
        self.network_calls = self.settings.steps

    @torch.no_grad()
    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; see `commin.receivers.base.Receiver`.

        Raises:
            UserError: pictures smaller than the prior's.
        """
        check_parts(arrival, self.prior, None)

        def correct(rows: Rows, chosen: RowSettings, bands: Bands) -> Correct:
            response = self.settings.response(arrival.bcr, rows.snr_db)
            return lambda step, x0: exchange(bands, response, x0, rows.y, chosen.weights[:, step, None, None, None])

        return restore_fast(
            self.prior, self.settings, Ways(correct), arrival, generators, samples, self.naturalness, self.progress
        )


def exchange(bands: Bands, response: Tensor, x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """x0 + w·A†(y − A·x0): pictures (R, 3, H, W) in [−1, 1], responses (R, bands), w (R, 1, 1, 1)."""
    return x0 + weight * (undone(bands, response, y) - passed(bands, response, x0))


def undone(bands: Bands, response: Tensor, y: Tensor) -> Tensor:
    """A†y, arguments as `exchange`."""
    gains = torch.where(response >= KEPT, 1 / response.clamp_min(KEPT), 0)
    return bands.inverse(bands.spread(gains) * bands.transform(y))


def passed(bands: Bands, response: Tensor, x: Tensor) -> Tensor:
    """A†A·x, arguments as `exchange`."""
    return bands.inverse(bands.spread((response >= KEPT).float()) * bands.transform(x))


@torch.no_grad()
def fit_zero(prior: Prior, examples: Examples, settings: ZeroSettings) -> ZeroPoint:
    """The point of one ρ and SNR: a_b, and w_t in the loop from the first step to the last."""
    bands, x, y = settings.bands(examples.images), examples.images * 2 - 1, examples.estimates * 2 - 1
    power, common = (bands.mean(bands.transform(part) * bands.transform(x)) for part in (x, y))
    response = [round(gain, DIGITS) for gain in (common / power.clamp_min(1e-12)).clamp(0, 1).tolist()]
    each = torch.tensor(response, device=x.device).expand(len(x), -1)
    point = bayesian_weights(
        prior, examples, settings, lambda x: passed(bands, each, x), undone(bands, each, y),
        lambda x0, y, weight: exchange(bands, each, x0, y, weight),
    )  # fmt: skip
    return ZeroPoint(**{**point.model_dump(), "response": tuple(response)})
