"""LPIPS v0.1, the learned perceptual distance (Zhang et al., arXiv:1801.03924), without torchvision.

Backbone weights are third-party files that are looked up, never bundled and never replaced by random ones; the linear
heads come with the torchmetrics package.
"""

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from commin.errors import UserError
from commin.metrics.backbones import BACKBONES, Backbone
from commin.zoo.fetch import MissingFileError, find

SMALLEST = 32
"""Pixels a side of the smallest pictures that records give an LPIPS of."""


class Lpips(nn.Module):
    r"""d(a, b) = Σ_l mean_{h,w} Σ_c w_{l,c}·(â_{l,c} − b̂_{l,c})², features scaled to unit length at each position.

    Lower is better; 0 for equal pictures. Values depend on the backbone and the picture size: state both.
    """

    def __init__(self, backbone: Backbone, heads: list[Tensor]) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = f"lpips-{backbone.name}"
        for index, head in enumerate(heads):
            self.register_buffer(f"head{index}", head)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of images a and b, (B, 3, H, W) in [0, 1]; differentiable in both.

        The reference implementation's own centring of [−1, 1] pictures is ImageNet's mean and deviation of [0, 1]
        ones to three digits ((−.030, −.088, −.188) and (.458, .448, .450)); these digits are used.

        Raises:
            ValueError: shapes differ or are no images.
        """
        if a.shape != b.shape or a.ndim != 4:
            raise ValueError(
                f"lpips: two batches of the same shape (B, 3, H, W), got {tuple(a.shape)}, {tuple(b.shape)}"
            )
        return self.distance(self.backbone(a), self.backbone(b))

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """The same from what the backbone gives of each, for pictures that are compared more than once: (B,)."""
        total = torch.zeros(len(a[0]), device=a[0].device)
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            difference = (_unit(x) - _unit(y)).square()
            total = total + (difference * self.get_buffer(f"head{index}")).sum(1).mean((1, 2))
        return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-8)


@functools.cache
def load_lpips(name: str = "squeeze") -> Lpips:
    """LPIPS with the backbone ``squeeze``, ``alex`` or ``vgg``, on the CPU.

    Raises:
        UserError: an unknown backbone.
        MissingFileError: its weights are nowhere to be found; the message says where they were looked for.
    """
    if name not in BACKBONES:
        raise UserError(f"LPIPS backbone {name!r}: choose {', '.join(BACKBONES)}")
    backbone = load_backbone(name)
    # The digits of the reference implementation, in [0, 1] terms: (x·2 − 1 − shift)/scale.
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    backbone.mean.copy_(((1 + shift) / 2).view(1, 3, 1, 1))
    backbone.deviation.copy_((scale / 2).view(1, 3, 1, 1))
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise MissingFileError("the torchmetrics package, which carries LPIPS's linear heads, is not installed")
    path = Path(spec.origin).parent / "functional" / "image" / "lpips_models" / f"{name}.pth"
    stored = torch.load(path, map_location="cpu", weights_only=True)
    heads = [stored[f"lin{index}.model.1.weight"].float() for index in range(len(backbone.channels))]
    return Lpips(backbone, heads).requires_grad_(False).eval()


def load_backbone(name: str) -> Backbone:
    """An ImageNet backbone with its published weights, whole or cut to the ``features`` part.

    Raises:
        MissingFileError: its weights are nowhere to be found.
    """
    path = find(f"lpips-{name}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        stored = load_file(path)
    else:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    backbone = Backbone(name)
    backbone.load_state_dict({key: value.float() for key, value in stored.items() if key.startswith("features.")})
    return backbone


def try_lpips(name: str = "squeeze") -> Lpips | None:
    """`load_lpips`, or None where the backbone's weights are not to be had."""
    try:
        return load_lpips(name)
    except MissingFileError:
        return None
