"""LPIPS as a loss: over random shifts, colour orders and sizes of both pictures alike, so that no pattern passes it.

Trained for LPIPS at one place and size alone, a network learns a fine grid that the first convolution, of stride 2,
does not see. What is measured and printed is LPIPS itself. Source: E-LPIPS, Kettunen et al., arXiv:1906.03973.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from commin.metrics.lpips import Lpips

SHIFT = 4
"""Pixels by which pictures move either way."""

SCALES = (1.25, 2.25)
"""Between which some of the pictures are enlarged."""

ORDERED = 0.5
"""Share of draws that keep the order of the colours whatever the permutation."""


def ensemble_lpips(lpips: Lpips, a: Tensor, b: Tensor, larger: Tensor, rng: torch.Generator) -> Tensor:
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
        drawn, colours = torch.rand(4, generator=rng).tolist(), torch.randperm(3, generator=rng).tolist()
        scale = SCALES[0] + (SCALES[1] - SCALES[0]) * drawn[0] if enlarged else 1.0
        margin = round(scale * SHIFT)
        top, left = (int(number * (2 * margin + 1)) for number in drawn[1:3])
        if drawn[3] < ORDERED:
            colours = [0, 1, 2]
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
