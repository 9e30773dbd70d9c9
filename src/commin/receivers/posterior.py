r"""E[x | x_t, y] from E[x | x_t] by one more call of the denoiser, without a gradient through it.

    Cov[x | x_t] = κ·J,  J = ∂D/∂x_t of the denoiser D,  κ = (1−ᾱ)/√ᾱ:  Tweedie's formula, of second order.

So for what is measured, y = c(x) + e with e ~ N(0, σ²·I), and c linear about x0 = D(x_t) with derivative C,

    E[x | x_t, y] = x0 + κ·J·Cᵀ·z,   (κ·C·J·Cᵀ + σ²·I)·z = y − c(x0),

J being symmetric. z is one iteration of conjugate gradients, a multiple of r = y − c(x0), where ⟨r, C·J·Cᵀ·r⟩ is
⟨Cᵀ·r, J·Cᵀ·r⟩, and J·v the difference of two calls, (D(x_t + δ·v) − D(x_t))/δ. Source: Tweedie moment projection (Boys
et al., arXiv:2310.06721).
"""

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from commin.diffusion.guidance import row_norms
from commin.diffusion.sampler import Denoiser
from commin.diffusion.schedule import Schedule

STEP = 0.02
"""‖δ·v‖/‖x‖ of a difference: small for the network, large for bfloat16."""

TINY = 1e-12


def posterior_mean(
    denoise: Denoiser, schedule: Schedule, coarse: Callable[[Tensor], Tensor], y: Tensor, noise: Tensor
) -> Denoiser:
    """D_y: x_t (R, 3, H, W) and t (R,) to about E[x | x_t, y], by two calls of D.

    Args:
        denoise: D, x_t and t to x0.
        schedule: ᾱ.
        coarse: c, pictures (R, 3, H, W) in [−1, 1] to what is measured of them; a gradient goes through it.
        y: what was measured.
        noise: σ² of each row, (R,), above 0.
    """

    def mean(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = denoise(x_t, t)
        with torch.enable_grad():
            variable = x0.detach().requires_grad_()
            guess = coarse(variable)
            residual = y - guess.detach()
            (pulled,) = torch.autograd.grad(guess, variable, residual)  # Cᵀ·r
        spread = schedule.noise(t) / schedule.signal(t).sqrt()
        moved = spread * derivative(lambda x: denoise(x, t), x_t, x0, pulled)
        seen = products(pulled, moved).clamp_min(0)
        power = products(residual, residual)
        share = power / (seen + _rows(noise) * power).clamp_min(TINY)
        return x0 + share * moved

    return mean


def for_first(steps: int, first: Denoiser, then: Denoiser) -> Denoiser:
    """One denoiser for so many calls, another for all that follow."""
    number = count()
    return lambda x_t, t: (first if next(number) < steps else then)(x_t, t)


def derivative(function: Callable[[Tensor], Tensor], x: Tensor, value: Tensor, direction: Tensor) -> Tensor:
    """About the derivative of a function at x, where it has this value, along a direction: all (R, …)."""
    step = STEP * _rows(row_norms(x) / row_norms(direction).clamp_min(TINY))
    return (function(x + step * direction) - value) / step


def products(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ of each row, (R, 1, 1, 1)."""
    return _rows((a * b).flatten(1).sum(1))


def _rows(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]
