"""Flat fading: complex gains h that multiply the symbols, y = h·z + w. SNR is the mean one, E|h|² = 1."""

from collections.abc import Sequence

import torch
from torch import Tensor

from commin.channels.awgn import add_noise
from commin.channels.base import Csi, Received, check_channel_input
from commin.randomness import complex_normal


class Fading:
    r"""Rician fading, h = √(K/(K+1)) + √(1/(K+1))·g with g ~ CN(0, 1); Rayleigh for K = 0.

    A block channel draws one gain for each picture, a fast channel one for each symbol. The receiver is told the
    gains and the mean SNR. Source: Tse and Viswanath, Fundamentals of Wireless Communication, section 2.4.
    """

    def __init__(self, block: bool, k_factor: float = 0.0) -> None:
        self.block = block
        self.k_factor = k_factor

    def __call__(self, symbols: Tensor, snr_db: Tensor, generators: Sequence[torch.Generator]) -> Received:
        """Send symbols.

        Args:
            symbols: channel input z, complex64 (B, k), mean |z|² = 1 per row.
            snr_db: E|h|²·P/σ² per complex symbol in dB, (B,); finite.
            generators: one per row: first its gains, then its noise.

        Returns:
            Received with y (B, k) and a Csi that tells the SNR and the gains, (B, 1) for a block, else (B, k).

        Raises:
            ValueError: symbols are not complex or not finite, or an SNR is not finite.
        """
        check_channel_input(symbols, snr_db)
        size = (1,) if self.block else symbols.shape[1:]
        scattered = complex_normal(size, generators, symbols.device)
        gains = (self.k_factor / (self.k_factor + 1)) ** 0.5 + (1 / (self.k_factor + 1)) ** 0.5 * scattered
        return add_noise(symbols, Csi(snr_db, gains), generators)


def rayleigh_block() -> Fading:
    """One CN(0, 1) gain for each picture."""
    return Fading(block=True)


def rayleigh_fast() -> Fading:
    """One CN(0, 1) gain for each symbol."""
    return Fading(block=False)


def rician_block() -> Fading:
    """One gain for each picture with a line of sight of K = 4 (6 dB)."""
    return Fading(block=True, k_factor=4.0)


def rician_fast() -> Fading:
    """One gain for each symbol with a line of sight of K = 4 (6 dB)."""
    return Fading(block=False, k_factor=4.0)
