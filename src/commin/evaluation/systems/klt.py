"""The strongest simple separate scheme: principal components, one quantiser step, entropy code, a code of k symbols."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from commin.errors import UserError
from commin.evaluation.lines import leading_components, project
from commin.evaluation.separation.coefficients import LEVELS, SPREADS, Coder, Quantisers
from commin.evaluation.separation.rates import normal_bits, normal_error
from commin.evaluation.systems.base import Fit, Sent, Settings, TrainSplit, Way, awgn_alone, kept_tensors
from commin.evaluation.systems.separation import random_codeword
from commin.images import from_uint8

ERRORS = (0.2, 0.1, 0.03, 0.01, 0.003)
"""Failure probabilities that are tried."""


class KltSettings(Settings):
    """``components``: how many; ``pool``: train pictures that levels are counted on; ``tuning``: valid ones for ε."""

    components: int = 1024
    pool: int = 5000
    tuning: int = 200


class SeparationKlt:
    r"""x̂ = μ + Σ_i ĉ_i·v_i, c_i = v_iᵀ(x − μ) in ⌊k·C − √(k·V)·Q⁻¹(ε)⌋ bits, which fail together with probability ε.

    μ and v of the train split; quantiser and entropy code of `commin.evaluation.separation.coefficients`, whose bits
    are ideal code lengths, nothing else is sent. C and V are capacity and dispersion at the design SNR
    (`commin.evaluation.separation.rates.normal_bits`); at another true SNR the code fails with `normal_error`. ε and
    the number of steps are those of least mean error on the valid split. A failure shows μ, the mean face. Sources: as
    named there; Huang and Schultheiss, Block quantization of correlated Gaussian random variables, IEEE Trans. CS
    11(3), 1963.

    Attributes:
        mse: mean squared error per sample of pictures that arrive, on the valid split: D at this rate.
        response: E[c_i·ĉ_i]/E[c_i²] of each component there, (components,).
    """

    name = "separation-klt"
    network_calls = 0

    def __init__(self, fit: Fit) -> None:
        settings = fit.parse(self.name, KltSettings)
        awgn_alone(self.name, fit)
        self.symbols = fit.symbols
        path = fit.stored("klt", ".safetensors", settings.components)
        self.mean, self.rows = _basis(fit.train, path, settings.components)
        images = from_uint8(fit.train.tuning(settings.tuning))
        tuning = self.analyse(images)
        snr_db = fit.point.design_snr_db
        kept = fit.stored("klt-coder", ".safetensors", settings, fit.symbols, snr_db, ERRORS, SPREADS, LEVELS)
        found = kept_tensors(kept, lambda: self._tuned(_quantisers(fit.train, path, settings), tuning, snr_db))
        if not found:
            raise UserError(f"{self.name}: {fit.symbols} symbols at {snr_db:g} dB carry nothing")
        self.error, self.bits = float(found["error"]), int(found["budget"])
        self.coder = Coder.of_tensors(found)
        arrived = self.coder.choose(tuning, self.bits)[2]
        self.response = (tuning * arrived).sum(0) / tuning.square().sum(0).clamp_min(1e-20)
        self.mse = float((self.synthesise(arrived).view_as(images) - images).square().mean())

    def _tuned(self, quantisers: Quantisers, tuning: Tensor, snr_db: float) -> dict[str, Tensor]:
        """ε, the bits and their coder of least mean error on the valid split at a design SNR; empty if none arrive."""
        energy, least, best = tuning.square().sum(1).mean(), torch.inf, {}
        for error in ERRORS:
            budget = int(normal_bits(self.symbols, snr_db, error))
            if budget < 2:
                continue
            for spread in SPREADS:
                coder = Coder.fit(quantisers, budget, spread)
                distance = (tuning - coder.choose(tuning, budget)[2]).square().sum(1).mean()
                expected = float((1 - error) * distance + error * energy)
                if expected < least:
                    least, chosen = expected, {"error": torch.tensor(error).double(), "budget": torch.tensor(budget)}
                    best = chosen | coder.tensors()
        return best

    def analyse(self, images: Tensor) -> Tensor:
        """c: pictures (B, 3, H, W) in [0, 1] to (B, components)."""
        return project(images, self.mean, self.rows)

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """x̂ of coefficients (B, components): (B, n) in [0, 1]."""
        return (self.mean + coefficients @ self.rows).clamp(0, 1)

    def decoded(self, images: Tensor) -> Tensor:
        """x̂ of pictures (B, 3, H, W) in [0, 1] when nothing fails."""
        found = self.coder.choose(self.analyse(images.cpu()), self.bits)[2]
        return self.synthesise(found).view_as(images)

    def send(self, images: Tensor, way: Way) -> Sent:
        """See `commin.evaluation.systems.base.Scheme`; what is sent is a Gaussian codeword."""
        measured = random_codeword(self.symbols, way)
        which, bits, decoded = self.coder.choose(self.analyse(images.cpu()), self.bits)
        chance = normal_error(self.symbols, way.point.snr_db, self.bits)
        fails = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in way.generators]) < chance
        lost = fails | (which < 0)
        decoded = torch.where(lost[:, None], torch.zeros_like(decoded), decoded)
        notes = tuple(f"{used:.0f} of {self.bits} bits, ε = {self.error:g}" for used in bits)
        return Sent(self.synthesise(decoded).view_as(images), measured, lost, notes)


@lru_cache(maxsize=1)
def _basis(train: TrainSplit, path: Path, count: int) -> tuple[Tensor, Tensor]:
    """Mean (n,) and the leading eigenvectors as rows, kept at ``path``: the same at every point."""

    def make() -> dict[str, Tensor]:
        mean, _, vectors = leading_components(train.pixels(), count)
        return {"mean": mean, "vectors": vectors.T.contiguous()}

    found = kept_tensors(path, make)
    return found["mean"], found["vectors"]


@lru_cache(maxsize=1)
def _quantisers(train: TrainSplit, path: Path, settings: KltSettings) -> Quantisers:
    """Those of the first train pictures' coefficients."""
    return Quantisers(project(from_uint8(train.pool(settings.pool)), *_basis(train, path, settings.components)))
