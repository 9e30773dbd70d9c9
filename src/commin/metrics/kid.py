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


def paired_kernel_distance(made: Tensor, originals: Tensor) -> float:
    r"""Unbiased squared MMD of features (N, C) of pictures and of their originals, in the same order.

    Σ_{i≠j} [k(a_i, a_j) + k(b_i, b_j) − 2·k(a_i, b_j)]/(N(N−1)), with the k of `kernel_distance`. No picture meets its
    own original, to which it is near whatever it looks like; exactly 0 for pictures that are their originals. Source:
    the one-sample statistic of Gretton et al., JMLR 13 (2012), eq. (4).

    Raises:
        ValueError: not as many of both, or fewer than two.
    """
    if len(made) != len(originals) or len(made) < 2:
        raise ValueError("paired kernel distance: two pictures or more, and as many originals")
    crossed = _kernel(made, originals)
    across = float((crossed.sum() - crossed.trace()) / (len(made) * (len(made) - 1)))
    return own_kernel(made) + own_kernel(originals) - 2 * across


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
