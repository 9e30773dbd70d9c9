"""The two ends of a DeepJSCC link, whatever network works in them: pictures to symbols, symbols to pictures.

The latent of a picture has H/16 × W/16 × C reals, that is k = C/2 · H/16 · W/16 complex symbols and ρ = C/1536. One
network serves several ρ: a smaller one sends the first channels of the latent alone.
"""

from abc import ABC, abstractmethod
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commin.codec.config import DeepJSCCConfig, served_channels
from commin.units import DOWNSAMPLING, normalize_power

STATES = 2  # what the networks are told of the link: [SNR in dB / 5, log2(C / largest C) / 2]


def link_state(snr_db: Tensor, channels: Tensor, config: DeepJSCCConfig) -> Tensor:
    """(B,) SNRs in dB and (B,) channels in use to what the networks are told, (B, STATES)."""
    return torch.stack([snr_db / 5.0, (channels / max(config.latent_channels)).log2() / 2.0], dim=1)


def link_channels(state: Tensor, config: DeepJSCCConfig) -> Tensor:
    """The channels in use (B,) that `link_state` told."""
    return (max(config.latent_channels) * 2 ** (2 * state[:, 1])).round()


def pack(latent: Tensor) -> Tensor:
    """Latent (B, C, h, w) to complex symbols (B, C/2·h·w): two channels make one, channel after channel."""
    return torch.complex(latent[:, 0::2].contiguous(), latent[:, 1::2].contiguous()).flatten(1)


def unpack(symbols: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `pack` for a latent of that many rows and columns: complex (B, k) to real (B, C, h, w)."""
    x = torch.view_as_real(symbols).reshape(len(symbols), -1, rows, columns, 2)
    return x.permute(0, 1, 4, 2, 3).flatten(1, 2)


class Encoder(nn.Module, ABC):
    """Images to symbols; the whole of a transmitter."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, images: Tensor, design_snr_db: Tensor, bcr: Fraction) -> Tensor:
        """The channel input z = √k·z̃/‖z̃‖, eq. (2), of each picture.

        Args:
            images: (B, 3, H, W) in [0, 1], any H and W; padded at the right and below to multiples of 16.
            design_snr_db: the SNR in dB that the symbols are made for, (B,).
            bcr: ρ, one of ``config.bcrs``.

        Returns:
            Complex64 symbols (B, k), k = 1536·ρ/2 · ⌈H/16⌉·⌈W/16⌉, mean |z|² = 1 in each row.

        Raises:
            ValueError: this network does not serve that ρ.
        """
        channels = served_channels(self.config, bcr)
        latent = self.latent(images, design_snr_db, torch.full_like(design_snr_db, channels))
        return normalize_power(pack(latent[:, :channels]))

    def latent(self, images: Tensor, design_snr_db: Tensor, channels: Tensor) -> Tensor:
        """All latent channels before normalisation, float32 (B, largest C, ⌈H/16⌉, ⌈W/16⌉).

        ``channels`` (B,) is how many of them each picture may use; ``forward`` sends these alone.
        """
        height, width = images.shape[-2:]
        x = F.pad(images, (0, -width % DOWNSAMPLING, 0, -height % DOWNSAMPLING), mode="replicate") * 2 - 1
        return self.analysis(x, link_state(design_snr_db, channels, self.config)).float()

    @abstractmethod
    def analysis(self, x: Tensor, state: Tensor) -> Tensor:
        """Pictures (B, 3, 16·h, 16·w) in [−1, 1] and the links' states (B, STATES) to latents (B, largest C, h, w)."""


class Decoder(nn.Module, ABC):
    """Received symbols to the estimate of the picture; the whole of a DeepJSCC receiver."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, symbols: Tensor, snr_db: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """The estimate of each picture.

        Args:
            symbols: what arrived, after any equaliser, complex64 (B, k).
            snr_db: the SNR in dB that the receiver believes in, (B,).
            size: height and width of the pictures; None for the size trained for.

        Returns:
            Images (B, 3, H, W) in [0, 1], float32.

        Raises:
            ValueError: k fits no ρ of this network at that size.
        """
        height, width = size or (self.config.image_size, self.config.image_size)
        rows, columns = -(-height // DOWNSAMPLING), -(-width // DOWNSAMPLING)
        channels, rest = divmod(2 * symbols.shape[-1], rows * columns)
        if rest or channels not in self.config.latent_channels:
            known = [c // 2 * rows * columns for c in sorted(self.config.latent_channels)]
            raise ValueError(
                f"decode: {symbols.shape[-1]} symbols for {height}×{width} pixels; this codec takes {known}"
            )
        latent = F.pad(unpack(symbols, rows, columns), (0, 0, 0, 0, 0, max(self.config.latent_channels) - channels))
        return self.picture(latent, snr_db, torch.full_like(snr_db, channels))[..., :height, :width].clamp(0, 1)

    def picture(self, latent: Tensor, snr_db: Tensor, channels: Tensor) -> Tensor:
        """Received latent, zero beyond the channels (B,) that were sent, to pictures (B, 3, 16·h, 16·w), float32.

        They are around [0, 1], not yet clipped to it: a loss has gradients beyond too.
        """
        return self.synthesis(latent, link_state(snr_db, channels, self.config)).float()

    @abstractmethod
    def synthesis(self, x: Tensor, state: Tensor) -> Tensor:
        """Latents (B, largest C, h, w) and the links' states (B, STATES) to pictures around [0, 1]."""
