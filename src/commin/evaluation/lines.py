"""Reference lines for PSNR plots: uncoded linear transmission of principal components, and the Gaussian OPTA.

Both are of the **mean** squared error under an average power constraint, for pictures with covariance eigenvalues λ_i.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from commin.images import from_uint8
from commin.randomness import generator
from commin.units import capacity_bits, db_to_linear


def covariance_eigenvalues(pixels: Tensor, cache: Path | None = None) -> Tensor:
    """Eigenvalues λ of the covariance of uint8 images (N, 3, H, W) read as [0, 1], descending, float64 (n,)."""
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:24]
    stored = cache / f"eigenvalues-{digest}.pt" if cache else None
    if stored and stored.is_file():
        found: Tensor = torch.load(stored, weights_only=True)
        return found
    if len(pixels) < pixels[0].numel():
        found = torch.linalg.eigvalsh(_gram(pixels)[1]).double().clamp_min(0).flip(0)
        values = torch.nn.functional.pad(found, (0, pixels[0].numel() - len(pixels)))
    else:
        values = torch.linalg.eigvalsh(_covariance(pixels)[1]).double().clamp_min(0).flip(0)
    if stored:
        stored.parent.mkdir(parents=True, exist_ok=True)
        torch.save(values, stored)
    return values


def principal_components(pixels: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (n,), the first eigenvalues λ (count,), descending, and their eigenvectors as columns (n, count); float32.

    Args:
        pixels: uint8 images (N, 3, H, W), read as [0, 1].
        count: how many components; there are no more than N or n = 3·H·W.
    """
    if len(pixels) < pixels[0].numel():
        centred, gram = _gram(pixels)
        values, weights = torch.linalg.eigh(gram)
        vectors = torch.nn.functional.normalize(centred.T @ weights.flip(1)[:, :count], dim=0)
        return from_uint8(pixels).flatten(1).mean(0), values.flip(0)[:count].clamp_min(0).clone(), vectors
    mean, covariance = _covariance(pixels)
    values, vectors = torch.linalg.eigh(covariance)
    return mean, values.flip(0)[:count].clamp_min(0).clone(), vectors.flip(1)[:, :count].contiguous()


