r"""OFDM with a cyclic prefix: the payload of a frame for channels with echoes.

Symbols become subcarriers, a unitary inverse DFT of N makes chips of them, the last ``prefix`` of which are sent ahead
as well; chips are shaped like any symbol. As long as echoes are shorter than the prefix, Z_k = H_k·X_k + W_k with
H_k = Σ_d c_d·e^{−2πjkd/N}. The taps c are estimated from all that is known, the section's chips and the pilot
subcarriers alike, y = A·c + w:

    LS: ĉ = (AᴴA)⁻¹Aᴴy,    LMMSE: ĉ = (AᴴA + σ²·diag(1/v))⁻¹Aᴴy

with tap powers v learnt by EM from the same frame. Source: Edfors et al., OFDM channel estimation by singular value
decomposition, IEEE Trans. Commun. 46(7), 1998; Tipping, Sparse Bayesian learning, JMLR 1, 2001 (EM for v).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from commin.iq.pulse import Complex, Float, Index, as_complex64
from commin.iq.track import parabola
from commin.iq.waveform import Payload, known_phases, weigh_powers

REACH = 1e-3
"""Frequency offsets in 1/T that acquisition may leave."""

EM_STEPS = 5


@dataclass(frozen=True)
class Ofdm:
    """An OFDM payload.

    Attributes:
        subcarriers: N.
        prefix: length of the cyclic prefix and longest echo, in chips.
        spacing: subcarriers from one pilot to the next; odd OFDM symbols have them half way between.
        early: chips by which windows begin early, for paths ahead of the strongest.
        estimator: ``lmmse`` or ``ls``.
    """

    subcarriers: int = 128
    prefix: int = 16
    spacing: int = 16
    early: int = 4
    estimator: Literal["lmmse", "ls"] = "lmmse"

    @cached_property
    def _carried(self) -> int:
        return self.subcarriers - self.subcarriers // self.spacing

    def _rows(self, symbols: int) -> int:
        return -(-symbols // self._carried)

    def length(self, symbols: int) -> int:
        """Chips of ⌈K / data subcarriers⌉ OFDM symbols."""
        return self._rows(symbols) * (self.subcarriers + self.prefix)

    def _pilots(self, rows: int) -> Index:
        """Pilot subcarriers of each OFDM symbol, (rows, N / spacing)."""
        comb = np.arange(0, self.subcarriers, self.spacing)
        return comb + np.arange(rows)[:, None] % 2 * (self.spacing // 2)

    def _known(self, rows: int) -> Complex:
        """A grid (rows, N) of known symbols: sent on the pilots, and on what the payload leaves over."""
        return known_phases(rows * self.subcarriers).reshape(rows, self.subcarriers)

    def _places(self, rows: int) -> Index:
        """Where the payload is in the flattened grid, (rows · data subcarriers,)."""
        free = np.ones((rows, self.subcarriers), bool)
        np.put_along_axis(free, self._pilots(rows), False, axis=1)
        return np.flatnonzero(free)

    def modulate(self, symbols: Complex) -> Complex:
        """Payload symbols (K,) to chips."""
        rows = self._rows(len(symbols))
        grid = self._known(rows).ravel().copy()
        grid[self._places(rows)[: len(symbols)]] = symbols
        chips = np.fft.ifft(grid.reshape(rows, self.subcarriers), norm="ortho")
        return np.concatenate([chips[:, -self.prefix :], chips], axis=1).ravel().astype(np.complex64)

    def demodulate(self, chips: Complex, slopes: Complex | None, section: Complex, symbols: int) -> Payload:
        """See `commin.iq.waveform.Waveform`; the clock is not measured."""
        rows = self._rows(symbols)
        design, sent_at = self._design(section, rows)
        frequency = self._frequency(self._observed(chips, len(section), rows), design, sent_at)
        chips = chips * np.exp(-2j * np.pi * frequency * np.arange(len(chips))).astype(np.complex64)
        taps, error, noise = self._taps(self._observed(chips, len(section), rows), design)
        response = np.fft.fft(taps, self.subcarriers)
        places = self._places(rows)[:symbols]
        payload = self._grid(chips[len(section) :], rows).ravel()[places]
        strength = float(np.mean(np.abs(response) ** 2)) + error
        total = float(np.mean(np.abs(payload) ** 2))
        strength, noise = weigh_powers(strength, noise, total, len(design), symbols)
        scale = strength**-0.5
        gains = (np.tile(response, rows)[places] * scale).astype(np.complex64)
        snr_db = float(10 * np.log10(strength / (noise + error)))
        return Payload((payload * scale).astype(np.complex64), gains, snr_db, frequency)

    def _grid(self, chips: Complex, rows: int) -> Complex:
        """The subcarriers of each OFDM symbol, (rows, N), its window begun ``early`` chips ahead."""
        begin = self.prefix - self.early
        windows = chips.reshape(rows, -1)[:, begin : begin + self.subcarriers]
        return as_complex64(np.fft.fft(windows, norm="ortho"))

    def _observed(self, chips: Complex, section: int, rows: int) -> Complex:
        """All that is known as received: the section without its ends, then the pilots."""
        grid = self._grid(chips[section:], rows)
        inner = chips[self.prefix - 1 : section - self.early]
        return np.concatenate([inner, np.take_along_axis(grid, self._pilots(rows), axis=1).ravel()])

    def _design(self, section: Complex, rows: int) -> tuple[Complex, Float]:
        """A of y = A·c for taps of delays −early … prefix − early − 1, and the instants of the rows."""
        instants = np.arange(self.prefix - 1, len(section) - self.early)
        delays = np.arange(self.prefix)
        shifted = section[instants[:, None] + self.early - delays]
        pilots = self._pilots(rows)
        known = np.take_along_axis(self._known(rows), pilots, axis=1).ravel()
        echoes = np.exp(-2j * np.pi * np.outer(pilots.ravel(), delays) / self.subcarriers) * known[:, None]
        block = self.subcarriers + self.prefix
        middles = len(section) + np.arange(rows) * block + self.prefix - self.early + self.subcarriers / 2
        times = np.concatenate([instants, np.repeat(middles, pilots.shape[1])])
        return np.concatenate([shifted, echoes]).astype(np.complex64), times

    def _frequency(self, observed: Complex, design: Complex, times: Float) -> float:
        """The ν within ±REACH at which y·e^{−2πjνn} lies most in the span of A, in 1/T."""
        basis = np.linalg.qr(design)[0]
        step = 0.25 / float(np.ptp(times))
        grid = step * np.arange(-np.ceil(REACH / step), np.ceil(REACH / step) + 1)
        turned = np.exp(-2j * np.pi * np.outer(grid, times)).astype(np.complex64) * observed
        inside = np.sum(np.abs(turned @ basis.conj()) ** 2, axis=1)
        best = int(inside.argmax())
        return float(grid[best] + step * parabola(inside[np.clip([best - 1, best, best + 1], 0, len(grid) - 1)]))

    def _taps(self, observed: Complex, design: Complex) -> tuple[Complex, float, float]:
        """Taps (prefix,), the mean error variance of H, and σ²."""
        gram, match = design.conj().T @ design, design.conj().T @ observed
        inverse = np.linalg.inv(gram)
        taps = inverse @ match
        residual = float(np.sum(np.abs(observed - design @ taps) ** 2))
        noise = max(residual / (len(observed) - self.prefix), 1e-30)
        spread = noise * np.diag(inverse).real
        if self.estimator == "lmmse":
            powers = np.abs(taps) ** 2
            for _ in range(EM_STEPS):
                inverse = np.linalg.inv(gram + np.diag(noise / np.maximum(powers, 1e-12 * powers.max() + 1e-30)))
                taps, spread = inverse @ match, noise * np.diag(inverse).real
                powers = np.abs(taps) ** 2 + spread
        return taps, float(spread.sum()), noise
