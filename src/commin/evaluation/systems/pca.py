"""Uncoded linear transmission of principal components: the analogue system that a trained codec must beat."""

import torch
from torch import Tensor

from commin.channels.base import Csi, Received
from commin.channels.equalizer import equalize
from commin.evaluation.lines import pca_powers, principal_components, project
from commin.evaluation.systems.base import Fit, Sent, Settings, Way, kept_tensors
from commin.images import from_uint8
from commin.units import db_to_linear, measured_snr_db, normalize_power


class PcaSettings(Settings):
    """``pool``: how many train pictures the receiver's second moments are measured on."""

    pool: int = 5000


class Pca:
    r"""z̃_i = √(P_i/λ_i)·v_iᵀ(x − μ), i ≤ 2k, two reals a symbol, z = √k·z̃/‖z̃‖; x̂ = μ + Σ_i g_i·y_i·v_i.

    μ, λ, v of the train split, P_i water-filled for the design SNR (`commin.evaluation.lines.pca_powers`). Power is
    normalised for each picture, as for every system here, and nobody tells the receiver ‖z̃‖: its gain is the linear
    MMSE one, g_i = E[c_i·z_i]/(E[z_i²] + σ²/2), moments of the train split, σ² the noise it is told.
    Source: Lee and Petersen, Optimal linear coding for vector channels, IEEE Trans. Comm. 24(12), 1976.
    """

    name = "pca"
    network_calls = 0

    def __init__(self, fit: Fit) -> None:
        settings = fit.parse(self.name, PcaSettings)
        height = width = fit.train.size
        self.symbols = fit.symbols
        used = min(2 * self.symbols, 3 * height * width)
        kept = max(used, 3 * height * width // 6)
        path = fit.stored("pca", ".safetensors", kept)

        def make() -> dict[str, Tensor]:
            mean, values, vectors = principal_components(fit.train.pixels(), kept)
            return {"mean": mean, "values": values, "vectors": vectors.T.contiguous()}

        found = kept_tensors(path, make)
        self.mean, values, self.rows = found["mean"], found["values"][:used], found["vectors"][:used]
        powers = pca_powers(values, self.symbols, fit.point.design_snr_db)
        self.scale = (powers / values.double().clamp_min(1e-20)).sqrt().float()
        coefficients = self.analyse(from_uint8(fit.train.pool(settings.pool)))
        reals = self.reals(self.modulate(coefficients))
        self.cross, self.energy = (coefficients * reals).mean(0), reals.square().mean(0)

    def analyse(self, images: Tensor) -> Tensor:
        """c = Vᵀ(x − μ): pictures (B, 3, H, W) in [0, 1] to (B, min(2k, n))."""
        return project(images, self.mean, self.rows)

    def modulate(self, coefficients: Tensor) -> Tensor:
        """Coefficients (B, ≤ 2k) to symbols z, complex64 (B, k), mean |z|² = 1 in each row."""
        scaled = coefficients * self.scale
        padded = torch.nn.functional.pad(scaled, (0, 2 * self.symbols - scaled.shape[1]))
        return normalize_power(torch.complex(padded[:, : self.symbols], padded[:, self.symbols :]))

    def reals(self, symbols: Tensor) -> Tensor:
        """Symbols (B, k) back to the reals in use, (B, ≤ 2k)."""
        return torch.cat([symbols.real, symbols.imag], 1)[:, : len(self.scale)]

    def send(self, images: Tensor, way: Way) -> Sent:
        """See `commin.evaluation.systems.base.Scheme`."""
        symbols = self.modulate(self.analyse(images.cpu()))
        received = way.carry(symbols)
        gains = received.csi.gains if received.csi else None
        arrived = symbols if gains is None else gains * symbols
        measured = measured_snr_db(arrived, received.symbols - arrived)
        told = way.point.told_snr_db
        if told is not None:
            received = Received(received.symbols, Csi(torch.full((len(images),), told), gains))
        got, snr_db = equalize(received, way.equalizer)
        gain = self.cross / (self.energy + 0.5 / db_to_linear(snr_db).unsqueeze(1))
        restored = self.mean + (gain * self.reals(got)) @ self.rows
        return Sent(restored.clamp(0, 1).view_as(images), measured)
