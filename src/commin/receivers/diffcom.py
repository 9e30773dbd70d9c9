r"""DiffCom: posterior sampling on the received symbols themselves, through the encoder and the U-Net.

    x_s = DDPM(x_t, x0|t) − ζ·∇_{x_t} (‖z − Enc(x0|t)‖₂ + γ·‖y − Dec(Enc(x0|t))‖₂),  z the received symbols

γ = 0 is DiffCom; HiFi-DiffCom adds the picture that x0 would have become without noise, in [0, 1], published with equal
weights, γ = 1. Both start from the noised estimate y. The published start is ᾱ/(1−ᾱ) = (1 + SNR)^{5ρ}, close to
ᾱ = ½ at every point here, t0 = T/2 of a cosine schedule; ζ is published for 256×256 pixels (1, and ¼ for HiFi) and all
t ≤ t0, here it is `commin.receivers.guided.at_size` of the table, for respaced steps. The encoder is taken to have been
told the SNR that the receiver is told; nobody tells the receiver the transmitter's power, for it is 1 for each picture.
Source: DiffCom (arXiv:2406.07390), algorithm 1, and the configuration of its public code.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from commin.diffusion.guidance import Distance, row_norms
from commin.diffusion.prior import Prior
from commin.receivers.base import Arrival
from commin.receivers.commin_rows import Progress, Rows, check_parts
from commin.receivers.commin_symbol import encoder_of
from commin.receivers.guided import GuidedPoint, GuidedSettings, guided_restore


def _published(zeta: float) -> tuple[GuidedPoint, ...]:
    return (GuidedPoint(bcr="1/48", snr_db=0, zeta=zeta, start=0.5),)


class DiffComSettings(GuidedSettings):
    """Settings of DiffCom; ``confirm``: γ, the weight of the picture beside the symbols."""

    points: tuple[GuidedPoint, ...] = Field(_published(1.0), min_length=1)
    confirm: float = Field(0.0, ge=0)


class HiFiSettings(DiffComSettings):
    """The same for HiFi-DiffCom, as published unless told otherwise."""

    points: tuple[GuidedPoint, ...] = Field(_published(0.25), min_length=1)
    confirm: float = Field(1.0, gt=0)


class DiffCom(nn.Module):
    """The walk guided by the received symbols; HiFi-DiffCom with `HiFiSettings`."""

    def __init__(
        self,
        prior: Prior,
        settings: DiffComSettings | None = None,
        naturalness: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.prior = prior.requires_grad_(False)
        self.settings, self.naturalness, self.progress = settings or DiffComSettings(), naturalness, progress
        self.name = "diffcom-hifi" if isinstance(self.settings, HiFiSettings) else "diffcom"
        self.network_calls = min(self.settings.steps, prior.schedule.steps)

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; see `commin.receivers.base.Receiver`.

        Raises:
            UserError: pictures smaller than the prior's.
        """
        check_parts(arrival, self.prior, None)
        return guided_restore(
            self.prior, self.settings, lambda rows: symbol_distance(arrival, rows, self.settings.confirm), arrival,
            generators, samples, self.naturalness, self.progress,
        )  # fmt: skip


def symbol_distance(arrival: Arrival, rows: Rows, confirm: float) -> Distance:
    """‖z − Enc(x0)‖₂ + γ·‖y − Dec(Enc(x0))‖₂ of each row; complex symbols, pictures in [0, 1]."""
    encode = encoder_of(arrival.codec, arrival.bcr, rows.snr_db)
    received, size = torch.view_as_real(rows.symbols).flatten(1), (rows.y.shape[-2], rows.y.shape[-1])

    def distance(x0: Tensor) -> Tensor:
        sent = encode(x0)
        far = row_norms(received - sent)
        if not confirm:
            return far
        symbols = torch.view_as_complex(sent.view(len(sent), -1, 2))
        return far + confirm * row_norms((rows.y + 1) / 2 - arrival.codec.decode(symbols, rows.snr_db, size))

    return distance
