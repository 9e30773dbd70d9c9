"""What a channel hands to the receiver, and what a channel is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from commin.units import db_to_linear


@dataclass(frozen=True)
class Csi:
    """Channel state information: what the receiver is told.

    Attributes:
        snr_db: P/σ² per complex symbol in dB before any fading gain, real (B,).
        gains: complex channel gains h of y = h·z + w, (B, 1) for a block or (B, k); None for h = 1.
    """

    snr_db: Tensor
    gains: Tensor | None = None

    def noise_variance(self) -> Tensor:
        """σ² = 1/SNR of the complex noise at unit transmit power, (B, 1)."""
        return (1.0 / db_to_linear(self.snr_db)).unsqueeze(-1)


@dataclass(frozen=True)
class Received:
    """All that arrives: symbols y complex64 (B, k), and the channel state that the receiver is told, or None."""

    symbols: Tensor
    csi: Csi | None = None


class Channel(Protocol):
    """y = channel(z): complex64 (B, k) to `Received`, row i random by generators[i] alone."""

    def __call__(self, symbols: Tensor, snr_db: Tensor, generators: Sequence[torch.Generator]) -> Received:
        """Send symbols (B, k) at (B,) dB."""
        ...


def check_channel_input(symbols: Tensor, snr_db: Tensor) -> None:
    """Raise ValueError unless symbols are complex (B, k) and finite, and the SNR is real (B,) and finite."""
    if not symbols.is_complex() or symbols.ndim != 2:
        raise ValueError(f"channel: symbols must be complex (B, k), got {symbols.dtype} {tuple(symbols.shape)}")
    if snr_db.shape != symbols.shape[:1]:
        raise ValueError(f"channel: snr_db must be (B,) = ({len(symbols)},), got {tuple(snr_db.shape)}")
    if not torch.isfinite(snr_db).all():
        raise ValueError("channel: the SNR must be a finite number of dB")
    if not torch.isfinite(symbols.detach().abs()).all():
        raise ValueError("channel: the symbols hold NaN or infinity")
