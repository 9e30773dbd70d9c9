"""3×3 convolutions by Winograd's algorithm F(4×4, 3×3): float32 on a CPU.

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A   for each tile of 6×6 samples x, which overlap by 2, to one of 4×4 samples y

The sum over input channels makes ⊙ 36 matrix products, a quarter of the multiplications of the plain sum. The result
is that of the plain sum but for rounding, about 1e-5 of its largest value.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks" (arXiv:1509.09308).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

NUMBERS = 1 << 18
"""Numbers transformed at a time, of inputs or outputs, whichever are more, so that they stay in the cache."""

LEAST = 2048
"""Samples of a batch's plane from which on the kernels, which are transformed each time, are paid for."""

Matrix = list[list[float]]

B: Matrix = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]  # fmt: skip
G: Matrix = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
     [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]  # fmt: skip
A: Matrix = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def quicken(network: nn.Module) -> None:
    """Let the 3×3 convolutions of a network that gain by it go this way, wherever they compute in float32 on a CPU."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and gains(layer):
            layer.__class__ = WinogradConv2d


def gains(layer: nn.Conv2d) -> bool:
    """Whether a layer is a 3×3 convolution that keeps the size, with channels enough to pay for the transforms."""
    plain = (layer.kernel_size, layer.stride, layer.dilation) == ((3, 3), (1, 1), (1, 1)) and layer.groups == 1
    inputs, outputs = layer.in_channels, layer.out_channels
    same = layer.padding == (1, 1) and layer.padding_mode == "zeros"
    return plain and same and inputs * outputs >= 32 * (inputs + outputs)


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution that is computed this way where that is possible and quick, else the plain way.

    Possible where both sides are multiples of 4; quick in float32 on a CPU, on a batch that pays for the kernels.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        count, _, height, width = input.shape
        float32 = input.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(input.device.type)
        if height % 4 or width % 4 or count * height * width < LEAST or input.device.type != "cpu" or not float32:
            return super()._conv_forward(input, weight, bias)
        out: Tensor = Winograd.apply(input, weight, bias)  # type: ignore[no-untyped-call]
        return out


class Winograd(torch.autograd.Function):
    """(B, C, H, W) with weights (D, C, 3, 3), bias (D) to (B, D, H, W), channels last; H and W multiples of 4."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        images = channels_last(images)
        ctx.save_for_backward(images, weight)
        return convolve(images, weight, bias).movedim(3, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """A convolution with the kernels turned round, and a correlation, both this way as well."""
        images, weight = ctx.saved_tensors
        gradient = channels_last(gradient)
        to_images = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_images = convolve(gradient, weight.flip(2, 3).transpose(0, 1)).movedim(3, 1)
        if ctx.needs_input_grad[1]:
            to_weight = correlate(images, gradient)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum((0, 1, 2))
        return to_images, to_weight, to_bias


def channels_last(images: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C), contiguous."""
    return images.movedim(1, 3).contiguous()


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(B, H, W, C) with weights (D, C, 3, 3), bias (D) to (B, H, W, D)."""
    (count, height, width, _), (outputs, inputs) = images.shape, weight.shape[:2]
    kernels = on_planes(G, weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, inputs, outputs)
    made = images.new_empty(count, height, width, outputs)
    for part, out in chunks(images, made):
        products = torch.bmm(on_planes(B, overlapping(part)).view(36, -1, inputs), kernels)
        shape = (4, 4, len(part), height // 4, width // 4, outputs)
        found = on_planes(A, products.view(36, -1)).view(shape)
        tiles(out).copy_(found if bias is None else found.add_(bias))
    return made


def correlate(images: Tensor, gradient: Tensor) -> Tensor:
    """The gradient (D, C, 3, 3) of the weights, from inputs (B, H, W, C) and the gradient of what they became."""
    inputs, outputs = images.shape[-1], gradient.shape[-1]
    kernels = images.new_zeros(36, inputs, outputs)
    for part, change in chunks(images, gradient):
        before = on_planes(B, overlapping(part)).view(36, -1, inputs)
        after = on_planes(A, tiles(change).reshape(16, -1), back=True).view(36, -1, outputs)
        kernels.baddbmm_(before.transpose(1, 2), after)
    return on_planes(G, kernels.view(36, -1), back=True).view(3, 3, inputs, outputs).permute(3, 2, 0, 1)


def chunks(inputs: Tensor, outputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """As many images of both (B, H, W, C) at a time as stay in the cache."""
    count = max(1, NUMBERS // max(inputs[0].numel(), outputs[0].numel()))
    return zip(inputs.split(count), outputs.split(count), strict=True)


def overlapping(images: Tensor) -> Tensor:
    """(B, H, W, C) to its tiles of 6×6 samples, 4 apart, as (36, B·H/4·W/4·C); zeros beyond the edges."""
    padded = F.pad(images, (0, 0, 1, 1, 1, 1))
    return padded.unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3).reshape(36, -1)


def tiles(images: Tensor) -> Tensor:
    """A view of (B, H, W, C) as tiles of 4×4 samples, (4, 4, B, H/4, W/4, C)."""
    return images.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).permute(2, 4, 0, 1, 3, 5)


def on_planes(matrix: Matrix, planes: Tensor, back: bool = False) -> Tensor:
    """A matrix m on both sides of square tiles, m t mᵀ, or mᵀ t m ``back``; tiles are the columns of ``planes``."""
    m = planes.new_tensor(matrix)
    m = m.T if back else m
    return torch.kron(m, m) @ planes.reshape(m.shape[1] ** 2, -1)
