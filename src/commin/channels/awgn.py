"""Additive white Gaussian noise, the channel of the paper's eq. (3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from commin.channels.base import Csi, Received, check_channel_input
from commin.randomness import complex_normal


def add_noise(symbols: Tensor, csi: Csi, generators: Sequence[torch.Generator]) -> Received:
    """y = h·z + w with w ~ CN(0, σ² I) and h, σ² of the channel state; (B, k) to `Received` with that state."""
    noise = complex_normal(symbols.shape[1:], generators, symbols.device) * csi.noise_variance().sqrt()
    faded = symbols if csi.gains is None else csi.gains * symbols
    return Received(faded + noise, csi)


class Awgn:
    r"""y = z + w,  w ~ CN(0, σ² I),  σ² = P / 10^(SNR/10)  with P = 1.

    Source: CommIN (arXiv:2310.01130), eqs. (3) and (4).
    """

    def __call__(self, symbols: Tensor, snr_db: Tensor, generators: Sequence[torch.Generator]) -> Received:
        """Send symbols.

        Args:
            symbols: channel input z, complex64 (B, k), mean |z|² = 1 per row.
            snr_db: P/σ² per complex symbol in dB, (B,); finite.
            generators: one per row, so that a row's noise does not depend on the batch it is in.

        Returns:
            Received with symbols (B, k) and a Csi that tells the receiver the SNR.

        Raises:
            ValueError: symbols are not complex or not finite, or an SNR is not finite.
        """
        check_channel_input(symbols, snr_db)
        return add_noise(symbols, Csi(snr_db), generators)
