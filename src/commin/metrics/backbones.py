"""The ImageNet networks that perceptual metrics look through, in torchvision's key layout, without torchvision.

Sources: Iandola et al., arXiv:1602.07360 (SqueezeNet 1.1); Krizhevsky, arXiv:1404.5997 (AlexNet); Simonyan and
Zisserman, arXiv:1409.1556 (VGG16).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Fire(nn.Module):
    """SqueezeNet's module: ReLU(1×1 squeeze), then ReLU of a 1×1 and a 3×3 expansion side by side."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The formula above."""
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def _squeeze() -> list[nn.Module]:
    fires = iter([(64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128),
                  (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)])  # fmt: skip
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()]
    for count in (2, 2, 4):
        layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        layers.extend(Fire(*next(fires)) for _ in range(count))
    return layers


def _alex() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _vgg() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


BACKBONES = {
    "squeeze": (_squeeze, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512)),
    "alex": (_alex, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)),
    "vgg": (_vgg, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)),
}
"""Name to (layers, the layers whose outputs LPIPS reads, their channels)."""


class Backbone(nn.Module):
    """The features of one network at LPIPS's layers, for images (B, 3, H, W) in [0, 1]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        make, self.taps, self.channels = BACKBONES[name]
        self.name = name
        self.features = nn.Sequential(*make())
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """One tensor (B, C_i, H_i, W_i) for each of ``channels``; ImageNet's normalisation is applied first."""
        x = (images - self.mean) / self.deviation
        outputs = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                outputs.append(x)
        return outputs

    def pooled(self, images: Tensor) -> Tensor:
        """Mean over height and width of the last layer's features, (B, C): a set-level description of pictures."""
        return pool(self.forward(images))


def pool(features: Sequence[Tensor]) -> Tensor:
    """What `Backbone.pooled` gives, from what `Backbone.forward` gave."""
    return features[-1].mean((2, 3))
