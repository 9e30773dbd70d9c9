"""DeepJSCC: the network of the paper's ref. [18], layers as in DeepWiVe, SNR-adaptive at both ends.

Encoder: RBS AF RB | RBS AF Attn RB | RBS AF RB | RBS AF Attn. Decoder: Attn RB RBU AF | RB RBU AF | Attn RB RBU AF |
RB RBU AF sigmoid. Four stages of stride 2 leave a latent of H/16 × W/16 × C reals, that is k = C/2 · H/16 · W/16
complex symbols and ρ = C/1536. With ``bottleneck`` further residual blocks of that width work at H/16, where a pixel
is cheap. One network serves several ρ: a smaller one sends the first channels of the latent alone.
"""

from copy import copy
from fractions import Fraction
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from commin.codec.blocks import Attention, AttentionFeature, ResidualBlock, ResidualBlockDown, ResidualBlockUp
from commin.units import DOWNSAMPLING, IMAGE_CHANNELS, latent_channels, normalize_power

STATES = 2  # what the gates are told: [SNR in dB / 5, log2(C / largest C) / 2]


class DeepJSCCConfig(BaseModel):
    """Size of a codec. The defaults are the paper's network at ρ = 1/192.

    Attributes:
        widths: channels at H/2, H/4 and H/8.
        latent_channels: C of every ρ = C/1536 served, even numbers.
        bottleneck: width of the blocks at H/16; 0 for none, as in the paper.
        bottleneck_blocks: how many residual blocks stand there at each end.
        lossless_skips: whether the encoder's skips keep all pixels (`ResidualBlockDown`); the paper's do not.
        image_size: height and width trained for, in pixels.
        snr_range_db: SNRs trained for, in dB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, int, int] = (256, 256, 256)
    latent_channels: tuple[int, ...] = Field((8,), min_length=1)
    bottleneck: int = Field(0, ge=0)
    bottleneck_blocks: int = Field(1, ge=1)
    lossless_skips: bool = False
    image_size: int = Field(256, gt=0, multiple_of=DOWNSAMPLING)
    snr_range_db: tuple[float, float] = (-5.0, 5.0)

    @model_validator(mode="after")
    def _even(self) -> Self:
        if any(c < 2 or c % 2 for c in self.latent_channels):
            raise ValueError("latent_channels must be even numbers from 2 on: two reals make one complex symbol")
        return self

    @property
    def bcrs(self) -> list[Fraction]:
        """The ρ served, ascending."""
        return [Fraction(c, 2 * IMAGE_CHANNELS * DOWNSAMPLING**2) for c in sorted(self.latent_channels)]


def _state(snr_db: Tensor, channels: Tensor, config: DeepJSCCConfig) -> Tensor:
    """(B,) SNRs in dB and (B,) channels in use to the gates' input (B, STATES)."""
    return torch.stack([snr_db / 5.0, (channels / max(config.latent_channels)).log2() / 2.0], dim=1)


def pack(latent: Tensor) -> Tensor:
    """Latent (B, C, h, w) to complex symbols (B, C/2·h·w): two channels make one, channel after channel."""
    return torch.complex(latent[:, 0::2].contiguous(), latent[:, 1::2].contiguous()).flatten(1)


