"""The reference lines against brute force and known cases."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from commin.evaluation.lines import covariance_eigenvalues, opta_mse, pca_mse

VALUES = torch.logspace(1, -4, 200, dtype=torch.float64)


@pytest.mark.parametrize(("k", "snr"), [(4, -5.0), (16, 0.0), (60, 5.0), (100, 20.0)])
def test_opta_against_a_root_finder(k: int, snr: float) -> None:
    values = VALUES.numpy()
    bits = k * np.log2(1 + 10 ** (snr / 10))
    level = brentq(lambda t: 0.5 * np.log2(np.maximum(values / t, 1)).sum() - bits, 1e-12, values.max())
    assert opta_mse(VALUES, k, snr) == pytest.approx(np.minimum(values, level).mean(), rel=1e-9)


@pytest.mark.parametrize(("k", "snr"), [(4, -5.0), (16, 0.0), (60, 5.0), (100, 20.0)])
def test_pca_power_allocation_is_the_best(k: int, snr: float) -> None:
    values, noise = VALUES.numpy(), 0.5 / 10 ** (snr / 10)
    used = values[: 2 * k]

    def power(level: float) -> np.ndarray:
        return np.maximum(np.sqrt(used * noise) * level - noise, 0)

    level = brentq(lambda c: power(c).sum() - k, 1e-9, 1e9)
    error = (used / (1 + power(level) / noise)).sum() + values[2 * k :].sum()
    assert pca_mse(VALUES, k, snr) == pytest.approx(error / len(values), rel=1e-6)


def test_lines_meet_for_one_flat_source() -> None:
    """White Gaussian samples, one a real dimension: uncoded transmission is optimal."""
    flat = torch.ones(20, dtype=torch.float64)
    assert pca_mse(flat, 10, 3.0) == pytest.approx(opta_mse(flat, 10, 3.0), rel=1e-9)


def test_order_of_the_lines() -> None:
    for snr in (-5.0, 0.0, 5.0):
        assert opta_mse(VALUES, 16, snr) < pca_mse(VALUES, 16, snr)
        assert pca_mse(VALUES, 16, snr) < pca_mse(VALUES, 8, snr)


def test_eigenvalues_of_pixels(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pixels = torch.randint(0, 256, (300, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    flat = pixels.flatten(1).double().numpy() / 255
    expected = np.sort(np.linalg.eigvalsh(np.cov(flat.T, bias=True)))[::-1]
    for _ in range(2):  # the second time from the cache
        assert np.allclose(covariance_eigenvalues(pixels, tmp_path).numpy(), expected, atol=1e-6)
