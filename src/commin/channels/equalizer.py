"""Undo known gains: what a decoder trained on y = z + w may be given after a fading channel."""

from typing import Literal

import torch
from torch import Tensor

from commin.channels.base import Received
from commin.units import linear_to_db

Equalizer = Literal["mmse", "zf"]


def equalize(received: Received, kind: Equalizer = "mmse") -> tuple[Tensor, Tensor]:
    r"""Symbols with unit mean gain, and the SNR of the AWGN channel they amount to.

    Zero forcing: ẑ = y/h, effective SNR = 1/mean(σ²/|h|²). MMSE: with g_i = |h_i|²/(|h_i|² + σ²) and g its mean,
    ẑ_i = h_i*·y_i/(|h_i|² + σ²)/g and effective SNR = g/(1 − g); a symbol in a fade is turned down, not blown up.
    Both leave y and its SNR as they are where h = 1. A block's MMSE and zero forcing are equal.

    Args:
        received: symbols (B, k) with channel state.
        kind: ``mmse`` or ``zf``.

    Returns:
        Symbols, complex64 (B, k), and SNRs in dB, (B,).

    Raises:
        ValueError: the receiver was told no channel state.
    """
    if received.csi is None:
        raise ValueError("equalize: the receiver was told no channel state; estimate it first")
    if received.csi.gains is None:
        return received.symbols, received.csi.snr_db
    gains, variance = received.csi.gains, received.csi.noise_variance()
    strength = gains.abs().square()
    if kind == "zf":
        safe = torch.where(strength > 0, gains, torch.full_like(gains, 1e-6))
        return received.symbols / safe, -linear_to_db((variance / safe.abs().square()).mean(-1))
    share = strength / (strength + variance)
    mean = share.mean(-1, keepdim=True)
    symbols = gains.conj() * received.symbols / (strength + variance) / mean.clamp_min(1e-12)
    return symbols, linear_to_db((mean / (1 - mean)).squeeze(-1).clamp_min(1e-12))