def unpack(symbols: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `pack` for a latent of that many rows and columns: complex (B, k) to real (B, C, h, w)."""
    x = torch.view_as_real(symbols).reshape(len(symbols), -1, rows, columns, 2)
    return x.permute(0, 1, 4, 2, 3).flatten(1, 2)


class Encoder(nn.Module):
    """Images to symbols; the whole of a transmitter."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__()
        self.config = config
        w1, w2, w3 = config.widths
        keep = config.lossless_skips
        largest = max(config.latent_channels)
        w4 = config.bottleneck or largest
        self.down1, self.gate1, self.block1 = (
            ResidualBlockDown(3, w1, keep),
            AttentionFeature(w1, STATES),
            ResidualBlock(w1),
        )
        self.down2, self.gate2 = ResidualBlockDown(w1, w2, keep), AttentionFeature(w2, STATES)
        self.mix2 = nn.Sequential(Attention(w2), ResidualBlock(w2))
        self.down3, self.gate3, self.block3 = (
            ResidualBlockDown(w2, w3, keep),
            AttentionFeature(w3, STATES),
            ResidualBlock(w3),
        )
        self.down4, self.gate4, self.mix4 = ResidualBlockDown(w3, w4, keep), AttentionFeature(w4, STATES), Attention(w4)
        self.project = (
            nn.Sequential(*(ResidualBlock(w4) for _ in range(config.bottleneck_blocks)), nn.Conv2d(w4, largest, 1))
            if config.bottleneck
            else nn.Identity()
        )

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
        state = _state(design_snr_db, channels, self.config)
        x = self.block1(self.gate1(self.down1(x), state))
        x = self.mix2(self.gate2(self.down2(x), state))
        x = self.block3(self.gate3(self.down3(x), state))
        x = self.project(self.mix4(self.gate4(self.down4(x), state)))
        return x.float()


class Decoder(nn.Module):
    """Received symbols to the estimate of the picture; the whole of a DeepJSCC receiver."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__()
        self.config = config
        w1, w2, w3 = config.widths
        largest = max(config.latent_channels)
        w4 = config.bottleneck or largest
        self.expand = nn.Conv2d(largest, w4, 1) if config.bottleneck else nn.Identity()
        self.gate4 = AttentionFeature(w4, STATES) if config.bottleneck else None
        self.mix4 = nn.Sequential(Attention(w4), *(ResidualBlock(w4) for _ in range(config.bottleneck_blocks)))
        self.up4, self.gate3, self.block3 = ResidualBlockUp(w4, w3), AttentionFeature(w3, STATES), ResidualBlock(w3)
        self.up3, self.gate2 = ResidualBlockUp(w3, w2), AttentionFeature(w2, STATES)
        self.mix2 = nn.Sequential(Attention(w2), ResidualBlock(w2))
        self.up2, self.gate1, self.block1 = ResidualBlockUp(w2, w1), AttentionFeature(w1, STATES), ResidualBlock(w1)
        self.up1, self.gate0 = ResidualBlockUp(w1, 3), AttentionFeature(3, STATES)

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
        return self.picture(latent, snr_db, torch.full_like(snr_db, channels))[..., :height, :width]

    def picture(self, latent: Tensor, snr_db: Tensor, channels: Tensor) -> Tensor:
        """Received latent, zero beyond the channels (B,) that were sent, to pictures (B, 3, 16·h, 16·w) in [0, 1]."""
        state = _state(snr_db, channels, self.config)
        x = self.expand(latent)
        if self.gate4 is not None:
            x = self.gate4(x, state)
        x = self.block3(self.gate3(self.up4(self.mix4(x)), state))
        x = self.mix2(self.gate2(self.up3(x), state))
        x = self.block1(self.gate1(self.up2(x), state))
        x = self.gate0(self.up1(x), state)
        return torch.sigmoid(x.float())


class DeepJSCC(nn.Module):
    """A trained pair of encoder and decoder; either may be absent at an end that does not need it."""

    def __init__(self, config: DeepJSCCConfig, encoder: bool = True, decoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config) if encoder else None
        self.decoder = Decoder(config) if decoder else None

    def encode(self, images: Tensor, design_snr_db: Tensor, bcr: Fraction) -> Tensor:
        """`Encoder.forward`. Raises ValueError where only the decoder was loaded."""
        if self.encoder is None:
            raise ValueError("encode: this codec was loaded without its encoder")
        symbols: Tensor = self.encoder(images, design_snr_db, bcr)
        return symbols

    def decode(self, symbols: Tensor, snr_db: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """`Decoder.forward`. Raises ValueError where only the encoder was loaded."""
        if self.decoder is None:
            raise ValueError("decode: this codec was loaded without its decoder")
        images: Tensor = self.decoder(symbols, snr_db, size)
        return images

    def with_decoder(self, decoder: Decoder) -> Self:
        """The same codec, in tiles if it works in tiles, with another decoder; the encoder is shared."""
        other = copy(self)
        other._modules = {**self._modules, "decoder": decoder}
        return other


def served_channels(config: DeepJSCCConfig, bcr: Fraction) -> int:
    """Latent channels C for ρ. Raises ValueError, naming the ρ served, if the network was not trained for it."""
    channels = latent_channels(bcr)
    if channels not in config.latent_channels:
        known = ", ".join(map(str, config.bcrs))
        raise ValueError(f"this codec has no ρ = {bcr}; it has {known}")
    return channels
