"""DeepJSCC: a trained pair of encoder and decoder."""

from copy import copy
from fractions import Fraction
from typing import Self

from torch import Tensor, nn

from commin.codec.config import DeepJSCCConfig
from commin.codec.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from commin.codec.ends import Decoder, Encoder
from commin.codec.refinement import refine
from commin.codec.separate import SeparateDecoder, SeparateEncoder
from commin.codec.transformer import TransformerDecoder, TransformerEncoder


def make_encoder(config: DeepJSCCConfig) -> Encoder:
    """An untrained encoder of the kind that the config asks for."""
    if config.separate:
        return SeparateEncoder(config, make_encoder)
    return TransformerEncoder(config, config.transformer) if config.transformer else ConvolutionalEncoder(config)


def make_decoder(config: DeepJSCCConfig) -> Decoder:
    """An untrained decoder of the kind that the config asks for."""
    if config.separate:
        return SeparateDecoder(config, make_decoder)
    return TransformerDecoder(config, config.transformer) if config.transformer else ConvolutionalDecoder(config)


class DeepJSCC(nn.Module):
    """A trained pair of encoder and decoder; either may be absent at an end that does not need it."""

    def __init__(self, config: DeepJSCCConfig, encoder: bool = True, decoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config) if encoder else None
        self.decoder = make_decoder(config) if decoder else None

    def encode(self, images: Tensor, design_snr_db: Tensor, bcr: Fraction, refinement: int = 0) -> Tensor:
        """`Encoder.forward`, then as many steps of `commin.codec.refinement.refine`.

        Raises ValueError where only the decoder was loaded, or, to refine, only the encoder.
        """
        if self.encoder is None:
            raise ValueError("encode: this codec was loaded without its encoder")
        symbols: Tensor = self.encoder(images, design_snr_db, bcr)
        if not refinement:
            return symbols
        if self.decoder is None:
            raise ValueError("encode: refinement needs the decoder, and this codec was loaded without it")
        return refine(self.decoder, images, symbols, design_snr_db, refinement)

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
