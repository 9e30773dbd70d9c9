"""Fitting a model's fast receiver on a split of a data set: pictures through its own link, then the table's point."""

import torch

from commin.data.imageset import ImageSet, load_pixels
from commin.errors import UserError
from commin.home import home
from commin.images import from_uint8
from commin.precision import fast_dtype
from commin.randomness import image_generators
from commin.receivers.base import Arrival, Receiver
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_fit import Examples, fit_doubt, fit_fusion, fit_naturalness, fit_start, fit_weights
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_symbol import CommINSymbol
from commin.receivers.sing_zero import SingZero, ZeroSettings, fit_zero
from commin.zoo.cards import find_card
from commin.zoo.load import load
from commin.zoo.receivers import Parts


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
        self, bcr: str, snr_db: float, settings: FastSettings, method: str, whiten: bool, drop_db: float
    ) -> FastPoint:
        """The point of one ρ and SNR.

        Args:
            bcr: ρ.
            snr_db: in dB.
            settings: the walk, and the table whose start, weights and detail hold where nothing is fitted.
            method: ``fusion`` fits gains, ``weights`` Bayesian w_t, ``none`` neither; ``symbol``: for commin-symbol;
                ``zero``: for sing-zero, with settings of its own.
            whiten: whether the start is fitted too.
            drop_db: PSNR in dB that naturalness may cost.
        """
        plain = load(self.model, bcr, device=self.device)
        sent = [plain.transmit(part, snr_db, self.seed) for part in self.images.split(64)]
        estimates = torch.cat([each.estimate for each in sent])
        symbols = torch.cat([each.received.symbols for each in sent])
        examples = Examples(self.images, estimates, plain.bcr, snr_db, self._generators("fit"), symbols)
        snrs = torch.full((len(estimates),), snr_db, device=self.device)
        chosen = settings.at(plain.bcr, snrs[:1])
        point = type(settings.points[0])(
            bcr=bcr, snr_db=snr_db, start=float(chosen.start), weights=tuple(chosen.weights[0].tolist()),
            cutoff=float(chosen.cutoff), detail=float(chosen.detail),
        )  # fmt: skip
        parts = Parts(self.model, plain.bcr, self.device)
        prior = parts.prior(fast_dtype(self.device)).to(self.device)
        inn = None if method in ("symbol", "zero") else parts.inn(fast_dtype(self.device)).to(self.device)
        if whiten:
            point = fit_start(prior.schedule, examples, point, settings)
        alone = settings.model_copy(update={"points": (point,)})
        if method == "fusion":
            point = fit_fusion(prior, inn, examples, alone)
        elif method == "symbol":
            point = fit_doubt(prior, plain.codec, examples, alone)
        elif isinstance(alone, ZeroSettings):
            point = fit_zero(prior, examples, alone)
        elif method == "weights" and inn is not None:
            point = fit_weights(prior, inn, examples, alone)
        fitted = settings.model_copy(update={"points": (point,)})
        whole: Receiver = CommINFast(prior, inn, fitted, 1.0)
        if method == "symbol":
            whole = CommINSymbol(prior, fitted, 1.0)
        elif isinstance(fitted, ZeroSettings):
            whole = SingZero(prior, fitted, 1.0)
        arrival = Arrival(estimates, symbols, snrs, plain.bcr, plain.codec)
        samples = whole.restore(arrival, self._generators("naturalness"), 1)[:, 0]
        return point.model_copy(update={"naturalness": fit_naturalness(examples, samples, drop_db)})

    def _generators(self, purpose: str) -> list[torch.Generator]:
        return image_generators(self.images.cpu(), self.seed, purpose)
