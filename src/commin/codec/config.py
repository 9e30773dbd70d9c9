"""The size of a codec: what its networks are made from and what links they serve."""

from fractions import Fraction
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from commin.units import DOWNSAMPLING, IMAGE_CHANNELS, latent_channels

HEAD = 64  # width of an attention head of a transformer


class TransformerConfig(BaseModel):
    """Size of the transformers at both ends.

    Attributes:
        width: numbers of a token, a multiple of 64.
        encoder_blocks: blocks of attention and perceptron in the encoder.
        decoder_blocks: the same in the decoder.
        expansion: width inside the perceptrons over that of a token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(384, gt=0, multiple_of=HEAD)
    encoder_blocks: int = Field(2, ge=1)
    decoder_blocks: int = Field(2, ge=1)
    expansion: int = Field(2, ge=1)


class DeepJSCCConfig(BaseModel):
    """Size of a codec. The defaults are the paper's network at ρ = 1/192.

    Attributes:
        widths: channels at H/2, H/4 and H/8.
        latent_channels: C of every ρ = C/1536 served, even numbers.
        separate: those of ``latent_channels`` with networks of their own (`commin.codec.separate`); the others share
            one.
        bottleneck: width of the blocks at H/16; 0 for none, as in the paper.
        bottleneck_blocks: how many residual blocks stand there at each end.
        lossless_skips: whether the encoder's skips keep all pixels (`ResidualBlockDown`); the paper's do not.
        transformer: transformers (`commin.codec.transformer`) in the place of the paper's network, whose sizes above do
            not count then.
        image_size: height and width trained for, in pixels.
        snr_range_db: SNRs trained for, in dB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, int, int] = (256, 256, 256)
    latent_channels: tuple[int, ...] = Field((8,), min_length=1)
    separate: tuple[int, ...] = ()
    bottleneck: int = Field(0, ge=0)
    bottleneck_blocks: int = Field(1, ge=1)
    lossless_skips: bool = False
    transformer: TransformerConfig | None = None
    image_size: int = Field(256, gt=0, multiple_of=DOWNSAMPLING)
    snr_range_db: tuple[float, float] = (-5.0, 5.0)

    @model_validator(mode="after")
    def _channels(self) -> Self:
        if any(c < 2 or c % 2 for c in self.latent_channels):
            raise ValueError("latent_channels must be even numbers from 2 on: two reals make one complex symbol")
        if not set(self.separate) <= set(self.latent_channels) or len(set(self.separate)) < len(self.separate):
            raise ValueError("separate must be some of latent_channels, each once")
        return self

    @property
    def bcrs(self) -> list[Fraction]:
        """The ρ served, ascending."""
        return [Fraction(c, 2 * IMAGE_CHANNELS * DOWNSAMPLING**2) for c in sorted(self.latent_channels)]


def served_channels(config: DeepJSCCConfig, bcr: Fraction) -> int:
    """Latent channels C for ρ. Raises ValueError, naming the ρ served, if the network was not trained for it."""
    channels = latent_channels(bcr)
    if channels not in config.latent_channels:
        known = ", ".join(map(str, config.bcrs))
        raise ValueError(f"this codec has no ρ = {bcr}; it has {known}")
    return channels
