"""Distances between sets of pictures on SqueezeNet's pooled features: kernel distance and Fréchet distance.

They are not the KID and FID of Inception features; records and tables name them "squeeze".
"""

import torch
from torch import Tensor


def kernel_distance(a: Tensor, b: Tensor, own_b: float | None = None) -> float:
    r"""Unbiased squared MMD with k(x, y) = (x·y/C + 1)³ of features (N, C) and (M, C); about 0 for equal sets.

    Σ_{i≠j} k(a_i, a_j)/(N(N−1)) + Σ_{i≠j} k(b_i, b_j)/(M(M−1)) − 2·Σ k(a_i, b_j)/(NM).
    ``own_b`` is the second term, `own_kernel` of b, where b is compared with many sets. Source: Bińkowski et al.,
    arXiv:1801.01401.

    Raises:
        ValueError: a set has fewer than two members.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("kernel distance: each set needs two pictures or more")
    second = own_kernel(b) if own_b is None else own_b
    return own_kernel(a) + second - 2 * float(_kernel(a, b).mean())


def own_kernel(x: Tensor) -> float:
    """Σ_{i≠j} k(x_i, x_j)/(N(N−1)) of features (N, C), N ≥ 2."""
    gram = _kernel(x, x)
    return float((gram.sum() - gram.trace()) / (len(x) * (len(x) - 1)))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def frechet_distance(a: Tensor, b: Tensor) -> float:
    r"""‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2(Σ_a Σ_b)^½) of features (N, C) and (M, C).

    The trace of the root is the sum of √ of the eigenvalues of Σ_a Σ_b. Biased upward for few pictures: use equal
    N, of 2,000 or more. Source: Heusel et al., arXiv:1706.08500.
    """
    a, b = a.double(), b.double()
    root = torch.linalg.eigvals(torch.cov(a.T) @ torch.cov(b.T)).real.clamp_min(0).sqrt().sum()
    spread = torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * root
    return float((a.mean(0) - b.mean(0)).square().sum() + spread)
