"""Lifting: a map on pairs (c, d) that is undone exactly, whatever the networks inside are.

    d ← d − P_i(c),  c ← c + U_i(d)   for i = 1 … n;   the inverse takes the same steps back with the signs changed.

Source: WINNet (Huang and Dragotti, IEEE TIP 2022), as used by INDigo (arXiv:2306.02949).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STATE = 32
"""Numbers that describe the SNR to every network."""


class Block(nn.Module):
    """h + conv1×1(LeakyReLU(a ∘ conv3×3(LeakyReLU(conv1×1 h)) + b)), half the width inside; (a, b) from the state.

    Channels come last here, where a convolution of one sample is a matrix product, quicker as such on small pictures.
    """

    def __init__(self, width: int, conditioned: bool) -> None:
        super().__init__()
        half = width // 2
        self.narrow, self.widen = nn.Conv2d(width, half, 1), nn.Conv2d(half, width, 1)
        self.mix = nn.Conv2d(half, half, 3, padding=1)
        self.film = nn.Linear(STATE, 2 * half) if conditioned else None
        if self.film is not None:
            start_at_zero(self.film)

    def forward(self, h: Tensor, state: Tensor | None) -> Tensor:
        """(B, h, w, width) to the same, told the state (B, STATE)."""
        inner = self.mix(F.leaky_relu(each_sample(self.narrow, h)).movedim(3, 1)).movedim(1, 3)
        if self.film is not None:
            gain, shift = self.film(state)[:, None, None].chunk(2, dim=3)
            inner = inner * (1 + gain) + shift
        return h + each_sample(self.widen, F.leaky_relu(inner))


class PlaneNetwork(nn.Module):
    """One P or U: conv1×1, residual blocks, conv1×1 that starts at zero; (B, in, h, w) to (B, out, h, w)."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int, conditioned: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 1)
        self.blocks = nn.ModuleList(Block(width, conditioned) for _ in range(blocks))
        self.last = nn.Conv2d(width, outputs, 1)
        start_at_zero(self.last)

    def forward(self, planes: Tensor, state: Tensor | None) -> Tensor:
        """The prediction or the update in float32, computed in the type of the weights, told the state (B, STATE)."""
        dtype = self.first.weight.dtype
        samples, state = planes.movedim(1, 3).contiguous(), None if state is None else state.to(dtype)
        h = each_sample(self.first, samples.to(dtype))
        for block in self.blocks:
            h = block(h, state)
        return each_sample(self.last, F.leaky_relu(h)).movedim(3, 1).float()


class Lifting(nn.Module):
    """n lifts on planes c (B, C, h, w) and d (B, D, h, w), which stay float32, as rounding grows with every lift."""

    def __init__(self, coarse: int, detail: int, lifts: int, width: int, blocks: int, conditioned: bool) -> None:
        super().__init__()
        self.predict = nn.ModuleList(PlaneNetwork(coarse, detail, width, blocks, conditioned) for _ in range(lifts))
        self.update = nn.ModuleList(PlaneNetwork(detail, coarse, width, blocks, conditioned) for _ in range(lifts))

    def forward(self, c: Tensor, d: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The lifted pair; ``state`` (B, STATE) describes the SNR, None for a network that is not conditioned."""
        for predict, update in zip(self.predict, self.update, strict=True):
            d = d - predict(c, state)
            c = c + update(d, state)
        return c, d

    def inverse(self, c: Tensor, d: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pair that `forward` lifts to (c, d)."""
        for predict, update in zip(reversed(self.predict), reversed(self.update), strict=True):
            c = c - update(d, state)
            d = d + predict(c, state)
        return c, d


def each_sample(layer: nn.Conv2d, planes: Tensor) -> Tensor:
    """A 1×1 convolution of planes with the channels last, (B, h, w, in) to (B, h, w, out)."""
    return F.linear(planes, layer.weight.flatten(1), layer.bias)


def start_at_zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Set weights and bias to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def float32(device: torch.device) -> torch.autocast:
    """A context in which autocast is off."""
    return torch.autocast(device.type, enabled=False)
