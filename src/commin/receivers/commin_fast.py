r"""CommIN in at most 20 network calls and without a gradient through the U-Net: the default receiver.

    x_{t0} = √ᾱ·y + n, a start from the noised estimate at a level that the SNR and ρ set; then at each of N times
    x̂ = D_y(x_t)  or  x̂ = f⁻¹(c + w_t·(y − c), d) with (c, d) = f(D(x_t)),   a DDIM step with x̂ in the place of x0.

The first are the steps that are ``doubled``: D_y is E[x | x_t, y] by two calls of the prior's D and the INN's c
(`commin.receivers.posterior`). In the others w_t < 1, for y is noisy and full replacement would paint its noise in.
Where the table has fitted gains, calibrated fusion (`commin.receivers.commin_fusion`) takes the place of w_t.

The picture s at the walk's end is a sample of what may have been sent: it looks like a photograph, but what y leaves
open is drawn, not averaged. Where the model has a network for it, one more call takes y and s to a picture nearer to
what was sent (``finish``, `commin.training.one_step`). Of several samples it would make nearly one and the same: they
are left as they were drawn, so that their differences tell what is imagined. How much is shown is a matter of
`commin.receivers.shown`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from commin.diffusion.flow import Flow, one_step
from commin.diffusion.prior import Prior
from commin.diffusion.sampler import Denoiser, normal, walk
from commin.diffusion.schedule import Schedule
from commin.inn.degradation import Degradation
from commin.receivers.base import Arrival
from commin.receivers.commin_fusion import Bands, corrections, fuse
from commin.receivers.commin_rows import Progress, Rows, check_parts, restore_rows
from commin.receivers.commin_settings import FastSettings, RowSettings
from commin.receivers.one_step import OneStep
from commin.receivers.posterior import for_first, posterior_mean
from commin.receivers.shown import show

Correct = Callable[[int, Tensor], Tensor]
"""The number of a step, from 0, and its x0 (R, 3, H, W) in [−1, 1] to x̂."""


@dataclass(frozen=True)
class Ways:
    """What a receiver does on the walk of its own.

    Attributes:
        correct: makes the correction of the rows.
        guide: makes what takes the place of the prior's denoiser and of the correction in the steps that are doubled;
            None for a walk without such steps.
        finish: the rows and the walk's end, (R, 3, H, W) in [−1, 1], to their pictures; None for the walk's end itself.
    """

    correct: Callable[[Rows, RowSettings, Bands], Correct]
    guide: Callable[[Rows, RowSettings, Denoiser], Denoiser] | None = None
    finish: Callable[[Rows, Tensor], Tensor] | None = None


class CommINFast(nn.Module):
    """Few steps from a noised estimate, corrected at x0.

    Attributes:
        loss_name: what the last call was trained for, for the record: systems that saw LPIPS are compared among
            themselves. Empty without one.
    """

    name = "commin-fast"

    def __init__(
        self,
        prior: Prior,
        inn: Degradation | None,
        settings: FastSettings | None = None,
        naturalness: float | None = None,
        progress: Progress | None = None,
        finish: Flow | None = None,
    ) -> None:
        """Put the receiver together.

        Args:
            prior: the denoiser.
            inn: f; None corrects x0 towards y itself, an ablation.
            settings: start, weights and gains over ρ and SNR; None for `commin.receivers.commin_settings.DEFAULTS`.
            naturalness: α for every link; None for the table's.
            progress: told of every network call.
            finish: the network of the last call, which is shown y and the walk's end and makes the picture where one
                alone is asked for; None to do without.
        """
        super().__init__()
        self.prior, self.inn = prior, inn.requires_grad_(False) if inn is not None else None
        self.settings, self.naturalness, self.progress = settings or FastSettings(), naturalness, progress
        self.finish, self.loss_name = finish, "" if finish is None else OneStep.loss_name
        self.network_calls = (self.settings.steps if inn is None else self.settings.calls) + (finish is not None)

    @torch.no_grad()
    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; see `commin.receivers.base.Receiver`.

        Raises:
            UserError: a prior of another picture size, or an INN or a last call of another ρ.
        """
        check_parts(arrival, self.prior, self.inn)

        def correct(rows: Rows, chosen: RowSettings, bands: Bands) -> Correct:
            return correction(self.inn, rows.y, rows.snr_db, chosen, bands)

        guide = partial(guided, self.prior.schedule, self.inn) if self.inn is not None else None
        ways = Ways(correct, guide)
        if self.finish is not None and samples == 1:
            ways = Ways(correct, guide, partial(finished, self.finish, self.finish.number(arrival.bcr)))
        return restore_fast(
            self.prior, self.settings, ways, arrival, generators, samples, self.naturalness, self.progress
        )


