r"""Gradient guidance: a walk that is pulled, at every step, towards what was received.

    x_s = step(x_t, x0|t) − ζ·∇_{x_t} distance(x0|t)

The distance is a receiver's own; the gradient goes through it and the U-Net. Source: DPS (arXiv:2209.14687).
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from commin.diffusion.guidance import Distance, distance_gradient
from commin.diffusion.prior import Prior
from commin.diffusion.sampler import ddim_step, normal
from commin.diffusion.schedule import CLEAN
from commin.receivers.base import Arrival
from commin.receivers.commin_resume import Resume
from commin.receivers.commin_rows import Progress, Rows, restore_rows
from commin.receivers.commin_table import interpolate_link
from commin.receivers.shown import ShownPoint, show

PAPER_SIZE = 256
"""Height and width in pixels that ζ is given for."""

Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""x_t, x0, t and s to x'_s; may draw from the rows' generators."""


class GuidedPoint(ShownPoint):
    """What is best at one ρ and SNR, beside what is shown there.

    Attributes:
        zeta: ζ at 256×256 pixels.
        start: t0 as a share of T; 1 starts from noise alone.
    """

    zeta: float = Field(ge=0)
    start: float = Field(gt=0, le=1)


class GuidedSettings(BaseModel):
    """A guided walk, and its table over ρ and SNR.

    Attributes:
        steps: network calls, or as many as the prior has levels.
        eta: η of DDIM; 1 is the ancestral step of CommIN's (10), respaced.
        limit: rows at a time.
        points: the table; linear in dB and log ρ between its points, constant beyond.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(100, gt=0)
    eta: float = Field(1.0, ge=0, le=1)
    limit: int = Field(32, gt=0)
    points: tuple[GuidedPoint, ...] = Field(min_length=1)

    def at(self, bcr: Fraction, snr_db: Tensor) -> tuple[Tensor, Tensor]:
        """ζ and start of rows at SNRs (R,) in dB, both (R,)."""
        numbers = [(Fraction(p.bcr), p.snr_db, torch.tensor([p.zeta, p.start])) for p in self.points]
        found = interpolate_link(numbers, bcr, snr_db).to(snr_db.device)
        return found[:, 0], found[:, 1]


def guided_restore(
    prior: Prior,
    settings: GuidedSettings,
    distance: Callable[[Rows], Distance],
    arrival: Arrival,
    generators: Sequence[torch.Generator],
    samples: int,
    naturalness: float | None,
    progress: Progress | None,
) -> Tensor:
    """Pictures (B, S, 3, H, W) in [0, 1] by `noised_walk`, pulled by ``distance`` of the rows, shown by `show`."""
    calls = min(settings.steps, prior.schedule.steps)

    def restore(rows: Rows) -> Tensor:
        zeta, start = settings.at(arrival.bcr, rows.snr_db)
        return noised_walk(prior, distance(rows), rows, start, calls, settings.eta, at_size(zeta, rows.y))

    pictures = restore_rows(arrival, generators, samples, settings.limit, calls, restore, progress)
    return show(pictures, arrival, settings.points, naturalness)


def noised_walk(
    prior: Prior, distance: Distance, rows: Rows, start: Tensor, calls: int, eta: float, size: Tensor
) -> Tensor:
    """`gradient_walk` by respaced DDIM steps from √ᾱ·y + √(1−ᾱ)·n.

    Args:
        prior, distance, rows, size: as for `gradient_walk`.
        start: t0 of each row as a share of T, (R,); never below the ``calls``-th level.
        calls: of the network, at most T.
        eta: η of DDIM.
    """
    schedule = prior.schedule

    def draw() -> Tensor:
        return normal(rows.y.shape[1:], rows.generators, rows.y.device)

    def step(x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return ddim_step(schedule, x, x0, t, s, draw(), eta)

    levels = [max(round(share * schedule.steps), calls) - 1 for share in start.tolist()]
    times = torch.stack([schedule.timesteps(level, 0, calls) for level in levels]).to(rows.y.device)
    return gradient_walk(prior, distance, rows, schedule.add_noise(rows.y, draw(), times[:, 0]), times, step, size)


def at_size(zeta: Tensor, pictures: Tensor) -> Tensor:
    """ζ at 256×256 pixels, (R,), as it is for pictures (R, 3, H, W): times √(H·W)/256, (R, 1, 1, 1).

    A step moves x by about ζ in L2 whatever the size of the picture.
    """
    height, width = pictures.shape[-2:]
    return zeta[:, None, None, None] * math.sqrt(height * width) / PAPER_SIZE


def gradient_walk(
    prior: Prior,
    distance: Distance,
    rows: Rows,
    x: Tensor,
    times: Tensor,
    step: Step,
    size: Tensor,
    resume: Resume | None = None,
) -> Tensor:
    """From the first times down to the pictures.

    Args:
        prior: the denoiser.
        distance: x0 in [−1, 1] to how far it is from what was received, (R,).
        rows: whose ``tick`` is called after each call of the network.
        x: where to start, (R, 3, H, W).
        times: falling t, (N,) for every row or (R, N) for each its own.
        step: the step before guidance.
        size: ζ, (R, 1, 1, 1).
        resume: keeps the state on disk.

    Returns:
        The pictures, (R, 3, H, W) in [−1, 1] but for what the last step adds.
    """
    times = times.to(x.device).expand(len(x), -1)
    following = torch.nn.functional.pad(times[:, 1:], (0, 1), value=CLEAN)
    first, x = resume.load(x) if resume else (0, x)
    for _ in range(first):
        rows.tick()
    for index in range(first, times.shape[1]):
        t, s = times[:, index], following[:, index]
        x0, gradient, _ = distance_gradient(prior.denoise, distance, x, t)
        x = step(x, x0, t, s) - size * gradient
        rows.tick()
        if resume:
            resume.save(index + 1, x)
    if resume:
        resume.forget()
    return x
