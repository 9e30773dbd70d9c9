"""Settings of the fast receiver: the walk, and a table over ρ and SNR of everything that depends on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from commin.diffusion.schedule import Schedule, Spacing
from commin.receivers.commin_fusion import Bands
from commin.receivers.commin_table import interpolate_link, resample
from commin.receivers.shown import ShownPoint


class FastPoint(ShownPoint):
    """What is best at one ρ and SNR, beside what is shown there.

    Attributes:
        start: t0 as a share of T.
        weights: w_t from the first step to the last, each in [0, 1]; one number holds for all. Doubled steps need none.
        inn_gains, direct_gains: G and H of calibrated fusion, for each step the gains of all bands; empty for none.
        error: variance of y's error in each band, in units of [−1, 1]; empty for a start with plain white noise.
        noise: σ² of `commin.receivers.posterior` a sample in [−1, 1], of commin-fast alone: how far y is taken to lie
            from c(x). Needed where steps are ``doubled``.
        finished: α, f₀ and g of the picture that the last call of commin-fast makes; empty shows it whole.
    """

    start: float = Field(0.5, gt=0, le=1)
    weights: tuple[float, ...] = Field((0.2,), min_length=1)
    inn_gains: tuple[tuple[float, ...], ...] = ()
    direct_gains: tuple[tuple[float, ...], ...] = ()
    error: tuple[float, ...] = ()
    noise: float = Field(0.0, ge=0)
    finished: tuple[float, float, float] | tuple[()] = ()

    def plain(self) -> Self:
        """The same point with its pictures shown as they are."""
        return super().plain().model_copy(update={"finished": ()})

    @property
    def shape(self) -> tuple[int, ...]:
        """How many numbers of each kind there are: what all points of a table must share."""
        gains = [len(row) for table in (self.inn_gains, self.direct_gains) for row in table]
        return (len(self.weights), len(self.inn_gains), len(self.direct_gains), *gains, len(self.error))


DEFAULTS = tuple(FastPoint(bcr="1/48", snr_db=snr, weights=(w,)) for snr, w in ((-5, 0.15), (0, 0.2), (5, 0.3)))
"""A start half-way up with weights that grow with the SNR; to be replaced by a fitted table."""


@dataclass(frozen=True)
class RowSettings:
    """Settings of R rows, between the points of a table.

    Attributes:
        start: t0 as a share of T, (R,).
        weights: (R, N).
        gains: (R, N, 2, bands), G first, or None.
        error: (R, bands), zero for a plain start.
        noise: (R,).
    """

    start: Tensor
    weights: Tensor
    gains: Tensor | None
    error: Tensor
    noise: Tensor


class FastSettings(BaseModel):
    """The walk and the table.

    Attributes:
        steps: N.
        doubled: of commin-fast alone, how many steps from the first on make two network calls; the others make one.
        end: the last t that is denoised, as a share of T.
        eta: η of DDIM.
        order: 1, or 2 for multistep.
        spacing: of the times, even in t or in log-SNR.
        rings: frequency rings of luma and of chroma, for gains and errors.
        limit: rows at a time.
        points: the table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(12, gt=0)
    doubled: int = Field(0, ge=0)
    end: float = Field(0.0, ge=0, lt=1)
    eta: float = Field(0.5, ge=0, le=1)
    order: Literal[1, 2] = 1
    spacing: Spacing = "uniform"
    rings: int = Field(8, gt=0)
    limit: int = Field(64, gt=0)
    points: tuple[FastPoint, ...] = Field(DEFAULTS, min_length=1)

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len({point.shape for point in self.points}) > 1:
            raise ValueError("points: all need the same numbers of weights, gains and errors")
        if self.doubled and not all(point.noise for point in self.points):
            raise ValueError("points: all need a noise where steps are doubled")
        if len({(point.bcr, point.snr_db) for point in self.points}) < len(self.points):
            raise ValueError("points: the same bcr and snr_db twice")
        first = self.points[0]
        widths = {len(row) for row in (*first.inn_gains, *first.direct_gains)} | ({len(first.error)} - {0})
        if widths - {2 * self.rings} or len(first.inn_gains) != len(first.direct_gains):
            raise ValueError(f"points: gains and errors need {2 * self.rings} bands, and both gains as many steps")
        return self

    @property
    def finished(self) -> tuple[ShownPoint, ...]:
        """What is shown after the last call: the points that say so."""
        return tuple(
            ShownPoint(
                bcr=p.bcr, snr_db=p.snr_db, naturalness=p.finished[0], cutoff=p.finished[1], detail=p.finished[2]
            )
            for p in self.points
            if p.finished
        )

    @property
    def calls(self) -> int:
        """Calls of the network."""
        return self.steps + min(self.doubled, self.steps)

    def bands(self, pictures: Tensor) -> Bands:
        """The bands of pictures (R, 3, H, W)."""
        return Bands(pictures.shape[-2], pictures.shape[-1], self.rings, pictures.device)

    def times(self, schedule: Schedule, start: Tensor) -> Tensor:
        """Falling t of each row, (R, N), from start (R,), a share of T."""
        end = round(self.end * (schedule.steps - 1))
        least = end + self.steps - 1
        firsts = [max(round(share * schedule.steps) - 1, least) for share in start.tolist()]
        return torch.stack([schedule.timesteps(first, end, self.steps, self.spacing) for first in firsts])

    def at(self, bcr: Fraction, snr_db: Tensor) -> RowSettings:
        """Settings of a link at ρ for SNRs (R,) in dB, by `interpolate_link`; steps of the table stretched to N."""
        numbers = [(Fraction(point.bcr), point.snr_db, _flat(point)) for point in self.points]
        rows = interpolate_link(numbers, bcr, snr_db).to(snr_db.device)
        count, first = len(snr_db), self.points[0]
        sizes = [1, 1, len(first.weights), len(first.inn_gains) * 4 * self.rings, len(first.error)]
        start, noise, weights, gains, error = rows.split(sizes, dim=1)
        return RowSettings(
            start.squeeze(1),
            _stretch(weights.unsqueeze(2), self.steps).squeeze(2),
            self._gains(gains) if first.inn_gains else None,
            error if first.error else torch.zeros(count, 2 * self.rings, device=snr_db.device),
            noise.squeeze(1),
        )

    def _gains(self, numbers: Tensor) -> Tensor:
        stretched = _stretch(numbers.view(len(numbers), len(self.points[0].inn_gains), -1), self.steps)
        return stretched.reshape(len(numbers), self.steps, 2, -1)


def _flat(point: FastPoint) -> Tensor:
    pairs: Sequence[Sequence[float]] = [
        (*inn, *direct) for inn, direct in zip(point.inn_gains, point.direct_gains, strict=True)
    ]
    gains = [number for pair in pairs for number in pair]
    return torch.tensor([point.start, point.noise, *point.weights, *gains, *point.error])


def _stretch(values: Tensor, count: int) -> Tensor:
    """(R, P, K) to (R, count, K) along the walk."""
    rows, _, width = values.shape
    return resample(values.transpose(0, 1).flatten(1), count).view(count, rows, width).transpose(0, 1)
