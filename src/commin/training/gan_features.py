"""What a generator in training is judged by: features in which its pictures and real ones are compared."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from commin.metrics.lpips import load_backbone
from commin.zoo.fetch import MissingFileError

Features = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [0, 1] to features (B, F)."""


def find_features(size: int) -> tuple[str, Features]:
    """SqueezeNet's pooled features, or `pixel_features` below 32 pixels and without its weights; the name first."""
    if size < 32:
        return "pixels", pixel_features
    try:
        return "squeeze", load_backbone("squeeze").pooled
    except MissingFileError:
        return "pixels", pixel_features


def pixel_features(images: Tensor) -> Tensor:
    """Mean and four times the standard deviation of each colour in 8×8 cells, pictures in [−1, 1]: (B, 384).

    What is used where there is no trained backbone: it sees colour, layout and contrast, no faces.
    """
    images = images * 2 - 1
    mean = F.adaptive_avg_pool2d(images, 8)
    spread = (F.adaptive_avg_pool2d(images.square(), 8) - mean.square()).clamp_min(0).sqrt()
    return torch.cat([mean, 4 * spread], dim=1).flatten(1)
