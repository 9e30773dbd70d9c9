"""The receiver chain: a stream of samples in, block by block; frames and named losses out.

Nothing but the samples and the `Modem` goes in: no position, offset, gain or noise level is known beforehand.
"""

import hashlib
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from commin.channels.base import Csi, Received
from commin.iq.detect import BLOCK, CANDIDATE_RATE, LOSS_RATE, SEARCH, Detector, peaks
from commin.iq.frame import MAX_PAYLOAD, Modem
from commin.iq.header import Header
from commin.iq.pulse import Complex, MatchedFilter
from commin.iq.sync import Acquired, Synchroniser

CHUNK = 1 << 19
"""Samples worked through at a time."""

SEGMENT = 256
"""Symbols taken from one window; the clock may drift by little within."""

BATCH = 64
"""Sections read at a time."""

LARGEST = 1e12
"""Magnitude of samples from which on they are no signal, and their powers no single-precision numbers."""

LONG = 2048
"""Symbols from which on a frame's clock is measured."""


@dataclass(frozen=True)
class Frame:
    """A frame that was found and read.

    Attributes:
        start: where its first sample is, counted from the first sample of the stream.
        samples: how many it has.
        header: what it says of itself.
        symbols: y of y = h·z + w, complex64 (B, k).
        gains: h, (B, k), mean |h|² = 1 over the frame.
        snr_db: Es/N0 as estimated.
        frequency: frequency offset, cycles per sample.
        clock: symbol period over the nominal one, minus 1; 0 where it was not measured.
        statistic: T at its section, 0..1.
    """

    start: float
    samples: int
    header: Header
    symbols: Complex
    gains: Complex
    snr_db: float
    frequency: float
    clock: float
    statistic: float

    def received(self) -> Received:
        """What a `commin.link.Link` is handed."""
        import torch

        snr_db = torch.full((self.header.pictures,), self.snr_db)
        return Received(torch.from_numpy(self.symbols), Csi(snr_db, torch.from_numpy(self.gains)))

    def digest(self) -> str:
        """SHA-256 of the received symbols: the key of a receiver's own random draws."""
        return hashlib.sha256(self.symbols.tobytes()).hexdigest()


@dataclass(frozen=True)
class Loss:
    """A frame that was found, or noise that looked like one, and could not be read."""

    start: float
    reason: str


Event = Frame | Loss


