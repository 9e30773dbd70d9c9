"""Doubling and halving of feature maps with the filter [1, 3, 3, 1]/8 along each axis.

Each of the three is a depthwise convolution with f⊗f, zeros outside, and keeps the dtype it is given. All take and
return (B, C, H, W). Source: Karras et al., arXiv:1912.04958, appendix B, after Zhang, arXiv:1904.11486.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FILTER = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


def _kernel(x: Tensor, gain: float) -> Tensor:
    taps = torch.tensor(FILTER, dtype=x.dtype, device=x.device)
    return (gain * taps[:, None] * taps).expand(x.shape[1], 1, -1, -1)


def blur(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """gain · (f⊗f) * x with ``pad`` zeros on every side: H to H + 2·pad − 3."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, _kernel(x, gain), padding=pad, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Insert zeros between samples, then filter with gain 4: H to 2H, a constant stays itself inside."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv_transpose2d(x, _kernel(x, 4.0), stride=2, padding=1, groups=x.shape[1])


def downsample(x: Tensor) -> Tensor:
    """Filter, then keep every second sample: H to H/2. (A depthwise stride of 2 has a slow gradient on CPUs.)"""
    return blur(x, pad=1)[..., ::2, ::2]
