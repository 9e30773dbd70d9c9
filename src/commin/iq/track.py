r"""Follow the channel's gain through a frame: h is a Gaussian process, seen at known symbols.

    z̄ = h(n) + w̄,   h ~ CN(0, s·R_θ),   ĥ = s·R_*(s·R + σ²D⁻¹)⁻¹·z̄

z̄ are means of y·p* over groups of D neighbouring known symbols. R_θ is one of a few correlations: constant (nothing
moves), e^{−|Δ|/τ} (the phase noise of an oscillator with a Lorentzian line), e^{−Δ²/2ℓ²} (Doppler); the one under which
z̄ is most likely is taken. Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, sections 2.2, 5.4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from commin.iq.pulse import Complex, Float, Index

GROUP = 24
"""Neighbouring symbols over which the gain is taken as constant, at least."""

GROUPS = 384
"""In longer frames more of them are, so that there are at most so many groups."""

PRIOR_NATS = 7.0
"""How much likelier a moving gain must make what is seen: a still one is the rule, and 10 of 11 correlations move."""

Kernel = Callable[[Float], Float]


def _exponential(length: float) -> Kernel:
    return lambda lag: np.exp(-np.abs(lag) / length)


def _gaussian(length: float) -> Kernel:
    return lambda lag: np.exp(-0.5 * (lag / length) ** 2)


KERNELS: dict[str, Kernel] = {"constant": np.ones_like}
KERNELS |= {f"phase noise over {n}": _exponential(n) for n in (100_000, 30_000, 10_000, 3_000, 1_000, 300)}
KERNELS |= {f"fading over {n}": _gaussian(n) for n in (3_000, 1_000, 300, 100)}


@dataclass(frozen=True)
class Track:
    """The gain along a frame.

    Attributes:
        gains: ĥ at every symbol, complex (N,).
        error: mean of E|h − ĥ|².
        noise: σ² at the known symbols.
        kernel: the correlation taken.
    """

    gains: Complex
    error: float
    noise: float
    kernel: str


class GainTracker:
    """Tracks the gain of frames that share one layout.

    With V Λ Vᵀ = D^½ R D^½ the evidence and the estimate need no inverse: u = VᵀD^½z̄ has variances s·λ + σ².
    """

    def __init__(self, known: Index, length: int) -> None:
        size = max(GROUP, -(-length // GROUPS))
        _, self._group, counts = np.unique(known // size, return_inverse=True, return_counts=True)
        self._known, self._length, self._counts = known, length, counts.astype(float)
        self._nodes = np.bincount(self._group, known) / counts
        lags = self._nodes[:, None] - self._nodes
        weight = np.sqrt(self._counts)
        matrices = np.stack([weight[:, None] * kernel(lags) * weight for kernel in KERNELS.values()])
        values, vectors = np.linalg.eigh(matrices)
        self._values, self._vectors = values.clip(0), vectors * weight[:, None]
        self._project = self._vectors.transpose(0, 2, 1).astype(np.float32)
        self._extensions: dict[str, tuple[NDArray[np.float32], Float]] = {}

    def track(self, observed: Complex) -> Track:
        """The gain, from y·p* at the known symbols, (L,)."""
        means = (np.bincount(self._group, observed.real) + 1j * np.bincount(self._group, observed.imag)) / self._counts
        total, groups = len(observed), len(means)
        noise = float(np.sum(np.abs(observed - means[self._group]) ** 2)) / (total - groups)
        noise = max(noise, 1e-12 * float(np.mean(np.abs(observed) ** 2)), 1e-30)
        signal = float(self._counts @ np.abs(means) ** 2 - groups * noise) / total
        signal = max(signal, noise / total)
        modes = np.einsum("kmn,n->km", self._project, means)
        variances = signal * self._values + noise
        surprise = np.sum(np.log(variances) + np.abs(modes) ** 2 / variances, axis=1)
        surprise[1:] += PRIOR_NATS
        best = int(surprise.argmin())
        kernel = list(KERNELS)[best]
        extend, spread = self._extension(best, kernel)
        gains = np.einsum("nm,m->n", extend, (signal * modes[best] / variances[best]).astype(np.complex64))
        error = signal - signal**2 * float(np.sum(spread / variances[best]))
        freedom = float(np.sum(signal * self._values[best] / variances[best]))
        residual = float(np.sum(np.abs(observed - gains[self._known]) ** 2)) / (total - freedom)
        return Track(gains, max(error, 0.0), max(residual, 1e-30), kernel)

    def _extension(self, index: int, kernel: str) -> tuple[NDArray[np.float32], Float]:
        """What the modes add to the gain at each symbol, (N, J), and the mean of its squares over all symbols, (J,)."""
        if kernel not in self._extensions:
            lags = np.arange(self._length)[:, None] - self._nodes
            extension = KERNELS[kernel](lags) @ self._vectors[index]
            self._extensions[kernel] = (extension.astype(np.float32), np.mean(extension**2, axis=0))
        return self._extensions[kernel]


@lru_cache(maxsize=8)
def gain_tracker(section: int, pilots: tuple[int, ...]) -> GainTracker:
    """The tracker of frames with a section of so many known symbols and pilots at these places."""
    return GainTracker(np.r_[0:section, np.array(pilots, np.int64)], max(section, *pilots) + 1)


def residual_frequency(observed: Complex, known: Index, reach: float) -> float:
    """The peak within ±reach of |Σ y·p*·e^{−2πjνn}|² over known symbols at n, in 1/T."""
    span = float(np.ptp(known)) + 1
    step = 0.25 / span
    grid = step * np.arange(-np.ceil(reach / step), np.ceil(reach / step) + 1)
    turns = np.exp(-2j * np.pi * np.outer(grid, known - known.mean())).astype(np.complex64)
    power = np.abs(np.einsum("gn,n->g", turns, observed)) ** 2
    best = int(power.argmax())
    return float(grid[best] + step * parabola(power[np.clip([best - 1, best, best + 1], 0, len(grid) - 1)]))


def parabola(values: Float) -> Float:
    """Where a parabola through values (…, 3) at −1, 0, 1 has its top, −½..½; 0 where there is none."""
    left, middle, right = values[..., 0], values[..., 1], values[..., 2]
    bend = left - 2 * middle + right
    return np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1), 0.0).clip(-0.5, 0.5)
