"""Differentiable augmentation: the discriminator sees real and generated pictures only after the same random change.

Source: Zhao et al., arXiv:2006.10738 (DiffAugment): colour, translation by up to 1/8, cutout of half the side. Every
change is a function of the picture and of uniform numbers given with it, and lets gradients through.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Change = Literal["colour", "translation", "cutout"]
NUMBERS = 7
"""Uniform numbers used for a picture: three of colour, two of translation, two of cutout."""

GREY = 0.5


def augment(images: Tensor, uniform: Tensor, changes: Sequence[Change]) -> Tensor:
    """Change pictures.

    Args:
        images: (B, 3, H, W) in [0, 1].
        uniform: (B, NUMBERS) in [0, 1).
        changes: which kinds of change, in this order: colour, translation, cutout.

    Returns:
        (B, 3, H, W); colour may leave [0, 1].
    """
    if "colour" in changes:
        images = colour(images, uniform[:, 0:3])
    if "translation" in changes:
        images = translate(images, uniform[:, 3:5])
    if "cutout" in changes:
        images = cutout(images, uniform[:, 5:7])
    return images


def colour(images: Tensor, uniform: Tensor) -> Tensor:
    """Brightness + U(−¼, ¼), saturation × U(0, 2), contrast × U(½, 3/2), by the three numbers of each row."""
    brightness, saturation, contrast = (number[:, None, None, None] for number in uniform.unbind(1))
    images = images + (brightness - 0.5) / 2
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + contrast)


def translate(images: Tensor, uniform: Tensor) -> Tensor:
    """Shift by whole pixels, up to 1/8 of the height and width each way.

    What comes in is the picture mirrored at its edge: of grey, as published, a generator soon makes a frame.
    """
    height, width = images.shape[2:]
    reach = torch.tensor([height // 8, width // 8])
    offsets = (uniform.cpu() * (2 * reach + 1)).floor().long().tolist()
    padded = F.pad(images, (width // 8, width // 8, height // 8, height // 8), mode="reflect")
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, offsets, strict=True)])


def cutout(images: Tensor, uniform: Tensor) -> Tensor:
    """Grey out a square of half the side, its centre anywhere in the picture."""
    inside = []
    for axis, size in enumerate(images.shape[2:]):
        centre = uniform[:, axis, None] * size
        inside.append((torch.arange(size, device=images.device) + 0.5 - centre).abs() < size / 4)
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(hole, GREY, images)
