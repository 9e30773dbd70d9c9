r"""Find frames in a stream at a constant rate of false alarms, whatever the noise level.

    T(n) = max_ν |Σ_i p_i*·y(n + 2i)·e^{−2πjν·2i}|² / (P·Σ_{i<2P} |y(n + i)|²)

y is the matched filter's output at two samples for each symbol, p the P known symbols, every second one of a section.
In white noise of any power each T of one ν is Beta(1, 2P − 1): P(T > t) = (1 − t)^{2P−1}, exactly. Source: Scharf and
Friedlander, Matched subspace detectors, IEEE Trans. Signal Process. 42(8), 1994.
"""

from collections.abc import Iterable
from concurrent.futures import Executor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from commin.iq.frame import Modem
from commin.iq.pulse import Complex, Float, Index, MatchedFilter

FREQUENCY_REACH = 0.005
"""Frequency offsets looked for, in 1/T to either side."""

CANDIDATE_RATE = 1e-5
"""Positions per sample of noise whose header is tried; one in 2¹⁰ of them passes its CRC and becomes a false frame."""

LOSS_RATE = 1e-8
"""Positions per sample of noise that are taken for a frame even though no header can be read there."""

SEARCH = 6
"""A search between the grid's points passes a threshold at most so many times as often as the grid (measured: 4)."""

BLOCK = 8192
"""Half symbols of one FFT."""


class Detector:
    """Looks for sections; positions are counted in half symbols."""

    def __init__(self, modem: Modem) -> None:
        self.modem = modem
        self.half = modem.pulse.sps // 2
        self.length = 2 * len(modem.known)
        self.edge = 2 * (modem.pulse.span // 2 + 4)
        self.step = BLOCK - 2 * self.edge - 2 * self.length
        self._filter = MatchedFilter(modem.pulse, BLOCK // 2 - self.edge)
        cells = int(np.ceil(2 * FREQUENCY_REACH * self.length / 0.4)) + 1
        self.frequencies = np.linspace(-FREQUENCY_REACH, FREQUENCY_REACH, cells)
        template = np.zeros((cells, BLOCK), np.complex128)
        turns = np.exp(2j * np.pi * np.outer(self.frequencies, np.arange(0, self.length, 2)))
        template[:, : 2 * self.length : 4] = modem.known * turns
        self._templates = (np.fft.fft(template).conj() / np.sqrt(len(modem.known))).astype(np.complex64)

    def threshold(self, rate: float) -> float:
        """t that T passes in noise at most ``rate`` times per sample: all positions and ν counted as independent."""
        tests = len(self.frequencies) / self.half
        return float(1 - (rate / tests) ** (1 / (self.length - 1)))

    def statistic(self, samples: Complex, executor: Executor | None = None) -> Float:
        """T at every half symbol from ``edge`` on: (N,) samples to as many whole steps as they hold."""
        size = BLOCK * self.half
        count = (len(samples) - size) // (self.step * self.half) + 1
        blocks = sliding_window_view(samples, size)[:: self.step * self.half][:count]
        run: Iterable[Float] = (executor.map if executor else map)(self._block, blocks)
        return np.concatenate(list(run))

    def _block(self, samples: Complex) -> Float:
        spectrum = self._filter.spectra(samples)
        output = np.fft.ifft(spectrum)
        power = output.real**2 + output.imag**2
        sums = np.cumsum(power.reshape(-1, 2).astype(np.float64), axis=0)
        energy = (sums[self.length :] - sums[: -self.length]).ravel()  # of positions 2, 3, …
        best = np.zeros(self.step, np.float32)
        inside = slice(self.edge, self.edge + self.step)
        for template in self._templates:
            found = np.fft.ifft(spectrum * template)[inside]
            np.maximum(best, found.real**2 + found.imag**2, out=best)
        statistic: Float = best / np.maximum(energy[self.edge - 2 : self.edge - 2 + self.step], 1e-30)
        return statistic


def peaks(statistic: Float, threshold: float, guard: int) -> Index:
    """Places where T is above a threshold and the largest within ±guard places."""
    above = np.flatnonzero(statistic > threshold)
    values = statistic[above]
    first, last = np.searchsorted(above, above - guard), np.searchsorted(above, above + guard, side="right")
    largest = [values[a:b].argmax() + a == i for i, (a, b) in enumerate(zip(first, last, strict=True))]
    found: Index = above[np.array(largest, bool)]
    return found
