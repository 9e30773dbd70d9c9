"""From pictures back to latents: an encoder that a generator is trained with, and what both are held to.

A generator trained against a discriminator alone soon makes every face alike, and learns slowly not to. With an
encoder E it must show its training pictures again, x̂ = G(E(x)), and its pictures must tell their latents, E(G(z)) = z:

    4·MSE(x̂, x) + LPIPS(x̂, x) + λ·‖E(G(z)) − z‖²/D.

Sources: Larsen et al., arXiv:1512.09300 (reconstruction beside the adversarial loss); Srivastava et al.,
arXiv:1705.07761 (E(G(z)) against collapse).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commin.metrics.backbones import BACKBONES, Backbone
from commin.stylegan2.feature_heads import NETWORK, look
from commin.stylegan2.layers import EqualConv, EqualLinear

TAPS = (2, 6)
"""Of the layers that LPIPS reads, those that are encoded: at 1/4 and 1/8 of the picture's size."""

WIDTH, CELLS = 64, 8


class Encoder(nn.Module):
    """Pictures (B, 3, H, H) in [0, 1] to latents (B, D), through a frozen network that is given with them."""

    def __init__(self, style_dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(EqualConv(BACKBONES[NETWORK][2][tap], WIDTH, 1) for tap in TAPS)
        self.hidden = EqualLinear(len(TAPS) * WIDTH * CELLS**2, style_dim, activate=True)
        self.latent = EqualLinear(style_dim, style_dim)

    def forward(self, images: Tensor, backbone: Backbone) -> Tensor:
        """E(x)."""
        features = look(images, backbone, TAPS)
        cells = [F.adaptive_avg_pool2d(conv(x), CELLS) for x, conv in zip(features, self.convs, strict=True)]
        return cast(Tensor, self.latent(self.hidden(torch.cat(cells, dim=1).flatten(1))))
