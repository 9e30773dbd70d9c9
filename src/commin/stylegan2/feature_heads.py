"""Heads that tell real from generated pictures by what a trained, frozen network sees in them.

A discriminator that learns from few pictures needs long before it sees more than colours; ImageNet's features hold
textures and shapes from the first step. The heads are small and spectrally normalised, the network is never trained.

Sources: Kumari et al., arXiv:2112.09130 (trained networks beside the discriminator); Sauer et al., arXiv:2111.01007
(heads at several depths); Miyato et al., arXiv:1802.05957 (spectral normalisation).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from commin.metrics.backbones import BACKBONES, Backbone
from commin.stylegan2.layers import SLOPE, minibatch_std

NETWORK = "squeeze"
TAPS = (1, 2, 6)
"""Of the layers that LPIPS reads, those with heads: at 1/2, 1/4 and 1/8 of the picture's size."""


class FeatureHead(nn.Sequential):
    """Features (B, C, h, w) to logits (B, 1, ⌈h/2⌉, ⌈w/2⌉)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            spectral_norm(nn.Conv2d(channels, width, 1)),
            nn.LeakyReLU(SLOPE),
            spectral_norm(nn.Conv2d(width, width, 3, stride=2, padding=1)),
            nn.LeakyReLU(SLOPE),
            spectral_norm(nn.Conv2d(width, 1, 1)),
        )


def look(images: Tensor, backbone: Backbone) -> list[Tensor]:
    """Features (B, C_i, H_i, W_i) of pictures in twice their size, scaled to length √C_i at each position."""
    features = backbone(F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False))
    return [F.normalize(features[tap], dim=1) * features[tap].shape[1] ** 0.5 for tap in TAPS]


class FeatureHeads(nn.Module):
    """A head for each of `TAPS`; the network itself is given with the pictures and is no part of the state.

    A head reads the features that `look` finds and their spread over ``group`` pictures, without which a generator that
    makes one face only would pass.
    """

    def __init__(self, width: int, group: int) -> None:
        super().__init__()
        self.group = group
        self.heads = nn.ModuleList(FeatureHead(BACKBONES[NETWORK][2][tap] + 1, width) for tap in TAPS)

    def forward(self, images: Tensor, backbone: Backbone) -> list[Tensor]:
        """Pictures (B, 3, H, W) in [0, 1] to logits (B, positions), a tensor for each head."""
        logits = []
        for x, head in zip(look(images, backbone), self.heads, strict=True):
            spread = minibatch_std(x, self.group).to(x.dtype).expand(-1, 1, *x.shape[2:])
            logits.append(head(torch.cat([x, spread], dim=1)).flatten(1))
        return logits
