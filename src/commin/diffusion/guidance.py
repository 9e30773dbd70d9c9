"""Gradient guidance: steer x_t so that the picture estimated from it agrees with what was received."""

from collections.abc import Callable

import torch
from torch import Tensor

from commin.diffusion.sampler import Denoiser


def norm_gradient(
    denoise: Denoiser, residual: Callable[[Tensor], Tensor], x_t: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """∇_{x_t} ‖r(x0|t(x_t))‖₂ for each picture, the norm not squared, through r and the denoiser.

    Source: DPS (arXiv:2209.14687), algorithm 1; the last line of CommIN's (arXiv:2310.01130) algorithm 1.

    Args:
        denoise: x_t and t to x0.
        residual: x0 (B, 3, H, W) to what should be zero, (B, …).
        x_t: (B, 3, H, W).
        t: (B,).

    Returns:
        x0 and the gradient, both (B, 3, H, W) and detached, and the norms (B,).
    """
    with torch.enable_grad():
        variable = x_t.detach().requires_grad_()
        x0 = denoise(variable, t)
        norms = torch.linalg.vector_norm(residual(x0).flatten(1), dim=1)
        (gradient,) = torch.autograd.grad(norms.sum(), variable)
    return x0.detach(), gradient, norms.detach()
