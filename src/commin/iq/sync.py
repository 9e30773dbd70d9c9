"""From a candidate to a readable header: fractional timing, frequency, and then both again from the whole section."""

from dataclasses import dataclass

import numpy as np

from commin.iq.detect import FREQUENCY_REACH
from commin.iq.frame import Modem
from commin.iq.header import Header, decode_headers
from commin.iq.pulse import Complex, MatchedFilter
from commin.iq.track import parabola

DELAYS = np.arange(-0.375, 0.376, 0.125)
"""Delays in symbols around a candidate at which T is computed anew."""

AROUND = np.array([-1, 0, 1])

NEIGHBOURS = 16
"""Symbols to either side that shape the slope at a symbol's instant."""


@dataclass(frozen=True)
class Acquired:
    """Where a section is: its first symbol's instant in a window, its frequency offset in 1/T, T, and its header.

    A header is None where its CRC fails; then delay and frequency come from the known symbols alone.
    """

    delay: float
    frequency: float
    statistic: float
    header: Header | None


class Synchroniser:
    """Reads sections from windows of samples."""

    def __init__(self, modem: Modem) -> None:
        self.modem = modem
        self.length = 2 * len(modem.known)
        self.filter = MatchedFilter(modem.pulse, self.length)
        step = 0.2 / self.length
        reach = int(np.ceil(FREQUENCY_REACH * 1.1 / step))
        self._grid = step * np.arange(-reach, reach + 1)
        places = np.arange(0, self.length, 2)
        turns = np.exp(-2j * np.pi * np.outer(places, self._grid)) * modem.known.conj()[:, None]
        self._search = turns.astype(np.complex64)
        self._slopes = modem.pulse.slope(np.arange(-NEIGHBOURS, NEIGHBOURS + 1))

    def acquire(self, windows: Complex) -> list[Acquired]:
        """Read the sections of windows (F, filter.size), their first symbols ``filter.margin`` symbols into each."""
        spectra = self.filter.spectra(windows)
        outputs = np.stack([self.filter.symbols(spectra, delay) for delay in DELAYS], axis=1)
        power = np.abs(outputs[..., ::2] @ self._search) ** 2
        time, bin_ = np.divmod(power.reshape(len(windows), -1).argmax(axis=1), len(self._grid))
        rows = np.arange(len(windows))[:, None]
        times = (time[:, None] + AROUND).clip(0, len(DELAYS) - 1)
        bins = (bin_[:, None] + AROUND).clip(0, len(self._grid) - 1)
        delay = DELAYS[time] + (DELAYS[1] - DELAYS[0]) * parabola(power[rows, times, bin_[:, None]])
        frequency = self._grid[bin_] + (self._grid[1] - self._grid[0]) * parabola(power[rows, time[:, None], bins])
        symbols = self.filter.symbols(spectra, delay)
        symbols = symbols * np.exp(-2j * np.pi * frequency[:, None] * np.arange(self.length)).astype(np.complex64)
        gain = (symbols[:, ::2] @ self.modem.known.conj()) / len(self.modem.known)
        energy = np.sum(np.abs(symbols) ** 2, axis=1)
        statistic = len(self.modem.known) * np.abs(gain) ** 2 / np.maximum(energy, 1e-30)
        headers = decode_headers(symbols[:, 1::2] * gain.conj()[:, None])
        found = zip(symbols, delay.tolist(), frequency.tolist(), statistic.tolist(), headers, strict=True)
        return [self._refine(*each) for each in found]

    def _refine(
        self, symbols: Complex, delay: float, frequency: float, statistic: float, header: Header | None
    ) -> Acquired:
        """A Gauss-Newton step for gain, frequency and delay with all of s known: y ≈ h·(s + 2πjν·n·s + δ·ds/dt)."""
        if header is None:
            return Acquired(delay, frequency, statistic, None)
        sent = self.modem.section(header)
        gain = np.vdot(sent, symbols) / self.length
        ramp = 2 * np.pi * (np.arange(self.length) - (self.length - 1) / 2)
        slopes = np.convolve(sent, self._slopes, mode="same")
        model = np.stack([sent, 1j * sent, 1j * ramp * sent, slopes])
        error = symbols / gain - sent
        gram = np.einsum("an,bn->ab", model.conj(), model).real
        step = np.linalg.solve(gram, np.einsum("an,n->a", model.conj(), error).real)
        turned, late = float(np.clip(step[2], -1e-3, 1e-3)), float(np.clip(step[3], -0.25, 0.25))
        return Acquired(delay - late, frequency + turned, statistic, header)
