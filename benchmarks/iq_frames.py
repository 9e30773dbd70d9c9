"""Frames on the air for ``benchmarks/iq.py``: send them at random offsets, read them, compare.

Every frame has a random start between two samples, a frequency offset within ±0.5 % of the symbol rate, a clock 20 ppm
off and a random phase. The receiver is told nothing of it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from commin.iq.frame import Modem, frame_samples
from commin.iq.header import Header
from commin.iq.impairments import Air, Impairments
from commin.iq.pulse import Complex
from commin.iq.receive import Frame, StreamReceiver

Row = dict[str, Any]

HEADER = Header(model=7, half_channels=16, design_snr_db=0, pictures=4, side=4)
"""4 pictures of k = 256, 1024 payload symbols: ρ = 1/48 at 64×64."""

PPM = 20.0
BATCH = 50


@dataclass
class Sent:
    """A frame on the air: its samples with what is around, where its first one is, and its payload."""

    samples: Complex
    start: float
    payload: Complex


@dataclass
class Tally:
    """What came of frames: how many were sent, read and made up; estimated SNRs; 1/SNR of symbols, ours and ideal."""

    frames: int = 0
    read: int = 0
    spurious: int = 0
    snr_db: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    ideal: list[float] = field(default_factory=list)


def payload(rng: np.random.Generator, header: Header) -> Complex:
    """CN(0, 1) symbols (B, k), normalised for each picture."""
    symbols = rng.standard_normal((header.pictures, header.symbols, 2), np.float32).view(np.complex64)[..., 0]
    return symbols / np.sqrt(np.mean(np.abs(symbols) ** 2, axis=1, keepdims=True))


def on_air(rng: np.random.Generator, modem: Modem, header: Header, changes: Row, sent: Complex | None = None) -> Sent:
    """One frame with 100 to 1000 symbols of silence on both sides; ``changes`` are impairments beside the offsets."""
    sps = modem.pulse.sps
    sent = payload(rng, header) if sent is None else sent
    samples = frame_samples(header, sent, modem) * np.complex64(np.exp(2j * np.pi * rng.uniform()))
    before, after = (np.zeros(rng.integers(100, 1000) * sps, np.complex64) for _ in range(2))
    delay, clock = float(rng.uniform(0, sps)), PPM * float(rng.choice([-1, 1]))
    offset = float(rng.uniform(-0.005, 0.005)) / sps
    seed = int(rng.integers(2**62))
    air = Air(Impairments(delay=delay, ppm=clock, frequency=offset, seed=seed, **changes))
    received = np.concatenate([air.push(np.concatenate([before, samples, after])), air.finish()])
    return Sent(received, len(before) * (1 + clock * 1e-6) + delay, sent)


def effective_noise(sent: Complex, symbols: Complex) -> float:
    """1/SNR of symbols that should equal those sent up to their scale: 1/ρ² − 1, ρ the real correlation."""
    correlation = np.vdot(sent, symbols).real / np.linalg.norm(sent) / np.linalg.norm(symbols)
    return float(1 / correlation**2 - 1)


def through(modem: Modem, frames: int, changes: Row, seed: int, header: Header = HEADER) -> Tally:
    """Send frames, read them from one stream, compare."""
    rng, tally = np.random.default_rng(seed), Tally(frames=frames)
    for done in range(0, frames, BATCH):
        part = [on_air(rng, modem, header, changes) for _ in range(min(BATCH, frames - done))]
        receiver = StreamReceiver(modem)
        begins = np.cumsum([0, *(len(sent.samples) for sent in part)])
        events = [event for sent in part for event in receiver.push(sent.samples)] + receiver.finish()
        starts = np.array([begin + sent.start for begin, sent in zip(begins, part, strict=False)])
        for event in events:
            nearest = int(np.abs(starts - event.start).argmin())
            near = abs(starts[nearest] - event.start) < 20 * modem.pulse.sps
            if not isinstance(event, Frame) or not near or event.header != header:
                tally.spurious += not near
                continue
            tally.read += 1
            sent_symbols, noise = part[nearest].payload, 10 ** (-changes.get("snr_db", 0.0) / 20)
            share = np.abs(event.gains) ** 2 + 10 ** (-event.snr_db / 10)
            tally.errors.append(effective_noise(sent_symbols, event.gains.conj() * event.symbols / share))
            tally.ideal.append(effective_noise(sent_symbols, sent_symbols + noise * payload(rng, header)))
            tally.snr_db.append(event.snr_db)
    return tally
