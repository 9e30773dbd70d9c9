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
"""Between which some of the pictures are enlarged."""

ORDERED = 0.5
"""Share of draws that keep the order of the colours."""


def ensemble_lpips(lpips: Lpips, a: Tensor, b: Tensor, larger: Tensor, rng: Random) -> Tensor:
    """Distances (B,) of pictures a and b, (B, 3, H, W) in [0, 1], changed alike; differentiable in both.

    Args:
        lpips: the distance.
        a, b: the pictures, larger than `SHIFT` pixels a side.
        larger: which of them are enlarged, bicubic, bool (B,).
        rng: of the other draws, one of everything for those that are enlarged and one for the rest, whether there are
            any or not: a picture's change does not depend on what else is in the batch.
    """
    distances = a.new_zeros(len(a))
    for enlarged in (False, True):
        scale = rng.uniform(*SCALES) if enlarged else 1.0
        margin = round(scale * SHIFT)
        top, left = (rng.randint(0, 2 * margin) for _ in range(2))
        colours = [0, 1, 2] if rng.random() < ORDERED else rng.sample(range(3), 3)
        here = larger if enlarged else ~larger
        if not here.any():
            continue
        height, width = (round(scale * side) for side in a.shape[-2:])
        pair = F.pad(torch.cat([a[here], b[here]]), (SHIFT,) * 4, mode="reflect")
        if enlarged:
            size = (height + 2 * margin, width + 2 * margin)
            pair = F.interpolate(pair, size=size, mode="bicubic", align_corners=False)
        pair = pair[:, colours, top : top + height, left : left + width]
        distances = distances.masked_scatter(here, lpips(*pair.chunk(2)))
    return distances
