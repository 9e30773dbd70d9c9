"""Decibels, signal-to-noise ratio and bandwidth: every such formula of the package stands here, once.

SNR is P/σ² per complex symbol (CommIN, arXiv:2310.01130, eq. (4)); σ² is the variance of the complex noise,
σ²/2 per real dimension. The bandwidth compression ratio is ρ = k/n: k complex symbols for n = C·H·W real samples.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from torch import Tensor

DOWNSAMPLING = 16
"""Pixels per latent position along each axis: four stages of stride 2."""

IMAGE_CHANNELS = 3


@overload
def db_to_linear(db: float) -> float: ...
@overload
def db_to_linear(db: "Tensor") -> "Tensor": ...
def db_to_linear(db: "float | Tensor") -> "float | Tensor":
    """10^(dB/10), for a power ratio in dB; float or Tensor of any shape."""
    return 10.0 ** (db / 10.0)


@overload
def linear_to_db(ratio: float) -> float: ...
@overload
def linear_to_db(ratio: "Tensor") -> "Tensor": ...
def linear_to_db(ratio: "float | Tensor") -> "float | Tensor":
    """10·log10(ratio) of a power ratio ≥ 0; −inf at 0. Float or Tensor of any shape."""
    if isinstance(ratio, (int, float)):
        return 10.0 * math.log10(ratio) if ratio > 0 else -math.inf
    return 10.0 * ratio.log10()


def power(symbols: "Tensor") -> "Tensor":
    """Mean power (1/k)·Σ|z_i|² of each row, eq. (1): complex (B, k) to real (B,)."""
    return symbols.abs().square().mean(-1)


def normalize_power(symbols: "Tensor") -> "Tensor":
    """√(k·P)·z̃/‖z̃‖ with P = 1, per row, eq. (2): complex (B, k) to complex (B, k) with mean |z|² = 1.

    A row of zeros stays a row of zeros: it has no direction to scale.
    """
    return symbols / power(symbols).clamp_min(1e-20).sqrt().unsqueeze(-1)


def measured_snr_db(signal: "Tensor", noise: "Tensor") -> "Tensor":
    """10·log10(mean|signal|² / mean|noise|²) of each row in dB: two complex (B, k) to (B,); +inf without noise."""
    return linear_to_db(power(signal) / power(noise))


def capacity_bits(symbols: int, snr_db: float) -> float:
    """Bits that k complex symbols carry over an AWGN channel with an ideal code: k·log2(1 + SNR)."""
    return symbols * math.log2(1.0 + db_to_linear(snr_db))


def parse_bcr(text: "str | float | Fraction") -> Fraction:
    """The bandwidth compression ratio ρ written as ``1/48`` or ``0.0208333``, as an exact fraction.

    Raises:
        ValueError: the text is no number, or not in (0, 1].
    """
    try:
        bcr = Fraction(str(text).strip()).limit_denominator(1536)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"bandwidth compression ratio {text!r} is not a fraction such as 1/48") from None
    if not 0 < bcr <= 1:
        raise ValueError(f"bandwidth compression ratio {text} is outside (0, 1]")
    return bcr


def latent_channels(bcr: Fraction) -> int:
    """Latent channels C = ρ·2·3·16² = 1536·ρ of a codec that halves the picture four times.

    Raises:
        ValueError: the ratio gives no whole, even number of channels.
    """
    channels = bcr * 2 * IMAGE_CHANNELS * DOWNSAMPLING**2
    if channels.denominator != 1 or channels.numerator % 2:
        raise ValueError(f"ρ = {bcr} gives {float(channels):g} latent channels; it must be a multiple of 1/768")
    return channels.numerator


@dataclass(frozen=True)
class ChannelUse:
    """What a transmission cost: k complex symbols for n real samples, counted from the tensors themselves."""

    symbols: int
    samples: int

    @classmethod
    def of(cls, images: "Tensor", symbols: "Tensor") -> "ChannelUse":
        """Count from images (B, C, H, W) and the symbols (B, k) that were sent for them."""
        return cls(symbols=symbols.shape[-1], samples=images[0].numel())

    @property
    def bcr(self) -> float:
        """ρ = k/n."""
        return self.symbols / self.samples
