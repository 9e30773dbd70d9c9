"""Redundant splits x → (c, d) whose coarse part c has the picture's size, and merges that undo them exactly.

A redundant merge is a left inverse alone: merge(split(x)) = x, but split(merge(c, d)) is (c, d) only for pairs that
some picture splits into. Sources: the undecimated copies of RWNN (github.com/andreasfloros/RWNN) and the stride-1 4×4
DCT of WINNet (Huang and Dragotti, IEEE TIP 2022).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commin.units import IMAGE_CHANNELS

WINDOW = 4


def dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT-II: row k, column n is √(2/N)·cos(π(2n + 1)k/2N), row 0 over √2 more; float32 (N, N)."""
    n = torch.arange(size, dtype=torch.float64)
    matrix = math.sqrt(2 / size) * torch.cos(math.pi * (2 * n + 1) * n[:, None] / (2 * size))
    matrix[0] /= math.sqrt(2)
    return matrix.float()


class CopySplit(nn.Module):
    """c = x and d = (x, …, x); merge gives c alone: what d knows reaches the picture through the lifts."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies
        self.detail_channels = copies * IMAGE_CHANNELS

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to c (B, 3, H, W) and d (B, 3·copies, H, W)."""
        return x, x.repeat(1, self.copies, 1, 1)

    def merge(self, c: Tensor, d: Tensor) -> Tensor:
        """c and d to (B, 3, H, W)."""
        return c


class DctSplit(nn.Module):
    """The 4×4 DCT of the window at every pixel, over 4: c is the local mean of each colour, d the 15 other planes.

    The window reaches one pixel up and left and two down and right; edges repeat. Merge averages what all windows
    over a pixel say of it.
    """

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.detail_channels = (WINDOW**2 - 1) * IMAGE_CHANNELS
        rows = dct_matrix(WINDOW)
        kernels = torch.einsum("ky,lx->klyx", rows, rows).reshape(WINDOW**2, 1, WINDOW, WINDOW) / WINDOW
        self.register_buffer("kernels", kernels.repeat(IMAGE_CHANNELS, 1, 1, 1), persistent=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to c (B, 3, H, W) and d (B, 45, H, W), the planes of each colour together."""
        planes = F.conv2d(F.pad(x, (1, 2, 1, 2), mode="replicate"), self.kernels, groups=IMAGE_CHANNELS)
        planes = planes.unflatten(1, (IMAGE_CHANNELS, WINDOW**2))
        return planes[:, :, 0], planes[:, :, 1:].flatten(1, 2)

    def merge(self, c: Tensor, d: Tensor) -> Tensor:
        """c and d to (B, 3, H, W)."""
        planes = torch.cat([c.unsqueeze(2), d.unflatten(1, (IMAGE_CHANNELS, WINDOW**2 - 1))], dim=2).flatten(1, 2)
        summed = F.conv_transpose2d(planes, self.kernels * WINDOW**2, groups=IMAGE_CHANNELS)[..., 1:-2, 1:-2]
        windows = F.conv_transpose2d(torch.ones_like(c[:1, :1]), torch.ones_like(self.kernels[:1]))[..., 1:-2, 1:-2]
        return summed / windows
