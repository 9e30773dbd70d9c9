"""LPIPS as a loss: over random shifts, colour orders and sizes of both pictures alike, so that no pattern passes it.

Trained for LPIPS at one place and size alone, a network learns a fine grid that the first convolution, of stride 2,
does not see. What is measured and printed is LPIPS itself. Source: E-LPIPS, Kettunen et al., arXiv:1906.03973.
"""

from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from commin.metrics.lpips import Lpips

SHIFT = 4
"""Pixels by which pictures move either way."""

SCALES = (1.25, 2.25)
"""Between which half of the pictures are enlarged."""

ORDERED = 0.5
"""Share of draws that keep the order of the colours."""


def ensemble_lpips(lpips: Lpips, a: Tensor, b: Tensor, rng: Random) -> Tensor:
    """Distances (B,) of pictures a and b, (B, 3, H, W) in [0, 1], changed alike; differentiable in both.

    The second half of them is enlarged, bicubic; each half has one draw of everything.

    Args:
        lpips: the distance.
        a, b: the pictures, larger than `SHIFT` pixels a side.
        rng: of the draws.
    """
    half = len(a) // 2
    parts = zip(a.split([half, len(a) - half]), b.split([half, len(a) - half]), (False, True), strict=True)
    return torch.cat([_distance(lpips, x, y, larger, rng) for x, y, larger in parts if len(x)])


def _distance(lpips: Lpips, a: Tensor, b: Tensor, larger: bool, rng: Random) -> Tensor:
    scale = rng.uniform(*SCALES) if larger else 1.0
    height, width = (round(scale * side) for side in a.shape[-2:])
    margin = round(scale * SHIFT)
    top, left = (rng.randint(0, 2 * margin) for _ in range(2))
    colours = [0, 1, 2] if rng.random() < ORDERED else rng.sample(range(3), 3)
    pair = F.pad(torch.cat([a, b]), (SHIFT,) * 4, mode="reflect")
    if larger:
        size = (height + 2 * margin, width + 2 * margin)
        pair = F.interpolate(pair, size=size, mode="bicubic", align_corners=False)
    pair = pair[:, colours, top : top + height, left : left + width]
    return lpips(*pair.chunk(2))
