"""Gradient guidance: steer x_t so that the picture estimated from it agrees with what was received."""

from collections.abc import Callable

import torch
from torch import Tensor

from commin.diffusion.sampler import Denoiser

Distance = Callable[[Tensor], Tensor]
"""x0 (B, 3, H, W) to how far each picture is from what was received, (B,)."""


def distance_gradient(denoise: Denoiser, distance: Distance, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """∇_{x_t} distance(x0|t(x_t)) for each picture, through the distance and the denoiser.

    Source: DPS (arXiv:2209.14687), algorithm 1.

    Args:
        denoise: x_t and t to x0.
        distance: of x0.
        x_t: (B, 3, H, W).
        t: (B,).

    Returns:
        x0 and the gradient, both (B, 3, H, W) and detached, and the distances (B,).
    """
    with torch.enable_grad():
        variable = x_t.detach().requires_grad_()
        x0 = denoise(variable, t)
        distances = distance(x0)
        (gradient,) = torch.autograd.grad(distances.sum(), variable)
    return x0.detach(), gradient, distances.detach()


def norm_gradient(
    denoise: Denoiser, residual: Callable[[Tensor], Tensor], x_t: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`distance_gradient` of ‖r(x0)‖₂, the norm of each picture's residual (B, …), not squared.

    Source: the last line of CommIN's (arXiv:2310.01130) algorithm 1.
    """
    return distance_gradient(denoise, lambda x0: row_norms(residual(x0)), x_t, t)


def row_norms(x: Tensor) -> Tensor:
    """‖·‖₂ of each row: (B, …) to (B,)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)
