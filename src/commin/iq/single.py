"""Single carrier: payload symbols as they are, a known pilot after every ``spacing`` of them and at the end."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from commin.iq.pulse import Complex, Index
from commin.iq.track import Track, gain_tracker, residual_frequency
from commin.iq.waveform import Payload, known_phases, weigh_powers

CLOCK_PRIOR = 20e-6
"""Standard deviation of clock offsets met in the field."""

RESIDUAL = 1e-3
"""Frequency offsets in 1/T that acquisition may leave."""


@lru_cache(maxsize=32)
def _places(symbols: int, spacing: int) -> tuple[Index, Index]:
    """Chips that hold the payload (K,), and those that hold pilots."""
    pilots = -(-symbols // spacing)
    payload = np.arange(symbols)
    ends = np.minimum((np.arange(pilots) + 1) * (spacing + 1), symbols + pilots) - 1
    return payload + payload // spacing, ends


@dataclass(frozen=True)
class SingleCarrier:
    """The layout [z₀ … z_{S−1} q₀ z_S … q₁ …] with pilots q_i = e^{2πj·i³/193}."""

    spacing: int

    def length(self, symbols: int) -> int:
        """Payload symbols and a pilot for each ``spacing`` of them or part thereof."""
        return symbols + -(-symbols // self.spacing)

    def modulate(self, symbols: Complex) -> Complex:
        """Payload symbols (K,) to chips."""
        payload, pilots = _places(len(symbols), self.spacing)
        chips = np.empty(self.length(len(symbols)), np.complex64)
        chips[payload], chips[pilots] = symbols, known_phases(len(pilots))
        return chips

    def demodulate(self, chips: Complex, slopes: Complex | None, section: Complex, symbols: int) -> Payload:
        """See `commin.iq.waveform.Waveform`: frequency, gain and noise from section and pilots together."""
        payload, pilots = (len(section) + places for places in _places(symbols, self.spacing))
        known = np.r_[0 : len(section), pilots]
        sent = np.concatenate([section, known_phases(len(pilots))])
        frequency = residual_frequency(chips[known] * sent.conj(), known, RESIDUAL)
        turn = np.exp(-2j * np.pi * frequency * np.arange(len(chips))).astype(np.complex64)
        chips = chips * turn
        track = gain_tracker(len(section), tuple(pilots.tolist())).track(chips[known] * sent.conj())
        clock = 0.0 if slopes is None else _clock((slopes * turn)[known], sent, track, known, len(section))
        strength, noise = float(np.mean(np.abs(track.gains) ** 2)) + track.error, track.noise
        total = float(np.mean(np.abs(chips[payload]) ** 2))
        strength, noise = weigh_powers(strength, noise, total, len(known), symbols)
        scale = strength**-0.5
        gains = (track.gains[payload] * scale).astype(np.complex64)
        snr_db = float(10 * np.log10(strength / (noise + track.error)))
        return Payload((chips[payload] * scale).astype(np.complex64), gains, snr_db, frequency, clock)


def _clock(slopes: Complex, sent: Complex, track: Track, known: Index, section: int) -> float:
    """The clock offset ε: n symbols past the section's middle the sampling is ε·n early.

    There Re[dy/dt·(ĥp)*] ≈ κ·|h|²·ε·n with κ = −g''(0) ≈ π²/3 for the raised cosine g, and has variance
    (κ·σ² + 3|h|²)·|h|²/2, the second part from neighbours that are not known. The most likely ε is returned, given
    that offsets have deviation `CLOCK_PRIOR`.
    """
    curvature = np.pi**2 / 3
    strength = float(np.mean(np.abs(track.gains) ** 2))
    offsets = known - section / 2
    weight = 2 * curvature / (curvature * track.noise + 3 * strength)
    errors = np.real(slopes * (track.gains[known] * sent).conj())
    information = weight * curvature * strength * float(offsets @ offsets)
    return weight * float(errors @ offsets) / (information + CLOCK_PRIOR**-2)
