"""A frame: known symbols and header alternating, then the payload, the codec's complex symbols as they are.

    s = [p₀ c₀ p₁ c₁ … p_{P−1} c_{P−1} | payload],   p_i = e^{2πj·i³/P},  P prime

The known symbols p (Alltop's cubic phases) hardly resemble themselves at any other delay and frequency; alternating
with the header symbols c they give it a phase reference all along. 2·P symbols are the frame's section; a waveform
lays out the payload (`commin.iq.single`, `commin.iq.ofdm`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from commin.errors import UserError
from commin.iq.header import Header, encode_header
from commin.iq.ofdm import Ofdm
from commin.iq.pulse import Complex, Pulse, as_complex64
from commin.iq.single import SingleCarrier
from commin.iq.waveform import Waveform

MAX_PAYLOAD = 16384
"""Payload symbols of a frame: longer ones would drift too far in time before the first pilots tell."""


@dataclass(frozen=True)
class Profile:
    """How much a frame spends on being found: P known symbols, and payload symbols between two pilots."""

    known: int
    spacing: int


PROFILES = {"standard": Profile(known=193, spacing=27), "robust": Profile(known=283, spacing=16)}
WAVEFORMS: dict[str, Callable[[Profile], Waveform]] = {
    "single": lambda profile: SingleCarrier(profile.spacing),
    "ofdm": lambda profile: Ofdm(),
}


@dataclass(frozen=True)
class Modem:
    """All that both ends must agree on."""

    pulse: Pulse = field(default_factory=Pulse)
    profile: str = "standard"
    waveform: str = "single"

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise UserError(f"profile {self.profile}: unknown; choose {', '.join(PROFILES)}")
        if self.waveform not in WAVEFORMS:
            raise UserError(f"waveform {self.waveform}: unknown; choose {', '.join(WAVEFORMS)}")

    @cached_property
    def carrier(self) -> Waveform:
        """What lays out the payload."""
        return WAVEFORMS[self.waveform](PROFILES[self.profile])

    @cached_property
    def known(self) -> Complex:
        """Alltop's sequence p, (P,), of unit modulus. Source: Alltop, IEEE Trans. Inf. Theory 26(3), 1980."""
        length = PROFILES[self.profile].known
        cubes = np.array([pow(i, 3, length) for i in range(length)])
        return as_complex64(np.exp(2j * np.pi * cubes / length))

    def section(self, header: Header) -> Complex:
        """Known and header symbols in turn, (2·P,)."""
        symbols = np.empty(2 * len(self.known), np.complex64)
        symbols[0::2], symbols[1::2] = self.known, encode_header(header, len(self.known))
        return symbols

    def length(self, header: Header) -> int:
        """Symbols of the whole frame, without the pulse's tails."""
        return 2 * len(self.known) + self.carrier.length(header.pictures * header.symbols)


@dataclass(frozen=True)
class FrameUse:
    """What a frame cost, in symbols: payload, known, header, what the waveform adds, and the pulse's tails."""

    payload: int
    known: int
    header: int
    waveform: int
    tails: int

    @classmethod
    def of(cls, header: Header, modem: Modem) -> "FrameUse":
        """Count a frame."""
        payload, known = header.pictures * header.symbols, len(modem.known)
        return cls(payload, known, known, modem.carrier.length(payload) - payload, modem.pulse.span)

    @property
    def total(self) -> int:
        """All of them: the frame's duration in symbols."""
        return self.payload + self.known + self.header + self.waveform + self.tails

    @property
    def overhead(self) -> float:
        """The share of the frame that is not payload."""
        return 1 - self.payload / self.total


def frame_samples(header: Header, symbols: Complex, modem: Modem, clip_db: float | None = None) -> Complex:
    """A frame as samples.

    Args:
        header: says B pictures of k symbols.
        symbols: the codec's, complex64 (B, k), mean |z|² = 1 per row.
        modem: pulse, profile and waveform.
        clip_db: magnitudes are cut to this many dB above the frame's mean power; None leaves them.

    Returns:
        complex64 (N,), 1/sps of mean power while symbols flow.

    Raises:
        UserError: more symbols than a frame holds.
        ValueError: another number of symbols than the header says, or one that is not finite.
    """
    if symbols.shape != (header.pictures, header.symbols):
        raise ValueError(f"frame: {symbols.shape} symbols; the header says {(header.pictures, header.symbols)}")
    if symbols.size > MAX_PAYLOAD:
        raise UserError(f"frame: {symbols.size} symbols; at most {MAX_PAYLOAD} share one: send fewer pictures in each")
    if not np.isfinite(symbols).all():
        raise ValueError("frame: the symbols hold NaN or infinity")
    sent = np.concatenate([modem.section(header), modem.carrier.modulate(symbols.reshape(-1))])
    samples = modem.pulse.shape(sent)
    if clip_db is None:
        return samples
    limit = np.sqrt(np.mean(np.abs(samples) ** 2) * 10 ** (clip_db / 10))
    return as_complex64(samples * np.minimum(1, limit / np.maximum(np.abs(samples), 1e-20)))


def papr_db(samples: Complex) -> float:
    """Peak over mean power of samples in dB."""
    powers = np.abs(samples) ** 2
    return float(10 * np.log10(powers.max() / powers.mean()))
