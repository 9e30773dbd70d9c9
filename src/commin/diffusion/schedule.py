"""How much of a picture is left at each step: x_t = √ᾱ_t·x + √(1−ᾱ_t)·n with ᾱ_t = Π (1 − β_i).

t counts as the network does, from 0 (least noise) to T − 1 (almost nothing but noise), and −1 is the picture itself:
the paper's step t is t − 1 here. Wherever a t is asked for it may differ from row to row.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

Spacing = Literal["uniform", "logsnr"]

CLEAN = -1
"""The t of a picture without noise."""

TINY = 1e-4
"""Least √ᾱ and √(1−ᾱ) ever divided by."""


class Schedule:
    """ᾱ_t of a trained network, and the formulas that need nothing else."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        kept = alphas_cumprod.detach().double().cpu()
        if kept.ndim != 1 or not bool((kept[:-1] >= kept[1:]).all()) or not 0 <= float(kept[-1]) <= float(kept[0]) <= 1:
            raise ValueError("schedule: ᾱ must fall from at most 1 to at least 0")
        self._kept = torch.cat([torch.ones(1, dtype=torch.float64), kept])

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """The schedule of a diffusers scheduler config: any of its β, trained ones and zero-SNR ones too."""
        from diffusers import DDPMScheduler

        return cls(DDPMScheduler.from_config(dict(config)).alphas_cumprod)

    @property
    def steps(self) -> int:
        """T, the number of noise levels."""
        return len(self._kept) - 1

    def signal(self, t: Tensor) -> Tensor:
        """ᾱ_t for t (B,) int64 in −1 … T − 1, float32 (B, 1, 1, 1) on the device of t; 1 at t = −1."""
        return self._kept.to(t.device)[t + 1].float()[:, None, None, None]

    def noise(self, t: Tensor) -> Tensor:
        """1 − ᾱ_t, as `signal`, without the rounding of 1 − ᾱ in float32."""
        return (1 - self._kept).to(t.device)[t + 1].float()[:, None, None, None]

    def added(self, t: Tensor, s: Tensor) -> Tensor:
        """β = 1 − ᾱ_t/ᾱ_s, the noise that comes in from s to t > s, as `signal`."""
        kept = self._kept.to(t.device)
        return (1 - kept[t + 1] / kept[s + 1]).float()[:, None, None, None]

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t·x + √(1−ᾱ_t)·n for x and n (B, 3, H, W)."""
        return self.signal(t).sqrt() * x + self.noise(t).sqrt() * noise

    def noise_in(self, x_t: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """ε = (x_t − √ᾱ_t·x0)/√(1−ᾱ_t), the noise that x_t holds if x0 is the picture in it."""
        return (x_t - self.signal(t).sqrt() * x0) / self.noise(t).sqrt().clamp_min(TINY)

    def velocity(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """v = √ᾱ_t·n − √(1−ᾱ_t)·x (arXiv:2202.00512)."""
        return self.signal(t).sqrt() * noise - self.noise(t).sqrt() * x

    def half_logsnr(self, t: Tensor) -> Tensor:
        """λ_t = ½·log(ᾱ_t/(1−ᾱ_t)), as `signal`; 20 at t = −1, where it is infinite."""
        return (0.5 * (self.signal(t).clamp_min(TINY**2) / self.noise(t).clamp_min(1e-17)).log()).clamp(max=20.0)

    def timesteps(self, start: int, end: int, count: int, spacing: Spacing = "uniform") -> Tensor:
        """``count`` strictly falling t from ``start`` to ``end``, int64: equal steps of t, or of λ for ``logsnr``.

        Raises:
            ValueError: not T > start ≥ end ≥ 0, or more steps than there are levels between.
        """
        if not 0 <= end <= start < self.steps or not 1 <= count <= start - end + 1:
            raise ValueError(f"schedule: no {count} steps from {start} down to {end} among {self.steps} levels")
        if spacing == "uniform":
            wanted = torch.linspace(start, end, count, dtype=torch.float64).round().long()
        else:
            levels = self.half_logsnr(torch.arange(self.steps)).flatten()
            marks = torch.linspace(float(levels[start]), float(levels[end]), count)
            wanted = (levels[:, None] - marks).abs().argmin(0)
            wanted[0] = start
        order = torch.arange(count)
        return (wanted + order).cummin(0).values.clamp_min(end + count - 1) - order

    def lowest(self, noise_to_signal: float) -> int:
        """The first t with (1−ᾱ_t)/ᾱ_t at or above a ratio of variances; T − 1 if there is none."""
        return int(self.lowest_each(torch.tensor([noise_to_signal], dtype=torch.float64)))

    def lowest_each(self, noise_to_signal: Tensor) -> Tensor:
        """`lowest` of every one of these ratios, (B,), int64."""
        kept = self._kept[1:].to(noise_to_signal.device)
        most = 1 / (1 + noise_to_signal.double())  # ᾱ at that ratio; ᾱ falls with t
        return torch.searchsorted(-kept, -most).clamp(max=self.steps - 1)