def leading_components(pixels: Tensor, count: int, rounds: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """As `principal_components`, approximately and much sooner where ``count`` is a small part of n; last ones are off.

    Subspace iteration from a fixed random start, with an eighth more components than asked for. Source: Halko,
    Martinsson and Tropp, Finding structure with randomness, SIAM Review 53(2), 2011, algorithm 4.4.

    Args:
        pixels: uint8 images (N, 3, H, W), read as [0, 1].
        count: how many components; there are no more than N or n.
        rounds: of iteration, each one more pass over the pictures.
    """
    size = pixels[0].numel()
    wanted = min(len(pixels), size, count + max(16, count // 8))
    mean = sum(from_uint8(part).flatten(1).double().sum(0) for part in pixels.split(1024)) / len(pixels)
    mean = torch.as_tensor(mean).float()
    basis = torch.randn(size, wanted, generator=generator("leading components", size, wanted))

    def through(basis: Tensor) -> Tensor:
        """(1/N)·XᵀX·basis."""
        found = torch.zeros(size, basis.shape[1])
        for part in pixels.split(1024):
            rows = from_uint8(part).flatten(1) - mean
            found.addmm_(rows.T, rows @ basis, alpha=1 / len(pixels))
        return found

    for _ in range(rounds):
        basis = torch.linalg.qr(through(basis)).Q
    values, turn = torch.linalg.eigh(basis.T @ through(basis))
    vectors = basis @ turn.flip(1)[:, :count]
    return mean, values.flip(0)[:count].clamp_min(0).clone(), vectors


def _gram(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Centred rows X (N, n), N < n, and XXᵀ/N, whose eigenvalues are those of XᵀX/N that are not 0."""
    rows = from_uint8(pixels).flatten(1)
    centred = rows - rows.mean(0)
    return centred, centred @ centred.T / len(centred)


def _covariance(pixels: Tensor) -> tuple[Tensor, Tensor]:
    count, size = len(pixels), pixels[0].numel()
    mean = torch.zeros(size, dtype=torch.float64)
    for part in pixels.split(1024):
        mean += from_uint8(part).flatten(1).double().sum(0)
    mean /= count
    covariance = torch.zeros(size, size)
    for part in pixels.split(1024):
        centred = (from_uint8(part).flatten(1) - mean.float()).contiguous()
        covariance.addmm_(centred.T, centred, alpha=1 / count)
    return mean.float(), covariance


def pca_mse(eigenvalues: Tensor, symbols: int, snr_db: float) -> float:
    r"""MSE per sample of uncoded linear transmission of the first m = 2k principal components.

    D·n = Σ_{i≤m} λ_i/(1 + P_i/σ_r²) + Σ_{i>m} λ_i with σ_r² = σ²/2 for each real dimension and the powers
    P_i = (√(λ_i·σ_r²/μ) − σ_r²)⁺, Σ P_i = k, which minimise it. Source: Lee and Petersen, IEEE Trans. Comm. 1976.

    Args:
        eigenvalues: λ, descending, (n,).
        symbols: k complex symbols of unit mean power.
        snr_db: P/σ² per complex symbol in dB.
    """
    used = eigenvalues[: 2 * symbols]
    powers = pca_powers(eigenvalues, symbols, snr_db)
    error = (used / (1 + powers * 2 * db_to_linear(snr_db))).sum() + eigenvalues[2 * symbols :].sum()
    return float(error) / len(eigenvalues)


def pca_powers(eigenvalues: Tensor, symbols: int, snr_db: float) -> Tensor:
    """The powers P_i of `pca_mse` for the first 2k components, (min(2k, n),); they sum to k."""
    noise = 0.5 / db_to_linear(snr_db)
    used = eigenvalues[: 2 * symbols].double()
    root = used.sqrt()
    # With the first r components in use, Σ P_i = k gives 1/√μ in closed form; the largest r with P_r > 0 is right.
    ranks = torch.arange(1, len(used) + 1, dtype=torch.float64)
    scale = (symbols + ranks * noise) / (root.cumsum(0) * noise**0.5)
    positive = root * noise**0.5 * scale > noise
    rank = int(positive.sum())
    powers = (root * noise**0.5 * scale[rank - 1] - noise).clamp_min(0)
    powers[rank:] = 0
    return powers


def opta_mse(eigenvalues: Tensor, symbols: int, snr_db: float) -> float:
    r"""MSE per sample of the OPTA, optimum performance theoretically attainable, n·R(D) = k·log2(1 + SNR), if Gaussian.

    Reverse water-filling: D·n = Σ min(λ_i, θ) at Σ_{λ_i>θ} ½·log2(λ_i/θ) = k·log2(1 + SNR). A reference and not a
    bound: faces are not Gaussian. Source: Cover and Thomas, Elements of Information Theory, section 10.3.
    """
    bits = capacity_bits(symbols, snr_db)
    values = eigenvalues[eigenvalues > 0]
    logs = values.log2()
    ranks = torch.arange(1, len(values) + 1, dtype=torch.float64)
    # With r components above the water, log2 θ = mean of their logs − 2·bits/r; the largest r with λ_r > θ is right.
    level = logs.cumsum(0) / ranks - 2 * bits / ranks
    rank = int((logs > level).sum())
    return float(values.clamp_max(float(2 ** level[rank - 1])).sum()) / len(eigenvalues)


def project(images: Tensor, mean: Tensor, rows: Tensor) -> Tensor:
    """c = Vᵀ(x − μ): pictures (B, 3, H, W) in [0, 1], μ (n,) and V's columns as rows (m, n), to (B, m)."""
    return torch.cat([(part.flatten(1) - mean) @ rows.T for part in images.split(512)])
