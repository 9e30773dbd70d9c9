r"""A big picture as overlapping tiles, and the tiles as a picture again without seams.

Tiles of T×T pixels stand T − V pixels apart, on the picture padded by reflection, evenly on all sides, to whole tiles.
They are laid together by windows that rise as sin² over the V pixels of an overlap:

    x(p) = Σ_i w_i(p)·x_i(p),   Σ_i w_i(p) = 1 at every pixel p.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of a picture stand.

    Attributes:
        height, width: of the picture in pixels, H and W.
        side: T.
        overlap: V, at most T/2, so that no more than two tiles meet along an axis.
        extra: rows and columns of tiles beyond those needed; one moves all seams by half a step, as padding is even.

    Raises:
        ValueError: no pixels, or an overlap outside 0..T/2.
    """

    height: int
    width: int
    side: int
    overlap: int
    extra: int = 0

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.side) < 1:
            raise ValueError(f"tiles: {self.height}×{self.width} pixels in tiles of {self.side}; all must be positive")
        if not 0 <= 2 * self.overlap <= self.side:
            raise ValueError(f"overlap {self.overlap}: must be in 0..{self.side // 2}, half a tile of {self.side}")

    @property
    def step(self) -> int:
        """T − V."""
        return self.side - self.overlap

    @property
    def rows(self) -> int:
        """Tiles from top to bottom."""
        return self._count(self.height)

    @property
    def columns(self) -> int:
        """Tiles from left to right."""
        return self._count(self.width)

    def __len__(self) -> int:
        """N, all tiles."""
        return self.rows * self.columns

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width that the tiles cover."""
        return self.rows * self.step + self.overlap, self.columns * self.step + self.overlap

    def cut(self, images: Tensor) -> Tensor:
        """The tiles of pictures (B, C, H, W), row by row: (B, N, C, T, T)."""
        (down, across), (top, left) = self.padded, self._margins
        y = _reflected(torch.arange(-top, down - top, device=images.device), self.height)
        x = _reflected(torch.arange(-left, across - left, device=images.device), self.width)
        tiles = images[:, :, y][:, :, :, x].unfold(2, self.side, self.step).unfold(3, self.side, self.step)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)

    def join(self, tiles: Tensor) -> Tensor:
        """The pictures (B, C, H, W) that tiles (B, N, C, T, T) blend to; undoes `cut`."""
        rise_y, rise_x = self._windows(self.rows), self._windows(self.columns)
        windows = (rise_y[:, None, :, None] * rise_x[None, :, None, :]).flatten(0, 1).to(tiles)
        columns = (tiles * windows[:, None]).flatten(2).transpose(1, 2)
        whole = F.fold(columns, self.padded, self.side, stride=self.step)
        top, left = self._margins
        return whole[..., top : top + self.height, left : left + self.width]

    def seams(self) -> tuple[list[int], list[int]]:
        """Rows and columns p of the picture such that a tile begins or ends between pixels p − 1 and p."""
        found = []
        for count, size, margin in zip(
            (self.rows, self.columns), (self.height, self.width), self._margins, strict=True
        ):
            edges = {edge - margin for i in range(count) for edge in (i * self.step, i * self.step + self.side)}
            found.append(sorted(edge for edge in edges if 0 < edge < size))
        return found[0], found[1]

    @property
    def _margins(self) -> tuple[int, int]:
        """Padding at the top and on the left."""
        down, across = self.padded
        return (down - self.height) // 2, (across - self.width) // 2

    def _count(self, size: int) -> int:
        return max(1, math.ceil((size - self.overlap) / self.step)) + self.extra

    def _windows(self, count: int) -> Tensor:
        """Windows along one axis, (count, T): they rise and fall over the overlaps and are 1 elsewhere."""
        windows = torch.ones(count, self.side, dtype=torch.float64)
        if self.overlap:
            place = (torch.arange(self.overlap, dtype=torch.float64) + 0.5) / self.overlap
            rise = (math.pi / 2 * place).sin().square()
            windows[1:, : self.overlap] = rise
            windows[:-1, -self.overlap :] = 1 - rise
        return windows


def _reflected(index: Tensor, size: int) -> Tensor:
    """Any whole numbers as places in 0 … size − 1, the axis mirrored about its first and last place again and again."""
    if size == 1:
        return torch.zeros_like(index)
    index = index % (2 * (size - 1))
    return torch.minimum(index, 2 * (size - 1) - index)
