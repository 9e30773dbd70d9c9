"""Layers with equalised learning rate, plain and modulated by a style, and the spread over a minibatch.

Weights are stored at unit variance and scaled where they are used, so that one learning rate suits all of them. An
activation is √2·LeakyReLU(x) with slope 0.2, which keeps the variance; as LeakyReLU(√2·x) = √2·LeakyReLU(x), the gain
is put into the weights and costs nothing.

Sources: Karras et al., arXiv:1710.10196 (equalised learning rate, minibatch standard deviation), arXiv:1912.04958
(modulation, demodulation).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commin.stylegan2.resample import blur

SLOPE = 0.2
GAIN = math.sqrt(2.0)
EPS = 1e-8


class EqualLinear(nn.Module):
    """y = (m/√in)·W x + m·b with learning rate multiplier m; then √2·LeakyReLU with ``activate``.

    In the dtype of the weights, whatever the autocast.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: float = 0.0, multiplier: float = 1.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.activate, self.multiplier = activate, multiplier * (GAIN if activate else 1.0)
        self.scale = self.multiplier / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        with torch.autocast(x.device.type, enabled=False):
            y = F.linear(x.to(self.weight.dtype), self.weight * self.scale, self.bias * self.multiplier)
            return F.leaky_relu(y, SLOPE) if self.activate else y


class EqualConv(nn.Module):
    """gain·(W x/√fan_in + b), kernel×kernel, same size or filtered and halved; then LeakyReLU with ``activate``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, gain: float = GAIN, down: bool = False, activate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain, self.scale = gain, gain / math.sqrt(inputs * kernel**2)
        self.kernel, self.down, self.activate = kernel, down, activate

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W), or half of H and W."""
        weight, bias = self.weight * self.scale, self.bias * self.gain
        if self.down:
            y = F.conv2d(blur(x, pad=(self.kernel + 1) // 2), weight, bias, stride=2)
        else:
            y = F.conv2d(x, weight, bias, padding=self.kernel // 2)
        return F.leaky_relu(y, SLOPE) if self.activate else y


class ModulatedConv(nn.Module):
    r"""Convolution with a kernel made for each picture from its style s = A(w):

    w'_oik = s_i · w_oik,   w''_oik = w'_oik / √(Σ_ik w'_oik² + ε).

    Scaling the input by s and the output by d_o = (Σ_i s_i² Σ_k w_oik² + ε)^(−1/2) is the same thing and needs no
    kernel per picture. The scale of the weights (equalised learning rate) is put into s, which is smaller. With ``up``
    the convolution is transposed with stride 2 and then filtered: H to 2H.

    Source: arXiv:1912.04958, eqs. (1) to (3).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style_dim: int, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.style = EqualLinear(style_dim, inputs, bias=1.0)
        self.scale = 1.0 / math.sqrt(inputs * kernel**2)
        self.kernel, self.up, self.demodulate = kernel, up, demodulate

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve, leaving the last scaling to whoever adds what comes next.

        Args:
            x: features (B, inputs, H, W).
            w: style vectors (B, style_dim).

        Returns:
            The features (B, outputs, H or 2H, …) before demodulation, and d (B, outputs, 1, 1) to multiply them by.
        """
        styles: Tensor = self.style(w) * self.scale
        y = x * styles[..., None, None].to(x.dtype)
        if self.up:
            y = blur(F.conv_transpose2d(y, self.weight.transpose(0, 1), stride=2), pad=1, gain=4.0)
        else:
            y = F.conv2d(y, self.weight, padding=self.kernel // 2)
        return y, self._demodulation(styles)[..., None, None]

    def _demodulation(self, styles: Tensor) -> Tensor:
        if not self.demodulate:
            return styles.new_ones(len(styles), len(self.weight))
        with torch.autocast(styles.device.type, enabled=False):
            return (styles.square() @ self.weight.square().sum((2, 3)).T + EPS).rsqrt()


class StyledConv(nn.Module):
    """√2·LeakyReLU(conv(x, w) + strength·noise + b), 3×3, at twice the size with ``up``.

    ``noise`` (1, 1, H, W) is the map used where none is given.
    """

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, style_dim: int, size: int, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, size, size))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Features (B, inputs, …), styles (B, style_dim), noise (B, 1, H, W) or None to (B, outputs, H, W)."""
        y, d = self.conv(x, w)
        grain = (self.noise if noise is None else noise) * (GAIN * self.strength)
        y = torch.addcmul((GAIN * self.bias)[:, None, None].to(y.dtype), y, (GAIN * d).to(y.dtype))
        return F.leaky_relu(y + grain.to(y.dtype), SLOPE)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution to three channels, without demodulation; float (B, 3, H, W), −1 … 1 in all."""

    def __init__(self, inputs: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Features (B, inputs, H, W) and styles (B, style_dim) to a picture (B, 3, H, W) in the weights' dtype."""
        y: Tensor = self.conv(x, w)[0].to(self.bias.dtype)
        return y + self.bias[:, None, None]


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """One number a row: the standard deviation of each feature over a group of rows, averaged over C, H and W.

    Args:
        x: features (B, C, H, W).
        group: rows a group, the largest divisor of B up to this number; B/group groups, row i in group i mod (B/group).

    Returns:
        (B, 1, 1, 1), float32 or better; √ε for groups of one.
    """
    size = next(n for n in range(min(group, len(x)), 0, -1) if len(x) % n == 0)
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    grouped = wide.reshape(size, -1, *x.shape[1:])
    spread = ((grouped - grouped.mean(0)).square().mean(0) + EPS).sqrt().mean((1, 2, 3))
    return spread.repeat(size).view(-1, 1, 1, 1)
