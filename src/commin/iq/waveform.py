"""What lays out a frame's payload: symbols to chips at the symbol rate, and received chips to symbols."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from commin.iq.pulse import Complex, as_complex64


@dataclass(frozen=True)
class Payload:
    """A payload as received.

    Attributes:
        symbols: y of y = h·z + w, complex64 (K,), scaled so that the mean |h|² is 1.
        gains: h, complex64 (K,).
        snr_db: 1/σ² in dB; the error of h counts as noise.
        frequency: what was left of the frequency offset, in 1/T.
        clock: symbol period over that assumed, minus 1; 0 where it was not measured.
    """

    symbols: Complex
    gains: Complex
    snr_db: float
    frequency: float
    clock: float = 0.0


class Waveform(Protocol):
    """A way to lay out a payload."""

    def length(self, symbols: int) -> int:
        """Chips for so many payload symbols."""

    def modulate(self, symbols: Complex) -> Complex:
        """Payload symbols (K,) to chips (length(K),) of mean power about 1."""

    def demodulate(self, chips: Complex, slopes: Complex | None, section: Complex, symbols: int) -> Payload:
        """The payload of a frame.

        Args:
            chips: received chips of the whole frame, section first, nearly free of frequency offset.
            slopes: their derivatives in 1/T, where the clock is to be measured.
            section: what was sent as the section, (2·P,).
            symbols: K, payload symbols.
        """


@lru_cache(maxsize=32)
def known_phases(count: int) -> Complex:
    """e^{2πj·i³/193}, (count,): the known symbols of a payload."""
    return as_complex64(np.exp(2j * np.pi * (np.arange(count) ** 3 % 193) / 193))


def weigh_powers(strength: float, noise: float, total: float, known: int, payload: int) -> tuple[float, float]:
    """Mean |h|² and σ² made better by the payload's power, which is 1 as sent and mean |h|² + σ² as received.

    The three are weighed by their variances: with a = mean |h|², L known and K payload symbols these are
    (2aσ² + σ⁴/L)/L for a, σ⁴/L for σ², (2aσ² + σ⁴)/K for the payload's power.

    Args:
        strength: a, from known symbols.
        noise: σ², from known symbols.
        total: power of the received payload.
        known: L.
        payload: K.
    """
    of_strength = (2 * strength * noise + noise**2 / known) / known
    of_noise, of_total = noise**2 / known, (2 * strength * noise + noise**2) / payload
    surprise = (total - strength - noise) / (of_strength + of_noise + of_total)
    return max(strength + surprise * of_strength, 1e-3 * strength), max(noise + surprise * of_noise, 1e-3 * noise)
