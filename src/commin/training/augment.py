"""More pictures than there are: each is mirrored, moved and coloured at random before a training sees it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from commin.training.recipe import LoopConfig
from commin.units import IMAGE_CHANNELS


def draw_changes(config: LoopConfig, count: int, rng: torch.Generator) -> dict[str, Tensor]:
    """The changes of ``count`` pictures by name, first dimension ``count``; only what is asked for is drawn."""
    drawn = {}
    if config.flip:
        drawn["flip"] = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
    if config.shift:
        drawn["shift"] = torch.randint(0, 2 * config.shift + 1, (count, 2), generator=rng)
    if config.colour:
        drawn["gain"] = (config.colour * (torch.rand(count, IMAGE_CHANNELS, 1, 1, generator=rng) * 2 - 1)).exp()
    return drawn


def changed(images: Tensor, shift: int, drawn: dict[str, Tensor]) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] with the changes drawn for them, moves by at most ``shift`` pixels."""
    if "flip" in drawn:
        images = torch.where(drawn["flip"], images.flip(3), images)
    if "shift" in drawn:
        height, width = images.shape[-2:]
        corners = zip(F.pad(images, (shift,) * 4, mode="reflect"), drawn["shift"].tolist(), strict=True)
        images = torch.stack([large[:, y : y + height, x : x + width] for large, (y, x) in corners])
    return (images * drawn["gain"]).clamp(0, 1) if "gain" in drawn else images
