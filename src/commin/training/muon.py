r"""Muon: momentum whose matrices are made orthogonal before the step; AdamW for everything that is no matrix.

For a kernel read as a matrix G (out, in·k·k): m ← μ·m + (1 − μ)·G, n = (1 − μ)·G + μ·m, and
W ← W − lr·0.2·√max(out, in·k·k)·UVᵀ with n = USVᵀ, where UVᵀ comes from five Newton–Schulz steps, in
bfloat16 where the device is quick at it. The factor gives steps the size of AdamW's, so that one learning rate serves
both.

Sources: Jordan et al., Muon, 2024 (kellerjordan.github.io/posts/muon); Liu et al., arXiv:2502.16982 (the factor).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from commin.precision import fast_dtype
from commin.training import ranks

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of X ← aX + (bA + cA²)X with A = XXᵀ: singular values of (0, 1] go to about 1."""

MIN_SIDE = 16
"""Smaller matrices are left to AdamW."""


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """About UVᵀ of each matrix USVᵀ: (N, m, n), any scale, to float32 (N, m, n)."""
    a, b, c = COEFFICIENTS
    x = matrices.to(fast_dtype(matrices.device))
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: a matrix or kernel, no stack of matrices, both sides at least `MIN_SIDE`."""
    return parameter.ndim in (2, 4) and min(parameter.shape[0], parameter[0].numel()) >= MIN_SIDE


class Muon(torch.optim.Optimizer):
    """Muon for the matrices of a network and AdamW for the rest, at one learning rate."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        every = list(parameters)
        groups = [
            {"params": [p for p in every if is_matrix(p)], "matrices": True},
            {"params": [p for p in every if not is_matrix(p)], "matrices": False},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "momentum": 0.95, "betas": betas, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; closures are not called."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for parameter in parameters:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
            if parameters:
                (self._matrices if group["matrices"] else self._adam)(parameters, group)

    def _matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Each rank of a job makes its share of the steps, and all take all of them."""
        aheads = []
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            average = state.setdefault("average", torch.zeros_like(parameter)).lerp_(gradient, 1 - group["momentum"])
            aheads.append(gradient.lerp(average, group["momentum"]).flatten(1))
        counts = [ahead.numel() for ahead in aheads]
        every = torch.zeros(sum(counts), device=aheads[0].device)  # sent as it is, no copy
        steps = [part.view(ahead.shape) for part, ahead in zip(every.split(counts), aheads, strict=True)]
        by_shape: dict[torch.Size, list[int]] = {}
        for index in ranks.pieces([count * min(ahead.shape) for count, ahead in zip(counts, aheads, strict=True)]):
            by_shape.setdefault(aheads[index].shape, []).append(index)
        for indices in by_shape.values():
            for index, step in zip(indices, orthogonalize(torch.stack([aheads[i] for i in indices])), strict=True):
                steps[index].copy_(step)
        ranks.sum_here(every)
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.add_(step.view_as(parameter), alpha=-group["lr"] * 0.2 * max(step.shape) ** 0.5)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state.update(count=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
            state["count"] += 1
            state["mean"].lerp_(gradient, 1 - first)
            state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
            root = (state["square"] / (1 - second ** state["count"])).sqrt() + 1e-8
            parameter.addcdiv_(state["mean"], root, value=-group["lr"] / (1 - first ** state["count"]))
