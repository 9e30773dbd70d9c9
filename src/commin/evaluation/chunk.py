"""Pictures of a split as a sweep takes them, some at a time, and what restored ones are measured by against them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from commin.data.imageset import Entry, ImageSet, load_pixels
from commin.errors import UserError
from commin.images import from_uint8
from commin.metrics.backbones import pool
from commin.metrics.lpips import SMALLEST, try_lpips
from commin.metrics.pixels import psnr, ssim
from commin.randomness import pixel_digest


@dataclass(frozen=True)
class Chunk:
    """Pictures of a split, those that could be read, and the reasons of the others with their number.

    Attributes:
        images: (B, 3, H, W) in [0, 1], on the CPU.
        digests: of their pixels.
        seen: what LPIPS's backbone gives of them, where it is to be had.
    """

    entries: list[Entry]
    images: Tensor
    digests: list[str]
    unreadable: dict[str, int]
    seen: list[Tensor] | None


class Pictures:
    """The pictures of a split, framed alike; the last chunk is kept.

    Attributes:
        entries: of all of them.
        size, crop: their framing.
    """

    def __init__(self, source: ImageSet, split: str, size: int, crop: str) -> None:
        self.source, self.entries = source, source.split(split)
        self.size, self.crop = size, crop
        self.lpips = try_lpips() if size >= SMALLEST else None
        self._last: tuple[tuple[int, ...], Chunk] | None = None

    @torch.no_grad()
    def chunk(self, numbers: tuple[int, ...]) -> Chunk:
        """The pictures of these numbers; those that cannot be read are left out and counted."""
        if self._last is None or self._last[0] != numbers:
            entries, pixels, unreadable = [], [], {}
            for entry in (self.entries[index] for index in numbers):
                try:
                    pixels.append(load_pixels(self.source, [entry], self.size, self.crop))
                    entries.append(entry)
                except (UserError, OSError, KeyError) as error:
                    unreadable[first_line(error)] = 1
            images = from_uint8(torch.cat(pixels)) if pixels else torch.empty(0, 3, self.size, self.size)
            seen = self.lpips.backbone(images) if self.lpips and entries else None
            self._last = (numbers, Chunk(entries, images, [pixel_digest(i) for i in images], unreadable, seen))
        return self._last[1]

    @torch.no_grad()
    def measure(self, restored: Tensor, chunk: Chunk) -> tuple[dict[str, list[float]], Tensor | None]:
        """PSNR and SSIM of each picture, and where its backbone is to be had LPIPS and the features to be kept (B, C).

        On the CPU, like ``restored`` (B, 3, H, W); the backbone looks once at each of the pictures.
        """
        columns = {"psnr_db": psnr(restored, chunk.images), "ssim": ssim(restored, chunk.images)}
        features = None
        if self.lpips and chunk.seen:
            seen = self.lpips.backbone(restored)
            columns["lpips"], features = self.lpips.distance(seen, chunk.seen), pool(seen)
        return {name: [round(value, 5) for value in values.tolist()] for name, values in columns.items()}, features


def first_line(error: Exception) -> str:
    """What an error says, shortly."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
