"""The separate scheme of principal components with the diffusion restorer after it: what a prior alone is worth."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from commin.diffusion.prior import Prior
from commin.errors import UserError
from commin.evaluation.systems.base import Fit, Sent, Way
from commin.evaluation.systems.klt import KltSettings, SeparationKlt
from commin.images import from_uint8
from commin.metrics.lpips import Lpips, try_lpips
from commin.precision import fast_dtype
from commin.randomness import image_generators
from commin.receivers.commin_fast import fast_walk
from commin.receivers.commin_fit import Examples, bayesian_weights
from commin.receivers.commin_rows import Rows
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_table import read_settings, write_settings
from commin.receivers.shown import PLAIN, fit_shown, with_detail
from commin.units import parse_bcr
from commin.zoo.cards import sha256
from commin.zoo.receivers import Parts

KEPT = 0.5
"""Least share of a component's power that must arrive for it to be exchanged, as in `commin.receivers.sing_zero`."""


class RestoredSettings(KltSettings):
    """Settings of the restored scheme beside those of the scheme.

    Attributes:
        steps, eta: of the walk.
        noise: (1−ᾱ)/ᾱ of the start over the mean squared error of the decoded picture, both in [−1, 1]; commin-fast
            has this ratio at k = 256 and 0 dB with a start of 0.35.
        drop_db: PSNR that what is shown of a sample may cost.
        cutoffs, details: what is chosen from by LPIPS, as `commin.receivers.shown`; without its backbone, nothing is.
        restored: valid pictures that weights and what is shown are fitted on.
    """

    steps: int = 8
    eta: float = 0.5
    noise: float = 12.5
    drop_db: float = 0.75
    cutoffs: tuple[float, ...] = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)
    details: tuple[float, ...] = (0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
    restored: int = 32


class SeparationKltRestored:
    r"""`SeparationKlt`'s picture ŷ restored by `commin.receivers.commin_fast`'s walk, without an INN.

    The walk starts from √ᾱ·ŷ + √(1−ᾱ)·n at a level set by the scheme's mean squared error D at its rate,
    (1−ᾱ)/ᾱ = ``noise``·4D. What the code keeps is known here, and takes the place of the INN's coarse part: the
    components of which at least half the power arrives, a_i = E[c_i·ĉ_i]/E[c_i²] ≥ ½,

        x̂ = x0 + w_t·Σ_i (ĉ_i/a_i − v_iᵀ(x0 − μ))·v_i.

    w_t, and what is shown of the sample, are fitted on the valid split as commin-fast's are. A lost picture
    stays μ: the receiver knows that it is lost.
    """

    name = "separation-klt-restored"

    def __init__(self, fit: Fit) -> None:
        chosen = fit.parse(self.name, RestoredSettings)
        own = {key: value for key, value in fit.settings.items() if key in KltSettings.model_fields}
        self.scheme, self.device = SeparationKlt(replace(fit, settings=own)), fit.device
        parts = Parts(fit.model, parse_bcr(fit.point.bcr), self.device)
        weights = parts.path("prior")
        self.prior: Prior = parts.prior(fast_dtype(self.device)).to(self.device)
        if fit.train.size != self.prior.size:
            raise UserError(f"{self.name}: the prior restores {self.prior.size} pixels, not {fit.train.size}")
        self.network_calls = chosen.steps
        self.response = torch.where(self.scheme.response >= KEPT, self.scheme.response, torch.inf)
        lpips = try_lpips()
        key = (sha256(weights), chosen, fit.symbols, fit.point.design_snr_db, lpips and lpips.name)
        path = fit.stored("klt-restored", ".json", *key)
        if not path.is_file():
            images = from_uint8(fit.train.tuning(chosen.restored))
            write_settings(self._fitted(images, chosen, fit.point.bcr, fit.point.design_snr_db, lpips), path)
        self.settings = read_settings(FastSettings, path)

    def send(self, images: Tensor, way: Way) -> Sent:
        """See `commin.evaluation.systems.base.Scheme`."""
        sent = self.scheme.send(images, way)
        assert sent.lost is not None
        restored = self.restore(sent.images, way.generators).to(sent.images.device)
        lost = sent.lost[:, None, None, None].to(restored.device)
        return replace(sent, images=torch.where(lost, sent.images, restored))

    def restore(self, decoded: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Decoded pictures (B, 3, H, W) in [0, 1] restored; row i random by generators[i] alone."""
        y, point = decoded.to(self.device), self.settings.points[0]
        sample = self._samples(y, generators, self.settings)
        detailed = with_detail(y, sample, y.new_tensor(point.cutoff), y.new_tensor(point.detail))
        return torch.lerp(y, detailed, point.naturalness)

    @torch.no_grad()
    def _samples(self, decoded: Tensor, generators: Sequence[torch.Generator], settings: FastSettings) -> Tensor:
        rows = _rows(decoded.to(self.device), generators)
        point, measured = settings.at(parse_bcr(settings.points[0].bcr), rows.snr_db), self._undone(rows.y)

        def correct(step: int, x0: Tensor) -> Tensor:
            return self._exchanged(x0, measured, point.weights[:, step, None, None, None])

        walked = fast_walk(
            self.prior.schedule, self.prior.denoise, settings, point, rows, settings.bands(rows.y), correct
        )
        return ((walked + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def _fitted(
        self, images: Tensor, chosen: RestoredSettings, bcr: str, snr_db: float, lpips: Lpips | None
    ) -> FastSettings:
        schedule = self.prior.schedule
        level = schedule.lowest(chosen.noise * 4 * self.scheme.mse)
        point = FastPoint(bcr=bcr, snr_db=snr_db, start=(level + 1) / schedule.steps, weights=(0.0,))
        settings = FastSettings(steps=chosen.steps, eta=chosen.eta, points=(point,))
        images, decoded = images.to(self.device), self.scheme.decoded(images).to(self.device)
        generators = image_generators(images.cpu(), 0, "receiver")
        examples = Examples(images, decoded, parse_bcr(bcr), snr_db, generators)
        measured = self._undone(decoded * 2 - 1)

        def replaced(x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
            return self._exchanged(x0, measured, weight)

        point = bayesian_weights(self.prior, examples, settings, self._passed, measured, replaced)
        settings = settings.model_copy(update={"points": (point,)})
        samples = self._samples(decoded, image_generators(images.cpu(), 1, "receiver"), settings)
        choices = list(product(chosen.cutoffs, chosen.details)) if lpips else PLAIN
        shown = fit_shown(decoded, samples, images, chosen.drop_db, choices, lpips and lpips.to(self.device))
        return settings.model_copy(update={"points": (point.model_copy(update=shown),)})

    def _exchanged(self, x0: Tensor, measured: Tensor, weight: Tensor) -> Tensor:
        """x̂ of the class's formula, w (B, 1, 1, 1)."""
        return x0 + weight * (measured - self._passed(x0))

    def _passed(self, x: Tensor) -> Tensor:
        """What of pictures (B, 3, H, W) in [−1, 1] lies in the components that arrive, beside the mean picture."""
        return self._through(x, torch.isfinite(self.response).float())

    def _undone(self, y: Tensor) -> Tensor:
        """The same of the original of decoded pictures, as far as it is known: each component over its a_i."""
        return self._through(y, 1 / self.response)

    def _through(self, x: Tensor, gains: Tensor) -> Tensor:
        coefficients = gains * self.scheme.analyse((x.cpu() + 1) / 2)
        return (2 * coefficients @ self.scheme.rows).view_as(x).to(x.device)


def _rows(decoded: Tensor, generators: Sequence[torch.Generator]) -> Rows:
    nothing = torch.empty(len(decoded), 0, dtype=torch.complex64)
    return Rows(decoded * 2 - 1, torch.zeros(len(decoded), device=decoded.device), nothing, generators, lambda: None)
