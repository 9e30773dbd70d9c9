"""Root-raised-cosine pulses: symbols to samples, and samples back to symbols at any instant.

Times are in symbols T, frequencies in 1/T. A recording has ``sps`` samples for each symbol; p has unit energy, so white
noise of variance σ² per sample has variance σ² at the matched filter's output, where Es/N0 = 1/σ² for unit symbols.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commin.errors import UserError

Complex = NDArray[np.complex64]
Float = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Pulse:
    r"""p(t) = [sin πt(1−α) + 4αt·cos πt(1+α)] / [πt(1 − (4αt)²)], cut to ``span`` symbols and scaled to Σp² = 1.

    Source: Proakis, Digital Communications, section 9.2-1 (square root of the raised cosine spectrum).

    Attributes:
        sps: samples for each symbol, even.
        rolloff: α, excess bandwidth.
        span: length in symbols, even.
    """

    sps: int = 4
    rolloff: float = 0.25
    span: int = 12

    def __post_init__(self) -> None:
        if self.sps not in range(2, 65, 2):
            raise UserError(f"samples per symbol: {self.sps} is not an even number from 2 to 64")
        if not 0.05 <= self.rolloff <= 1:
            raise UserError(f"roll-off: {self.rolloff:g} is outside 0.05..1")
        if self.span not in range(4, 65, 2):
            raise UserError(f"pulse span: {self.span} is not an even number of symbols from 4 to 64")

    @cached_property
    def taps(self) -> Float:
        """p at the sample instants, real (span·sps + 1,)."""
        alpha, half = self.rolloff, self.span * self.sps // 2
        t = np.arange(-half, half + 1) / self.sps
        poles = np.abs(np.abs(4 * alpha * t) - 1) < 1e-9
        t[half] = t[poles] = 1 / (8 * alpha)  # any other instant: these limits are put in below
        p = (np.sin(np.pi * t * (1 - alpha)) + 4 * alpha * t * np.cos(np.pi * t * (1 + alpha))) / (
            np.pi * t * (1 - (4 * alpha * t) ** 2)
        )
        p[half] = 1 - alpha + 4 * alpha / np.pi
        corner = np.pi / (4 * alpha)
        p[poles] = alpha / 2**0.5 * ((1 + 2 / np.pi) * np.sin(corner) + (1 - 2 / np.pi) * np.cos(corner))
        return np.asarray(p / np.sqrt(np.sum(p**2)))

    def shape(self, symbols: Complex) -> Complex:
        """x[n] = Σ_i s_i·p[n − i·sps]: (N,) symbols to ((N − 1 + span)·sps + 1,) samples of mean power about 1/sps.

        The first symbol's instant is sample span·sps/2.
        """
        padded = np.append(self.taps, np.zeros(self.sps - 1)).reshape(self.span + 1, self.sps)
        phases = np.stack([np.convolve(symbols, taps) for taps in padded.T], axis=1)
        return as_complex64(phases.ravel()[: self.samples(len(symbols))])

    def slope(self, lags: Index) -> Float:
        """g'(i) in 1/T of the raised cosine g = p∗p at whole numbers of symbols, any shape; 0 at 0."""
        x = 2 * self.rolloff * np.where(lags == 0, 1, lags)
        pole = np.abs(np.abs(x) - 1) < 1e-9
        window = np.where(pole, np.pi / 4, np.cos(np.pi * x / 2) / np.where(pole, 1, 1 - x**2))
        return np.where(lags == 0, 0.0, (-1.0) ** lags / np.where(lags == 0, 1, lags) * window)

    def samples(self, symbols: int) -> int:
        """Samples that ``shape`` makes of so many symbols."""
        return (symbols - 1 + self.span) * self.sps + 1


class MatchedFilter:
    r"""y(i) = Σ_n x[n]·p(n/sps − i − τ) for ``count`` symbols of windows of samples, all in the frequency domain.

    A window's spectrum is multiplied by that of the pulse, real because the pulse is even, and by e^{j2πντ}; bins that
    alias onto each other at one sample for each symbol are added. A window holds ``margin`` symbols before and after.
    """

    def __init__(self, pulse: Pulse, count: int) -> None:
        self.count, self.sps = count, pulse.sps
        self.margin = pulse.span // 2 + 4
        self.period = smooth_number(count + 2 * self.margin)
        self.size = self.period * pulse.sps
        centred = np.zeros(self.size)
        centred[: len(pulse.taps)] = pulse.taps
        response = np.fft.fft(np.roll(centred, -(len(pulse.taps) // 2))).real / pulse.sps
        self._response = response.astype(np.float32)
        signed = np.r_[0 : self.period, -self.period : 0]
        self._bins = signed % self.size
        self._frequencies = signed / self.period

    def spectra(self, windows: Complex, frequency: float = 0.0) -> Complex:
        """Spectra at two samples for each symbol of windows (…, size), for a signal at ``frequency``: (…, 2·period)."""
        shift = round(frequency * self.period)
        response = self._response[(self._bins - shift) % self.size]
        return as_complex64(np.fft.fft(windows)[..., self._bins] * response)

    def symbols(self, spectra: Complex, delay: "float | Float", slope: bool = False) -> Complex:
        """y at the instants margin + i + delay, or dy/dt there in 1/T.

        Args:
            spectra: from `spectra`, (…, 2·period).
            delay: τ in symbols, a number or (…,).
            slope: whether the derivative is wanted.

        Returns:
            complex64 (…, count).
        """
        ramp = np.exp(2j * np.pi * np.multiply.outer(delay, self._frequencies))
        if slope:
            ramp = ramp * (2j * np.pi * self._frequencies)
        shifted = spectra * as_complex64(ramp)
        folded = shifted[..., : self.period] + shifted[..., self.period :]
        return as_complex64(np.fft.ifft(folded)[..., self.margin : self.margin + self.count])


def as_complex64(values: NDArray[Any]) -> Complex:
    """The values in single precision, whatever they are."""
    return values.astype(np.complex64, copy=False)


def smooth_number(least: int) -> int:
    """The smallest even number ≥ ``least`` with no prime factor above 5, whose FFT is quick."""
    numbers: list[int] = [2**a * 3**b * 5**c for a in range(1, 25) for b in range(6) for c in range(4)]
    return min(number for number in numbers if number >= least)