def restore_fast(
    prior: Prior,
    settings: FastSettings,
    ways: Ways,
    arrival: Arrival,
    generators: Sequence[torch.Generator],
    samples: int,
    naturalness: float | None,
    progress: Progress | None,
) -> Tensor:
    """Pictures (B, S, 3, H, W) in [0, 1] by `fast_walk` and what ends it, shown by `show`."""
    doubled = 0 if ways.guide is None else settings.doubled
    calls = (settings.steps if ways.guide is None else settings.calls) + (ways.finish is not None)

    def restore(rows: Rows) -> Tensor:
        chosen, bands = settings.at(arrival.bcr, rows.snr_db), settings.bands(rows.y)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            rows.tick()
            return prior.denoise(x, t)

        mean = denoise if ways.guide is None else for_first(doubled, ways.guide(rows, chosen, denoise), denoise)
        corrected = ways.correct(rows, chosen, bands)

        def single(step: int, x0: Tensor) -> Tensor:
            return x0 if step < doubled else corrected(step, x0)

        x = fast_walk(prior.schedule, mean, settings, chosen, rows, bands, single)
        return x if ways.finish is None else ways.finish(rows, x)

    pictures = restore_rows(arrival, generators, samples, settings.limit, calls, restore, progress)
    return show(pictures, arrival, settings.points if ways.finish is None else settings.finished, naturalness)


def fast_walk(
    schedule: Schedule,
    denoise: Callable[[Tensor, Tensor], Tensor],
    settings: FastSettings,
    chosen: RowSettings,
    rows: Rows,
    bands: Bands,
    correct: Correct,
) -> Tensor:
    """From the noised estimate to pictures (R, 3, H, W) in [−1, 1] by N calls of ``denoise``, each x0 corrected."""
    times = settings.times(schedule, chosen.start).to(rows.y.device)

    def draw() -> Tensor:
        return normal(rows.y.shape[1:], rows.generators, rows.y.device)

    x = start(schedule, rows.y, draw(), times[:, 0], chosen.error, bands)
    return walk(schedule, denoise, x, times, draw, settings.eta, settings.order, correct)


def start(schedule: Schedule, y: Tensor, noise: Tensor, t: Tensor, error: Tensor, bands: Bands) -> Tensor:
    """√ᾱ·y + n, all (R, 3, H, W), with n such that n and y's own error together are white of variance 1 − ᾱ.

    ``error`` (R, bands) is the variance e² of y's error in each band; n has variance (1 − ᾱ) − ᾱ·e², or 0 where that is
    negative. All zero makes n plain white noise.
    """
    signal = schedule.signal(t)
    variance = (schedule.noise(t) - signal * bands.spread(error)).clamp_min(0)
    return signal.sqrt() * y + bands.inverse(variance.sqrt() * bands.transform(noise))


def guided(schedule: Schedule, inn: Degradation, rows: Rows, chosen: RowSettings, denoise: Denoiser) -> Denoiser:
    """`posterior_mean` with the INN's c."""

    def coarse(x: Tensor) -> Tensor:
        return inn.coarse((x + 1) / 2, rows.snr_db) * 2 - 1

    return posterior_mean(denoise, schedule, coarse, rows.y, chosen.noise)


def finished(network: Flow, number: int, rows: Rows, x: Tensor) -> Tensor:
    """The last call: y and the walk's end x (R, 3, H, W) in [−1, 1] to a picture of that range, ρ of this number."""
    rows.tick()
    y, sample = ((picture.clamp(-1, 1) + 1) / 2 for picture in (rows.y, x))
    bcr = torch.full_like(rows.snr_db, number, dtype=torch.int64)
    return one_step(network, y, bcr, rows.snr_db, sample) * 2 - 1


def correction(inn: Degradation | None, y: Tensor, snr_db: Tensor, chosen: RowSettings, bands: Bands) -> Correct:
    """The map from a step's number and x0 to x̂: calibrated fusion where there are gains, else replacement by w_t."""

    def fusion(step: int, x0: Tensor) -> Tensor:
        assert chosen.gains is not None
        return fuse(bands, x0, *corrections(inn, x0, y, snr_db), chosen.gains[:, step])

    def replacement(step: int, x0: Tensor) -> Tensor:
        weight = chosen.weights[:, step, None, None, None]
        return replace(inn, x0, y, weight, snr_db)

    return replacement if chosen.gains is None else fusion


def replace(inn: Degradation | None, x0: Tensor, y: Tensor, weight: Tensor, snr_db: Tensor) -> Tensor:
    """f⁻¹(c + w·(y − c), d) in [−1, 1], or x0 + w·(y − x0) without an INN; pictures (R, 3, H, W), w (R, 1, 1, 1)."""
    if inn is None:
        return x0 + weight * (y - x0)
    return inn.replace((x0 + 1) / 2, (y + 1) / 2, weight, snr_db) * 2 - 1
