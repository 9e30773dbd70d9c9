"""A codec that sends pictures of any size in overlapping tiles of the size it was trained for.

The plain codec takes any size too, as one frame and with fewer symbols: its layers are convolutions, its gates means
over the picture. Tiles bound the memory, and show the network nothing but the size it knows.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn

from commin.codec.deepjscc import DeepJSCC
from commin.tiles import Tiles

OVERLAP = 16
"""V, in pixels: with half of it seams can be measured (benchmarks/tiles.py)."""


class TiledCodec(DeepJSCC):
    """Each of N tiles is a frame of k symbols and unit power; the picture's N·k symbols are theirs, row by row.

    Args:
        codec: whose networks are used, T its ``image_size``.
        overlap: V.
        limit: tiles at a time, a matter of memory alone.
    """

    def __init__(self, codec: DeepJSCC, overlap: int = OVERLAP, limit: int = 64) -> None:
        nn.Module.__init__(self)
        self.config, self.encoder, self.decoder = codec.config, codec.encoder, codec.decoder
        self.overlap, self.limit = overlap, limit

    def tiles(self, height: int, width: int) -> Tiles:
        """The tiles of a picture."""
        return Tiles(height, width, self.config.image_size, self.overlap)

    def encode(self, images: Tensor, design_snr_db: Tensor, bcr: Fraction, refinement: int = 0) -> Tensor:
        """Pictures (B, 3, H, W) to symbols, complex64 (B, N·k); as `commin.codec.deepjscc.DeepJSCC.encode`."""
        tiles = self.tiles(images.shape[-2], images.shape[-1]).cut(images)
        design = design_snr_db.repeat_interleave(tiles.shape[1])
        parts = zip(tiles.flatten(0, 1).split(self.limit), design.split(self.limit), strict=True)
        symbols = [super(TiledCodec, self).encode(*part, bcr, refinement) for part in parts]
        return torch.cat(symbols).view(len(images), -1)

    def decode(self, symbols: Tensor, snr_db: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Symbols (B, N·k) to pictures (B, 3, H, W), tiles blended; as `commin.codec.deepjscc.Decoder.forward`."""
        side = self.config.image_size
        tiles = self.tiles(*(size or (side, side)))
        if symbols.shape[-1] % len(tiles):
            raise ValueError(f"decode: {symbols.shape[-1]} symbols are not those of {len(tiles)} tiles")
        frames, snrs = symbols.reshape(len(symbols) * len(tiles), -1), snr_db.repeat_interleave(len(tiles))
        parts = zip(frames.split(self.limit), snrs.split(self.limit), strict=True)
        decoded = torch.cat([super(TiledCodec, self).decode(*part, (side, side)) for part in parts])
        return tiles.join(decoded.unflatten(0, (len(symbols), -1))).clamp(0, 1)
