r"""What is shown of a sample: how much of it, from which frequency on, and how strongly.

    s = y + g·H(x − y),   shown = (1 − α)·m + α·s

for a picture x that a receiver drew and the DeepJSCC estimate y. H cuts off what lies below a frequency f₀, where y is
nearer to the truth than x is: 1 − e^{−f²/f₀²} at f = √((u/H)² + (v/W)²), u and v the frequencies of a 2-D DCT. g > 1
makes up for a walk of few steps, which ends too smooth. m is y, or the mean of the samples if there are several, and α
the naturalness. All three are a matter of ρ, SNR and receiver, and whatever the receiver, of the same trade: PSNR
against naturalness.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from commin.inn.split import dct_matrix
from commin.receivers.base import Arrival
from commin.receivers.commin_table import DIGITS, interpolate_link
from commin.units import db_to_linear, parse_bcr

PLAIN = ((0.0, 1.0),)
"""The only choice of f₀ and g where none is asked for: a sample as it is drawn."""


class ShownPoint(BaseModel):
    """What is best at one ρ and SNR.

    Attributes:
        bcr, snr_db: the point.
        naturalness: α in [0, 1].
        cutoff: f₀, 1 for the highest frequency of a row; 0 shows all frequencies.
        detail: g, of what lies above.
        expected_error: a and b of `commin.receivers.expected_error`; empty where they were not fitted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bcr: str
    snr_db: float
    naturalness: float = Field(1.0, ge=0, le=1)
    cutoff: float = Field(0.0, ge=0, le=1)
    detail: float = Field(1.0, ge=0, le=2)
    expected_error: tuple[float, float] | tuple[()] = ()

    @field_validator("bcr")
    @classmethod
    def _ratio(cls, value: str) -> str:
        return str(parse_bcr(value))

    def plain(self) -> Self:
        """The same point with its samples shown as they are drawn."""
        return self.model_copy(update={"naturalness": 1.0, "cutoff": 0.0, "detail": 1.0, "expected_error": ()})


class Shown(Protocol):
    """Settings with such a table."""

    @property
    def points(self) -> Sequence[ShownPoint]:
        """The table."""


def show(pictures: Tensor, arrival: Arrival, points: Sequence[ShownPoint], naturalness: float | None) -> Tensor:
    """What is shown of the samples x (B, S, 3, H, W) in [0, 1], alike.

    Args:
        pictures: x.
        arrival: of y, ρ and SNR.
        points: the table, `interpolate_link` between its points; without one, samples are shown as they are.
        naturalness: α for every link; None for the table's.
    """
    y = arrival.estimate
    if points:
        cutoff, detail = between(points, arrival, lambda point: (point.cutoff, point.detail)).to(y.device).unbind(1)
        pictures = with_detail(y[:, None], pictures, cutoff[:, None], detail[:, None])
    share = naturalness_of(arrival, points, naturalness)
    middle = pictures.mean(1, keepdim=True) if pictures.shape[1] > 1 else y[:, None]
    return torch.lerp(middle.expand_as(pictures), pictures, share[:, None, None, None, None])


def naturalness_of(arrival: Arrival, points: Sequence[ShownPoint], naturalness: float | None) -> Tensor:
    """α of each picture, (B,): the given one, else the table's, else 1."""
    if naturalness is not None:
        return torch.full_like(arrival.snr_db, naturalness)
    if not points:
        return torch.ones_like(arrival.snr_db)
    return between(points, arrival, lambda point: (point.naturalness,)).to(arrival.snr_db).squeeze(1)


def between(points: Sequence[ShownPoint], arrival: Arrival, numbers: Callable[[ShownPoint], Sequence[float]]) -> Tensor:
    """Some numbers of a table's points at ρ and the SNR of each picture, by `interpolate_link`: (B, K)."""
    table = [(Fraction(point.bcr), point.snr_db, torch.tensor(numbers(point))) for point in points]
    return interpolate_link(table, arrival.bcr, arrival.snr_db)


def with_detail(y: Tensor, x: Tensor, cutoff: Tensor, detail: Tensor) -> Tensor:
    """s, clipped to [0, 1]: y and x (..., 3, H, W) in [0, 1], f₀ and g (...) or one for all."""
    return (y + detail[..., None, None, None] * above(x - y, cutoff)).clamp(0, 1)


def above(x: Tensor, cutoff: Tensor) -> Tensor:
    """H(x): x (..., 3, H, W), f₀ (...) or one for all; all of x for f₀ = 0."""
    rows, columns = (dct_matrix(n).to(x) for n in x.shape[-2:])
    height, width = (torch.arange(n, device=x.device) / n for n in x.shape[-2:])
    radius, f0 = torch.hypot(height[:, None], width), cutoff[..., None, None, None]
    below = torch.exp(-((radius / f0.clamp_min(1e-6)) ** 2)) * (f0 > 0)
    return x - rows.T @ (below * (rows @ x @ columns.T)) @ columns


def fit_shown(
    y: Tensor,
    x: Tensor,
    images: Tensor,
    drop_db: float,
    choices: Sequence[tuple[float, float]] = PLAIN,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """α, f₀ and g of the least loss at a price of ``drop_db``, on pictures whose originals are known.

    Args:
        y, x, images: estimates, one sample of each, and originals, (M, 3, H, W) in [0, 1].
        drop_db: PSNR in dB that the blend may cost, at least 0.
        choices: of f₀ and g; α is fitted for each.
        loss: of shown pictures against originals, (M,), LPIPS; needed for more than one choice.

    Returns:
        The fields of `ShownPoint` beside the point.
    """
    found: list[tuple[float, dict[str, float]]] = []
    for cutoff, detail in choices:
        s = with_detail(y, x, y.new_tensor(cutoff), y.new_tensor(detail))
        share = fit_naturalness(y, s, images, drop_db)
        lost = float(loss(torch.lerp(y, s, share), images).mean()) if loss else 0.0
        found.append((lost, {"naturalness": share, "cutoff": cutoff, "detail": detail}))
    return min(found, key=lambda each: each[0])[1]


def fit_naturalness(y: Tensor, s: Tensor, images: Tensor, drop_db: float) -> float:
    r"""The largest α in [0, 1] at which (1 − α)·y + α·s costs at most ``drop_db`` of PSNR against y.

    E‖(1 − α)·y + α·s − x‖² = aα² + 2bα + c, a = E‖s − y‖², b = E(y − x)·(s − y), c = E‖y − x‖²; PSNR of the mean MSE.
    """
    error, move = y - images, s - y
    a, b, c = (float(product.mean()) for product in (move * move, error * move, error * error))
    allowed = c * (db_to_linear(drop_db) - 1)
    alpha = ((b * b + a * allowed) ** 0.5 - b) / max(a, 1e-12)
    return round(min(max(alpha, 0.0), 1.0), DIGITS)
