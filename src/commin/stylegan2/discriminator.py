"""The StyleGAN2 discriminator: residual blocks from the picture down to 4×4, and the spread over the minibatch.

Source: Karras et al., arXiv:1912.04958 (residual blocks), arXiv:1710.10196 (minibatch standard deviation).
"""

import math
from itertools import pairwise
from typing import Self, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from commin.stylegan2.feature_heads import FeatureHeads
from commin.stylegan2.layers import EqualConv, EqualLinear, minibatch_std
from commin.stylegan2.resample import downsample


class DiscriminatorConfig(BaseModel):
    """Size of a discriminator.

    Attributes:
        widths: channels at 4×4, 8×8, … up to the size of the picture.
        group: pictures over which the minibatch standard deviation is taken.
        feature_width: channels of the heads that judge by a trained network's features; 0 for no such heads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, ...] = Field(min_length=2)
    group: int = Field(4, gt=0)
    feature_width: int = Field(0, ge=0)

    @property
    def size(self) -> int:
        """Height and width of the picture."""
        return int(4 << (len(self.widths) - 1))

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if min(self.widths) < 1:
            raise ValueError("widths must be positive")
        return self


class ResidualDown(nn.Module):
    """(conv(conv x) + skip(x))/√2 at half the size: (B, inputs, H, H) to (B, outputs, H/2, H/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(inputs, inputs, 3)
        self.conv2 = EqualConv(inputs, outputs, 3, gain=1.0, down=True)  # √2 of the activation over √2 of the sum
        self.skip = EqualConv(inputs, outputs, 1, gain=math.sqrt(0.5), activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features in, features out."""
        return cast(Tensor, self.conv2(self.conv1(x)) + self.skip(downsample(x)))


class Discriminator(nn.Module):
    """Pictures (B, 3, H, H) in [0, 1] to one logit each, (B,): larger for what it takes for real.

    ``feature_heads`` has logits of its own, or is None.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths[::-1]
        self.from_rgb = EqualConv(3, widths[0], 1)
        self.blocks = nn.Sequential(*(ResidualDown(inputs, outputs) for inputs, outputs in pairwise(widths)))
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.hidden = EqualLinear(16 * widths[-1], widths[-1], activate=True)
        self.logit = EqualLinear(widths[-1], 1)
        self.feature_heads = FeatureHeads(config.feature_width, config.group) if config.feature_width else None

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) in the weights' dtype."""
        x = self.blocks(self.from_rgb(images * 2 - 1))
        spread = minibatch_std(x, self.config.group).to(x.dtype).expand(-1, 1, *x.shape[2:])
        x = self.conv(torch.cat([x, spread], dim=1))
        return cast(Tensor, self.logit(self.hidden(x.flatten(1))).squeeze(1))
