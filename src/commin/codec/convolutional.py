"""The network of the paper's ref. [18], layers as in DeepWiVe, SNR-adaptive at both ends.

Encoder: RBS AF RB | RBS AF Attn RB | RBS AF RB | RBS AF Attn. Decoder: Attn RB RBU AF | RB RBU AF | Attn RB RBU AF |
RB RBU AF sigmoid, four stages of stride 2. With ``bottleneck`` further residual blocks of that width work at H/16,
where a pixel is cheap.
"""

import torch
from torch import Tensor, nn

from commin.codec.blocks import Attention, AttentionFeature, ResidualBlock, ResidualBlockDown, ResidualBlockUp
from commin.codec.config import DeepJSCCConfig
from commin.codec.ends import STATES, Decoder, Encoder


class ConvolutionalEncoder(Encoder):
    """RBS AF RB | RBS AF Attn RB | RBS AF RB | RBS AF Attn, and the bottleneck."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__(config)
        w1, w2, w3 = config.widths
        keep = config.lossless_skips
        largest = max(config.latent_channels)
        w4 = config.bottleneck or largest
        self.down1, self.gate1, self.block1 = (
            ResidualBlockDown(3, w1, keep),
            AttentionFeature(w1, STATES),
            ResidualBlock(w1),
        )
        self.down2, self.gate2 = ResidualBlockDown(w1, w2, keep), AttentionFeature(w2, STATES)
        self.mix2 = nn.Sequential(Attention(w2), ResidualBlock(w2))
        self.down3, self.gate3, self.block3 = (
            ResidualBlockDown(w2, w3, keep),
            AttentionFeature(w3, STATES),
            ResidualBlock(w3),
        )
        self.down4, self.gate4, self.mix4 = ResidualBlockDown(w3, w4, keep), AttentionFeature(w4, STATES), Attention(w4)
        self.project = (
            nn.Sequential(*(ResidualBlock(w4) for _ in range(config.bottleneck_blocks)), nn.Conv2d(w4, largest, 1))
            if config.bottleneck
            else nn.Identity()
        )

    def analysis(self, x: Tensor, state: Tensor) -> Tensor:
        """The layers."""
        x = self.block1(self.gate1(self.down1(x), state))
        x = self.mix2(self.gate2(self.down2(x), state))
        x = self.block3(self.gate3(self.down3(x), state))
        latent: Tensor = self.project(self.mix4(self.gate4(self.down4(x), state)))
        return latent


class ConvolutionalDecoder(Decoder):
    """The bottleneck, and Attn RB RBU AF | RB RBU AF | Attn RB RBU AF | RB RBU AF sigmoid."""

    def __init__(self, config: DeepJSCCConfig) -> None:
        super().__init__(config)
        w1, w2, w3 = config.widths
        largest = max(config.latent_channels)
        w4 = config.bottleneck or largest
        self.expand = nn.Conv2d(largest, w4, 1) if config.bottleneck else nn.Identity()
        self.gate4 = AttentionFeature(w4, STATES) if config.bottleneck else None
        self.mix4 = nn.Sequential(Attention(w4), *(ResidualBlock(w4) for _ in range(config.bottleneck_blocks)))
        self.up4, self.gate3, self.block3 = ResidualBlockUp(w4, w3), AttentionFeature(w3, STATES), ResidualBlock(w3)
        self.up3, self.gate2 = ResidualBlockUp(w3, w2), AttentionFeature(w2, STATES)
        self.mix2 = nn.Sequential(Attention(w2), ResidualBlock(w2))
        self.up2, self.gate1, self.block1 = ResidualBlockUp(w2, w1), AttentionFeature(w1, STATES), ResidualBlock(w1)
        self.up1, self.gate0 = ResidualBlockUp(w1, 3), AttentionFeature(3, STATES)

    def synthesis(self, x: Tensor, state: Tensor) -> Tensor:
        """The layers."""
        x = self.expand(x)
        if self.gate4 is not None:
            x = self.gate4(x, state)
        x = self.block3(self.gate3(self.up4(self.mix4(x)), state))
        x = self.mix2(self.gate2(self.up3(x), state))
        x = self.block1(self.gate1(self.up2(x), state))
        x = self.gate0(self.up1(x), state)
        return torch.sigmoid(x.float())
