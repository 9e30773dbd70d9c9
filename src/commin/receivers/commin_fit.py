"""Fitting the fast receiver's table on pictures whose transmission is known: weights, gains and the start.

All pictures walk together, step by step; at each step the numbers are solved for, applied, and the walk goes on. Each
step makes one call there, whether or not it is ``doubled`` in use.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from commin.codec.deepjscc import DeepJSCC
from commin.diffusion.prior import Prior
from commin.diffusion.schedule import Schedule
from commin.inn.degradation import Degradation, misfit
from commin.receivers.commin_fast import fast_walk, replace
from commin.receivers.commin_fusion import chunked, corrections, fuse, solve_gains
from commin.receivers.commin_rows import Progress, Rows
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_symbol import encoder_of, towards_symbols
from commin.receivers.commin_table import DIGITS


@dataclass(frozen=True)
class Examples:
    """Pictures and what a link made of them.

    Attributes:
        images: x, (M, 3, H, W) in [0, 1], held out from the training of codec, INN and prior.
        estimates: y for each, (M, 3, H, W) in [0, 1].
        bcr: ρ of the link.
        snr_db: its SNR in dB, one for all.
        generators: M of them, as for `CommINFast.restore`.
        symbols: what arrived, complex64 (M, k); needed by `fit_doubt` alone.
    """

    images: Tensor
    estimates: Tensor
    bcr: Fraction
    snr_db: float
    generators: Sequence[torch.Generator]
    symbols: Tensor | None = None

    def rows(self) -> Rows:
        """Them as rows of one restoration."""
        snrs = torch.full((len(self.images),), self.snr_db, device=self.images.device)
        symbols = torch.empty(len(self.images), 0) if self.symbols is None else self.symbols
        return Rows(self.estimates * 2 - 1, snrs, symbols, self.generators, lambda: None)


@torch.no_grad()
def fit_fusion(
    prior: Prior, inn: Degradation | None, examples: Examples, settings: FastSettings, progress: Progress | None = None
) -> FastPoint:
    """G and H of every step and band at one ρ and SNR, fitted greedily from the first step to the last.

    Args:
        prior: the denoiser.
        inn: f; None for fusion with y alone.
        examples: what to fit on.
        settings: the walk; its table gives the start at this point.
        progress: told of each step and of their number.

    Returns:
        The point of the table, with its gains.
    """
    x, rows, bands = examples.images * 2 - 1, examples.rows(), settings.bands(examples.images)
    fitted: list[tuple[tuple[float, ...], tuple[float, ...]]] = []

    def correct(step: int, x0: Tensor) -> Tensor:
        through_inn = chunked(lambda *part: corrections(inn, *part)[0], settings.limit)(x0, rows.y, rows.snr_db)
        direct = rows.y - x0
        gains = _rounded(solve_gains(bands, x - x0, through_inn, direct))
        fitted.append((tuple(gains[0].tolist()), tuple(gains[1].tolist())))
        if progress is not None:
            progress(step + 1, settings.steps)
        return fuse(bands, x0, through_inn, direct, gains.expand(len(x0), -1, -1))

    point = _walk(prior, examples, rows, settings, correct)
    return point.model_copy(
        update={"inn_gains": tuple(g for g, _ in fitted), "direct_gains": tuple(h for _, h in fitted)}
    )


@torch.no_grad()
def fit_weights(prior: Prior, inn: Degradation, examples: Examples, settings: FastSettings) -> FastPoint:
    """`bayesian_weights` of the INN's coarse part c; arguments as `fit_fusion`."""
    rows = examples.rows()

    def coarse(x: Tensor) -> Tensor:
        part = chunked(lambda images, snrs: inn(images, snrs)[0], settings.limit)
        return part((x + 1) / 2, rows.snr_db) * 2 - 1

    def replaced(x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return chunked(lambda *part: replace(inn, *part), settings.limit)(x0, y, weight, rows.snr_db)

    return bayesian_weights(prior, examples, settings, coarse, rows.y, replaced)


@torch.no_grad()
def bayesian_weights(
    prior: Prior,
    examples: Examples,
    settings: FastSettings,
    coarse: Callable[[Tensor], Tensor],
    measured: Tensor,
    replaced: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> FastPoint:
    """w_t = r_t²/(r_t² + σ²), r_t² = E‖c(x0|t) − c(x)‖², σ² = E‖ŷ − c(x)‖², in the loop, first step to last.

    Args:
        prior: the denoiser.
        examples: what to fit on.
        settings: the walk; its table gives the start at this point.
        coarse: c, what the link keeps of pictures (M, 3, H, W) in [−1, 1].
        measured: ŷ, what arrived of it, (M, 3, H, W) in [−1, 1].
        replaced: x0, y and w (M, 1, 1, 1) to x̂.
    """
    rows = examples.rows()
    true = coarse(examples.images * 2 - 1)
    noise = float(misfit(measured, true).mean())
    weights: list[float] = []

    def correct(step: int, x0: Tensor) -> Tensor:
        doubt = float(misfit(coarse(x0), true).mean())
        weights.append(round(doubt / max(doubt + noise, 1e-12), DIGITS))
        return replaced(x0, rows.y, torch.full((len(x0), 1, 1, 1), weights[-1], device=x0.device))

    point = _walk(prior, examples, rows, settings, correct)
    return point.model_copy(update={"weights": tuple(weights)})


@torch.no_grad()
def fit_doubt(prior: Prior, codec: DeepJSCC, examples: Examples, settings: FastSettings) -> FastPoint:
    """r_t² = E‖x − x0|t‖² per sample in [−1, 1] as weights of `CommINSymbol`, from the first step to the last."""
    x, rows = examples.images * 2 - 1, examples.rows()
    doubts: list[float] = []

    def correct(step: int, x0: Tensor) -> Tensor:
        doubts.append(round(float((x - x0).square().mean()), 6))

        def part(x0: Tensor, symbols: Tensor, snr_db: Tensor) -> Tensor:
            encode = encoder_of(codec, examples.bcr, snr_db)
            return towards_symbols(encode, x0, symbols, snr_db, torch.full_like(snr_db, doubts[-1]))

        return chunked(part, settings.limit)(x0, rows.symbols, rows.snr_db)

    point = _walk(prior, examples, rows, settings, correct)
    return point.model_copy(update={"weights": tuple(doubts)})


def fit_start(schedule: Schedule, examples: Examples, point: FastPoint, settings: FastSettings) -> FastPoint:
    """The point with y's error in each band, and the lowest t0 at which start noise that whitens it exists."""
    bands = settings.bands(examples.images)
    error = _rounded(bands.mean(bands.transform(2 * (examples.estimates - examples.images)).square()))
    t0 = schedule.lowest(float(error.max()))
    return point.model_copy(update={"error": tuple(error.tolist()), "start": (t0 + 1) / schedule.steps})


def _walk(
    prior: Prior, examples: Examples, rows: Rows, settings: FastSettings, correct: Callable[[int, Tensor], Tensor]
) -> FastPoint:
    """All pictures by the walk of the settings with this correction; the table's point here, without gains."""
    chosen, bands = settings.at(examples.bcr, rows.snr_db), settings.bands(rows.y)
    fast_walk(prior.schedule, chunked(prior.denoise, settings.limit), settings, chosen, rows, bands, correct)
    return FastPoint(
        bcr=str(examples.bcr),
        snr_db=examples.snr_db,
        start=float(chosen.start[0]),
        weights=tuple(chosen.weights[0].tolist()),
        error=tuple(chosen.error[0].tolist()) if settings.points[0].error else (),
        noise=float(chosen.noise[0]),
    )


def _rounded(values: Tensor) -> Tensor:
    return torch.round(values, decimals=DIGITS)
