"""The StyleGAN2 generator: z → w by a mapping network, w → picture by a synthesis network with RGB skips.

Synthesis starts from a learned 4×4 constant and has one block a resolution. Each block but the first doubles the
size; each adds its own RGB picture to the filtered, doubled picture so far. Block 0 reads rows 0, 1 of w+ (convolution,
RGB), block j ≥ 1 rows 2j − 1, 2j, 2j + 1; block 0 takes noise map 0, block j maps 2j − 1 and 2j.

Source: Karras et al., arXiv:1912.04958.
"""

from collections.abc import Sequence
from typing import cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from commin.stylegan2.layers import EPS, EqualLinear, StyledConv, ToRGB
from commin.stylegan2.resample import upsample


class GeneratorConfig(BaseModel):
    """Size of a generator. The defaults are the public 1024×1024 one (config F).

    Attributes:
        widths: channels at 4×4, 8×8, … up to the size of the picture.
        style_dim: length of z and w.
        mapping_layers: layers from z to w.
        mapping_multiplier: their learning rate over everybody else's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, ...] = Field((512, 512, 512, 512, 512, 256, 128, 64, 32), min_length=1)
    style_dim: int = Field(512, gt=0)
    mapping_layers: int = Field(8, gt=0)
    mapping_multiplier: float = Field(0.01, gt=0)

    @property
    def size(self) -> int:
        """Height and width of the picture, 4·2^(blocks − 1)."""
        return int(4 << (len(self.widths) - 1))

    @property
    def layers(self) -> int:
        """L, the rows of w+."""
        return 2 * len(self.widths)

    @property
    def noise_sizes(self) -> list[int]:
        """Height and width of each noise map, in order."""
        return [4 << ((index + 1) // 2) for index in range(self.layers - 1)]


class Mapping(nn.Module):
    """z/√(mean z² + ε), then layers of √2·LeakyReLU: (B, D) to (B, D)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                EqualLinear(config.style_dim, config.style_dim, multiplier=config.mapping_multiplier, activate=True)
                for _ in range(config.mapping_layers)
            )
        )

    def forward(self, z: Tensor) -> Tensor:
        """z ~ N(0, I) of shape (B, D) to w (B, D)."""
        return cast(Tensor, self.layers(z * (z.square().mean(1, keepdim=True) + EPS).rsqrt()))


class SynthesisBlock(nn.Module):
    """The convolutions of one resolution, one in the first block and two in the others, and their RGB picture."""

    def __init__(self, index: int, config: GeneratorConfig) -> None:
        super().__init__()
        width, size, style_dim = config.widths[index], 4 << index, config.style_dim
        convs = [StyledConv(width, width, style_dim, size, up=False)]
        if index:
            convs.insert(0, StyledConv(config.widths[index - 1], width, style_dim, size, up=True))
        self.convs = nn.ModuleList(convs)
        self.rgb = ToRGB(width, style_dim)

    def forward(
        self, x: Tensor, skip: Tensor | None, w: Tensor, noises: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Features and skip picture of the block before; w (B, convolutions + 1, D); a noise map a convolution."""
        for conv, row, noise in zip(self.convs, w.unbind(1)[:-1], noises, strict=True):
            x = conv(x, row, noise)
        picture: Tensor = self.rgb(x, w[:, -1])
        return x, picture if skip is None else picture + upsample(skip)


class Generator(nn.Module):
    """z → w → picture; the two halves and every cut between two blocks can be used alone."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.constant = nn.Parameter(torch.randn(1, config.widths[0], 4, 4))
        self.blocks = nn.ModuleList(SynthesisBlock(index, config) for index in range(len(config.widths)))

    def forward(self, z: Tensor, noises: Sequence[Tensor] | None = None) -> Tensor:
        """Pictures of latents z ~ N(0, I), (B, D) to (B, 3, H, H): mostly in [0, 1], not clamped."""
        return self.synthesise(self.styles(z), noises)

    def styles(self, z: Tensor) -> Tensor:
        """z (B, D) to w+ (B, L, D), the same w in every row."""
        w: Tensor = self.mapping(z)
        return w.unsqueeze(1).expand(-1, self.config.layers, -1)

    def synthesise(self, w: Tensor, noises: Sequence[Tensor] | None = None) -> Tensor:
        """Pictures of w+ (B, L, D), with noise maps (B, 1, h, h) or the network's own; (B, 3, H, H), not clamped."""
        return (self.run(w, noises)[1] + 1) / 2

    def run(
        self,
        w: Tensor,
        noises: Sequence[Tensor] | None = None,
        first: int = 0,
        last: int | None = None,
        features: Tensor | None = None,
        skip: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run blocks first … last − 1.

        Args:
            w: w+ (B, L, D), all rows.
            noises: all maps, number i of shape (B or 1, 1, h_i, h_i); None for those stored in the network.
            first: the block to start with.
            last: the block to stop before; None for the end.
            features: what the block before ``first`` gave, (B, C, h, h); None at block 0.
            skip: the RGB picture before ``first``, (B, 3, h, h) in −1 … 1; None at block 0.

        Returns:
            Features and RGB picture, −1 … 1 and not clamped, after the last block run.

        Raises:
            ValueError: no features or no skip picture for a start after block 0.
        """
        if first and (features is None or skip is None):
            raise ValueError(f"a start at block {first} needs the features and the skip picture of block {first - 1}")
        x = self.constant.expand(len(w), -1, -1, -1) if features is None else features
        picture = skip
        for index in range(first, len(self.blocks) if last is None else last):
            begin, end = max(2 * index - 1, 0), 2 * index + 1
            own = [None] * (end - begin) if noises is None else noises[begin:end]
            x, picture = self.blocks[index](x, picture, w[:, begin : end + 1], own)
        if picture is None:
            raise ValueError("no block to run")
        return x, picture
