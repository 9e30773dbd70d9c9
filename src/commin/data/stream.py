"""Pictures that are decoded when they are asked for: for sets that do not fit in memory."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from commin.data.imageset import Entry, ImageSet, decode


class Stream:
    """Entries of a set as if they were one uint8 tensor (N, 3, size, size), of which rows can be asked for.

    Args:
        images: the set: folder, zip or shards.
        entries: which of its images, in this order.
        size: height and width in pixels.
        crop: a name of `commin.images.crop_box`.
        workers: threads that decode.
    """

    def __init__(self, images: ImageSet, entries: list[Entry], size: int, crop: str, workers: int) -> None:
        self.images, self.entries, self.size, self.crop = images, entries, size, crop
        self._pool = ThreadPoolExecutor(workers, "decode")

    @property
    def shape(self) -> torch.Size:
        """(N, 3, size, size)."""
        return torch.Size((len(self.entries), 3, self.size, self.size))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, chosen: Tensor, /) -> Tensor:
        """The pictures of these numbers, int64 (B,): uint8 (B, 3, size, size).

        Raises:
            UserError: one cannot be decoded.
        """
        entries = [self.entries[number] for number in chosen.tolist()]
        pictures = list(self._pool.map(lambda entry: decode(self.images, entry, self.size, self.crop), entries))
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