class StreamReceiver:
    """Push samples, get what was found in them. Memory does not grow with the stream."""

    def __init__(self, modem: Modem, executor: Executor | None = None, chunk: int = CHUNK) -> None:
        self.modem, self.chunk, self._executor = modem, chunk, executor
        self._detector, self._synchroniser = Detector(modem), Synchroniser(modem)
        self._segments = MatchedFilter(modem.pulse, SEGMENT)
        self._candidate = self._detector.threshold(CANDIDATE_RATE)
        self._certain = self._detector.threshold(LOSS_RATE / SEARCH)
        self._guard = self._detector.length
        self._scanned = self._origin = -(self._detector.edge + self._guard) * self._detector.half
        self._buffer = np.zeros(-self._origin, np.complex64)  # of the stream from _origin on
        self._incoming: list[Complex] = []
        self._arrived = 0
        self._damaged: tuple[int, int] | None = None
        self._waiting: list[tuple[float, Acquired, Header]] = []

    def push(self, samples: Complex) -> list[Event]:
        """Take complex64 samples (N,), any N; return the frames and losses that are certain by now."""
        bad = ~(np.abs(samples) < LARGEST)
        if bad.any():
            self._damaged = self._damaged or (self._arrived + int(bad.argmax()), 0)
            self._damaged = (self._damaged[0], self._damaged[1] + int(bad.sum()))
            samples = np.where(bad, np.complex64(0), samples)
        self._incoming.append(samples)
        self._arrived += len(samples)
        return self._work() if sum(map(len, self._incoming)) >= self.chunk else []

    def finish(self) -> list[Event]:
        """The stream is over: what is left of it."""
        longest = self._detector.step + 2 * self._guard
        silence = np.zeros((BLOCK + longest) * self._detector.half + self._synchroniser.filter.size, np.complex64)
        self._incoming.append(silence)
        events = self._work()
        for start, _, header in self._waiting:
            there, whole = int((self._arrived - start) / self.modem.pulse.sps), self.modem.length(header)
            events.append(Loss(self._first(start), f"cut off at the end: {there} of its {whole} symbols are there"))
        self._waiting = []
        if self._damaged:
            first, count = self._damaged
            events.append(Loss(first, f"{count} samples from here on are NaN, infinite or absurd; taken as silence"))
        return events

    def _work(self) -> list[Event]:
        """Scan what is there, read the sections found, then the frames that are there to their ends."""
        self._buffer = np.concatenate([self._buffer, *self._incoming])
        self._incoming = []
        events = self._find()
        ready = [each for each in self._waiting if self._is_whole(each)]
        self._waiting = [each for each in self._waiting if not self._is_whole(each)]
        events += [self._read(*each) for each in ready]
        keep = min([self._scanned, *(int(start) - 2 * self._margin for start, _, _ in self._waiting)])
        keep -= (keep - self._origin) % self._detector.half
        self._buffer, self._origin = self._buffer[keep - self._origin :].copy(), keep
        return sorted(events, key=lambda event: event.start)

    def _find(self) -> list[Event]:
        detector, sync = self._detector, self._synchroniser
        samples = self._buffer[self._scanned - self._origin :]
        if len(samples) < BLOCK * detector.half:
            return []
        statistic = detector.statistic(samples, self._executor)
        found = peaks(statistic, self._candidate, self._guard)
        found = found[(found >= self._guard) & (found < len(statistic) - self._guard)]
        positions = self._scanned + (detector.edge + found) * detector.half
        self._scanned += (len(statistic) - 2 * self._guard) * detector.half
        windows = sliding_window_view(self._buffer, sync.filter.size)
        events: list[Event] = []
        for first in range(0, len(positions), BATCH):
            batch = positions[first : first + BATCH]
            begins = batch - sync.filter.margin * self.modem.pulse.sps - self._origin
            for position, acquired in zip(batch, sync.acquire(windows[begins]), strict=True):
                start, header = float(position + acquired.delay * self.modem.pulse.sps), acquired.header
                if header is not None and header.pictures * header.symbols <= MAX_PAYLOAD:
                    self._waiting.append((start, acquired, header))
                elif acquired.statistic > self._certain:
                    reason = "is unreadable (CRC)" if header is None else "asks for more symbols than a frame has"
                    events.append(Loss(self._first(start), f"its header {reason}"))
        return events

    def _read(self, start: float, acquired: Acquired, header: Header) -> Frame:
        length, clock = self.modem.length(header), 0.0
        section, symbols = self.modem.section(header), header.pictures * header.symbols
        for _ in range(3):
            chips, slopes = self._chips(start, length, acquired.frequency, clock)
            payload = self.modem.carrier.demodulate(chips, slopes, section, symbols)
            clock += payload.clock
            if abs(payload.clock) * length < 0.02:
                break
        shape = (header.pictures, header.symbols)
        frequency = (acquired.frequency + payload.frequency) / self.modem.pulse.sps
        size = self.modem.pulse.samples(length)
        y, gains = payload.symbols.reshape(shape), payload.gains.reshape(shape)
        return Frame(self._first(start), size, header, y, gains, payload.snr_db, frequency, clock, acquired.statistic)

    def _chips(self, start: float, length: int, frequency: float, clock: float) -> tuple[Complex, Complex | None]:
        """The matched filter's output at the symbol instants, freed of ``frequency``; its slopes in a long frame."""
        matched, sps = self._segments, self.modem.pulse.sps
        first = np.arange(0, length, SEGMENT)
        times = start + sps * (first + clock * (first - self._detector.length / 2))
        begins = np.floor(times).astype(np.int64)
        windows = sliding_window_view(self._buffer, matched.size)[begins - matched.margin * sps - self._origin]
        spectra, delays = matched.spectra(windows, frequency), (times - begins) / sps
        turn = np.exp(-2j * np.pi * frequency * np.arange(length)).astype(np.complex64)
        chips = matched.symbols(spectra, delays).ravel()[:length] * turn
        if length < LONG:
            return chips, None
        return chips, matched.symbols(spectra, delays, slope=True).ravel()[:length] * turn

    @property
    def _margin(self) -> int:
        return self._segments.margin * self.modem.pulse.sps

    def _first(self, start: float) -> float:
        """The first sample of a frame whose first symbol is at ``start``."""
        return start - self.modem.pulse.span * self.modem.pulse.sps / 2

    def _is_whole(self, waiting: tuple[float, Acquired, Header]) -> bool:
        """Whether a frame's last symbol has arrived, and the buffer holds the last window that is needed."""
        start, _, header = waiting
        last = start + (self.modem.length(header) - 1) * self.modem.pulse.sps
        return last <= self._arrived and last + self._segments.size <= self._origin + len(self._buffer)
