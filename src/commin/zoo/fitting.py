"""Fitting a receiver's settings on a split of a data set: pictures through the model's link, then the table's point."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from commin.codec.deepjscc import DeepJSCC
from commin.data.imageset import ImageSet, load_pixels
from commin.errors import UserError
from commin.home import home
from commin.images import from_uint8
from commin.metrics.lpips import load_lpips
from commin.precision import fast_dtype
from commin.randomness import image_generators
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_fit import Examples, fit_doubt, fit_fusion, fit_start, fit_weights
from commin.receivers.commin_fusion import chunked
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.diffcom import DiffComSettings, HiFiSettings
from commin.receivers.expected_error import fit_expected_error
from commin.receivers.guided import GuidedPoint, GuidedSettings
from commin.receivers.pmrf import PmrfSettings
from commin.receivers.shown import PLAIN, ShownPoint, fit_shown, show
from commin.receivers.sing_inn import SingINNSettings
from commin.receivers.sing_zero import ZeroSettings, fit_zero
from commin.zoo.cards import find_card
from commin.zoo.load import load
from commin.zoo.receivers import Parts, make_receiver

Settings = FastSettings | SingINNSettings | DiffComSettings | PmrfSettings

FORMS: Mapping[str, type[Settings]] = {
    "commin-fast": FastSettings,
    "commin-symbol": FastSettings,
    "sing-zero": ZeroSettings,
    "sing-inn": SingINNSettings,
    "diffcom": DiffComSettings,
    "diffcom-hifi": HiFiSettings,
    "pmrf": PmrfSettings,
    "pmrf-inn": PmrfSettings,
}
"""What the settings of each receiver are that something can be fitted of."""


def point_at(settings: Settings, bcr: Fraction, snr_db: float) -> ShownPoint:
    """The point of ρ and SNR as the table has it, or between its points; samples shown as they are drawn."""
    for point in settings.points:
        if (Fraction(point.bcr), point.snr_db) == (bcr, snr_db):
            return point.plain()
    at: dict[str, Any] = {"bcr": str(bcr), "snr_db": snr_db}
    if isinstance(settings, GuidedSettings):
        zeta, start = settings.at(bcr, torch.tensor([snr_db]))
        return GuidedPoint(**at, zeta=float(zeta), start=float(start))
    if isinstance(settings, FastSettings):
        chosen = settings.at(bcr, torch.tensor([snr_db]))
        form = type(settings.points[0])
        return form(
            **at,
            start=float(chosen.start),
            weights=tuple(chosen.weights[0].tolist()),
            noise=float(chosen.noise[0]),
        )
    return ShownPoint(**at)


class Fitter:
    """Pictures of a split, and the points that fit them.

    Args:
        model: a model of the zoo with codec, prior and INNs.
        images: the data set.
        split, limit: its pictures to fit on.
        seed: of all noise.
        device: where to run.
    """

    def __init__(self, model: str, images: ImageSet, split: str, limit: int, seed: int, device: torch.device) -> None:
        card = find_card(model, "codec")
        if card is None or card.image_size is None:
            raise UserError(f"--model {model}: no such model of the zoo with an image size")
        entries = images.split(split, limit)
        pixels = load_pixels(images, entries, card.image_size, card.crop or "centre", home() / "cache")
        self.model, self.seed, self.device = model, seed, device
        self.images = from_uint8(pixels).to(device)

    @torch.no_grad()
    def fit(
        self,
        receiver: str,
        bcr: str,
        snr_db: float,
        settings: Settings,
        method: str = "weights",
        whiten: bool = False,
        drop_db: float = 0.9,
        choices: Sequence[tuple[float, float]] = PLAIN,
        samples: int = 1,
    ) -> ShownPoint:
        """The point of one ρ and SNR.

        Args:
            receiver: one of `FORMS`.
            bcr: ρ.
            snr_db: in dB.
            settings: of its form; their table holds where nothing is fitted.
            method: ``weights`` fits what weights the receiver has, ``fusion`` the gains of commin-fast, ``none``
                neither; what is shown is always fitted.
            whiten: whether the start of commin-fast is fitted too.
            drop_db: PSNR in dB that what is shown may cost.
            choices: f₀ and g to choose from, by LPIPS if there are several.
            samples: of each picture; with several, the expected error of their mean is fitted too.

        Raises:
            UserError: several choices without LPIPS' backbone, or weights that the model lacks.
        """
        plain = load(self.model, bcr, device=self.device)
        sent = [plain.transmit(part, snr_db, self.seed) for part in self.images.split(64)]
        estimates = torch.cat([each.estimate for each in sent])
        symbols = torch.cat([each.received.symbols for each in sent])
        examples = Examples(self.images, estimates, plain.bcr, snr_db, self._generators("fit"), symbols)
        parts = Parts(self.model, plain.bcr, self.device, 1.0)
        point = point_at(settings, plain.bcr, snr_db)
        if isinstance(point, FastPoint) and isinstance(settings, FastSettings):
            point = self._walk(receiver, parts, plain.codec, examples, settings, point, method, whiten)
        fitted = settings.model_copy(update={"points": (point,)})
        whole = make_receiver(receiver, replace(parts, given=fitted))
        if isinstance(whole, torch.nn.Module):
            whole.to(self.device)
        snrs = torch.full((len(estimates),), snr_db, device=self.device)
        arrival = Arrival(estimates, symbols, snrs, plain.bcr, plain.codec)
        finishes = isinstance(whole, CommINFast) and whole.finish is not None
        drawn = whole.restore(arrival, self._generators("naturalness"), max(samples, 2) if finishes else samples)
        loss = chunked(load_lpips().to(self.device), 64) if len(choices) > 1 else None
        point = point.model_copy(update=fit_shown(estimates, drawn[:, 0], self.images, drop_db, choices, loss))
        if finishes:
            (finished,) = whole.restore(arrival, self._generators("naturalness"), 1).unbind(1)
            shown = fit_shown(estimates, finished, self.images, drop_db, choices, loss)
            point = point.model_copy(update={"finished": tuple(shown.values())})
        if samples == 1:
            return point
        law = fit_expected_error(show(drawn, arrival, (point,), 1.0), self.images)
        return point.model_copy(update={"expected_error": law})

    def _walk(
        self,
        receiver: str,
        parts: Parts,
        codec: DeepJSCC,
        examples: Examples,
        settings: FastSettings,
        point: FastPoint,
        method: str,
        whiten: bool,
    ) -> FastPoint:
        prior = parts.prior(fast_dtype(self.device)).to(self.device)
        inn = parts.inn(fast_dtype(self.device)).to(self.device) if receiver == "commin-fast" else None
        if whiten:
            point = fit_start(prior.schedule, examples, point, settings)
        alone = settings.model_copy(update={"points": (point,)})
        if method == "none":
            return point
        if method == "fusion":
            return fit_fusion(prior, inn, examples, alone)
        if isinstance(alone, ZeroSettings):
            return fit_zero(prior, examples, alone)
        return fit_doubt(prior, codec, examples, alone) if inn is None else fit_weights(prior, inn, examples, alone)

    def _generators(self, purpose: str) -> list[torch.Generator]:
        return image_generators(self.images.cpu(), self.seed, purpose)
