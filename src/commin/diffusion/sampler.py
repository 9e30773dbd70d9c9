"""Steps from x_t to x_s, s < t, given an estimate x0 of the picture, however that was made."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from commin.diffusion.schedule import CLEAN, Schedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""x_t (B, 3, H, W) and t (B,) to x0 (B, 3, H, W)."""


def normal(size: Sequence[int], generators: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """N(0, 1) draws, float32 (len(generators), *size): row i from generator i, on the CPU, then moved."""
    return torch.stack([torch.randn(*size, generator=g) for g in generators]).to(device)


def ddpm_step(schedule: Schedule, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
    r"""[√α(1−ᾱ_s)/(1−ᾱ_t)]·x_t + [√ᾱ_s·β/(1−ᾱ_t)]·x0 + σ·n with α = ᾱ_t/ᾱ_s, β = 1 − α, σ² = β(1−ᾱ_s)/(1−ᾱ_t).

    Source: CommIN (arXiv:2310.01130), eq. (10), with σ² = β̃; there s = t − 1. No noise is added at s = −1.
    """
    beta, lost_t, lost_s = schedule.added(t, s), schedule.noise(t), schedule.noise(s)
    mean = ((1 - beta).sqrt() * lost_s * x_t + schedule.signal(s).sqrt() * beta * x0) / lost_t
    return mean + (beta * lost_s / lost_t).sqrt() * noise


def ddim_step(
    schedule: Schedule, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor, noise: Tensor, eta: float = 0.0
) -> Tensor:
    r"""√ᾱ_s·x0 + √(1−ᾱ_s−σ²)·ε + σ·n with ε = (x_t − √ᾱ_t·x0)/√(1−ᾱ_t) and σ² = η²·(1−ᾱ_s)/(1−ᾱ_t)·(1 − ᾱ_t/ᾱ_s).

    η = 0 adds no noise; η = 1 is `ddpm_step`. Source: DDIM (arXiv:2010.02502), eqs. (12) and (16).
    """
    lost_s = schedule.noise(s)
    variance = eta**2 * schedule.added(t, s) * lost_s / schedule.noise(t)
    direction = (lost_s - variance).clamp_min(0).sqrt() * schedule.noise_in(x_t, x0, t)
    return schedule.signal(s).sqrt() * x0 + direction + variance.sqrt() * noise


def second_order(schedule: Schedule, x0: Tensor, previous: Tensor, before: Tensor, t: Tensor, s: Tensor) -> Tensor:
    r"""x0 + (h/2h')·(x0 − x0'), h = λ_s − λ_t, h' = λ_t − λ_before: the x0 with which a DDIM step is of second order.

    x0' is the estimate at the step before. At s = −1, where h is infinite, x0 itself. With η = 1 the step is the
    stochastic variant. Source: DPM-Solver++ (arXiv:2211.01095), algorithm 2.
    """
    h = schedule.half_logsnr(s) - schedule.half_logsnr(t)
    last = schedule.half_logsnr(t) - schedule.half_logsnr(before)
    share = torch.where(s[:, None, None, None] == CLEAN, torch.zeros_like(h), h / (2 * last))
    return x0 + share * (x0 - previous)


def walk(
    schedule: Schedule,
    denoise: Denoiser,
    x: Tensor,
    times: Tensor,
    draw: Callable[[], Tensor],
    eta: float = 0.0,
    order: int = 1,
    correct: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """DDIM from x_t at the first of the times to a picture.

    Args:
        schedule: noise levels.
        denoise: x_t and t to x0; called once for each time.
        x: where to start, (B, 3, H, W).
        times: falling t, (B, N); each row has its own.
        draw: fresh N(0, 1) noise, (B, 3, H, W); called only for η > 0 and never for the last step.
        eta: η, from 0 (deterministic) to 1 (ancestral).
        order: 1, or 2 for `second_order`.
        correct: maps the number of the step, from 0, and its x0 to the x0 that is used.

    Returns:
        x0 of the last step, (B, 3, H, W): where every step to t = −1 leads.
    """
    count = times.shape[1]
    x0 = x
    for step in range(count):
        t = times[:, step]
        previous, x0 = x0, denoise(x, t)
        if correct is not None:
            x0 = correct(step, x0)
        if step + 1 < count:
            s = times[:, step + 1]
            aim = x0 if order == 1 or step == 0 else second_order(schedule, x0, previous, times[:, step - 1], t, s)
            x = ddim_step(schedule, x, aim, t, s, draw() if eta > 0 else torch.zeros_like(x), eta)
    return x0
