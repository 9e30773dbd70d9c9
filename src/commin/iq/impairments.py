r"""What happens to samples on the air, block by block, from a seed alone.

    r[m] = e^{j(2πfm + φ_m)} · Σ_l a_l·h_l(t_m)·x(t_m − d_l) + w[m],   t_m = (m − D)/(1 + ε)

a: taps, of unit total power; h: fading, E|h|² = 1; D: delay; ε: how much faster the receiver's clock is; f: frequency
offset; φ: phase noise, a random walk with steps of variance 2πB for a Lorentzian line of width B; w: white noise of
variance Es·10^{−SNR/10}, so that the SNR is the mean Es/N0 at the matched filter's output. Delays count samples,
frequencies are in cycles per sample. However the stream is cut into blocks, the result is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from commin.errors import UserError
from commin.iq.pulse import Complex, Float, Index, as_complex64

REACH = 16
"""Samples to either side from which a value between samples is made."""

PHASES = 4096
SINUSOIDS = 32

LINE_OF_SIGHT = 0.7
"""Doppler shift of a line of sight over the largest. Source: 3GPP TR 38.901, section 7.7.2."""


@dataclass(frozen=True)
class Impairments:
    """What the channel does.

    Attributes:
        snr_db: mean Es/N0; None for no noise.
        delay: samples, 0..10⁷, not necessarily whole.
        frequency: carrier offset in cycles per sample, −0.5..0.5.
        ppm: how much faster the receiver's clock runs, in millionths, at most 1000.
        phase_noise: linewidth in cycles per sample.
        fading: ``none``; ``block``, one CN(0, 1) gain per tap and frame; ``fast``, Clarke's model.
        doppler: largest Doppler shift of fast fading in cycles per sample.
        taps: (delay in samples, also fractions, and complex gain) of each path; scaled to unit total power.
        k_factor: Rician factor of the first path's fading, power of its line of sight over that of the rest.
        seed: of all draws.
    """

    snr_db: float | None = None
    delay: float = 0.0
    frequency: float = 0.0
    ppm: float = 0.0
    phase_noise: float = 0.0
    fading: str = "none"
    doppler: float = 1e-6
    taps: tuple[tuple[float, complex], ...] = ((0, 1.0),)
    seed: int = 0
    k_factor: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "SNR": (self.snr_db or 0.0, -100, 200),
            "delay": (self.delay, 0, 1e7),
            "frequency offset": (self.frequency, -0.5, 0.5),
            "ppm": (self.ppm, -1000, 1000),
            "phase noise": (self.phase_noise, 0, 0.1),
            "Doppler": (self.doppler, 0, 0.1),
            "K factor": (self.k_factor, 0, 1e6),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise UserError(f"channel: {name} {value:g} is outside {low:g}..{high:g}")
        if self.fading not in ("none", "block", "fast"):
            raise UserError(f"channel: fading {self.fading}: unknown; choose none, block, fast")
        if not self.taps or not all(0 <= delay <= 100_000 for delay, _ in self.taps):
            raise UserError("channel: taps need delays of 0..100000 samples")
        total = sum(abs(gain) ** 2 for _, gain in self.taps)
        if not 0 < total < float("inf"):
            raise UserError("channel: the taps have no power")


class Air:
    """Samples in, impaired samples out."""

    def __init__(self, impairments: Impairments, symbol_energy: float = 1.0, frames: Sequence[int] = ()) -> None:
        """Begin a stream.

        Args:
            impairments: what happens.
            symbol_energy: Es of the samples to come, their mean power while symbols flow times samples per symbol.
            frames: first sample of each frame, ascending, at which block fading changes.
        """
        self._is = impairments
        noise, phase, fading = (np.random.default_rng(s) for s in np.random.SeedSequence(impairments.seed).spawn(3))
        self._noise, self._phase = noise, phase
        ratio = 0.0 if impairments.snr_db is None else 10 ** (-impairments.snr_db / 10)
        self._deviation = float(np.sqrt(symbol_energy * ratio / 2))
        norm = np.sqrt(sum(abs(gain) ** 2 for _, gain in impairments.taps))
        self._table = _interpolator()
        between = any(delay % 1 for delay, _ in impairments.taps)
        self._lead = REACH - 1 if between else 0  # a value between samples is certain only so much later
        self._paths = [(*self._path(delay), np.complex64(gain / norm)) for delay, gain in impairments.taps]
        factors = [impairments.k_factor, *(0.0 for _ in self._paths[1:])]
        self._fading = [_Gain(impairments, frames, fading, factor) for factor in factors]
        self._past = np.zeros(max(first + len(weights) - 1 for first, weights, _ in self._paths), np.complex64)
        self._seen = 0
        self._faded = np.zeros(2 * REACH, np.complex64)  # from sample _first − 2·REACH of the faded stream on
        self._first = 0
        self._sent = 0
        self._angle = 0.0

    def push(self, samples: Complex) -> Complex:
        """The next samples (N,), complex64; as many come out as are certain by now."""
        if not len(samples):
            return samples
        joined = np.concatenate([self._past, samples])
        longest, count = len(self._past), len(samples)
        faded = np.zeros(count, np.complex64)
        for (first, weights, gain), process in zip(self._paths, self._fading, strict=True):
            window = joined[longest - first - len(weights) + 1 : longest - first + count]
            delayed = window if len(weights) == 1 else np.convolve(window, weights, "valid")
            faded += gain * delayed * process(self._seen - self._lead, count)
        self._past, self._seen = joined[count:], self._seen + count
        return self._shift(self._resample(faded))

    def finish(self) -> Complex:
        """The last samples: echoes, and what the delay held back."""
        return self.push(np.zeros(len(self._past) + self._lead + 2 * REACH, np.complex64))

    def _path(self, delay: float) -> tuple[int, NDArray[np.float32]]:
        """The first lag, ``_lead`` included, and the weights of the samples that make a path of that delay."""
        whole, fraction = divmod(delay, 1)
        if not fraction:
            return int(whole) + self._lead, np.ones(1, np.float32)
        return int(whole) + self._lead + 1 - REACH, self._table[round(fraction * PHASES)]

    def _resample(self, samples: Complex) -> Complex:
        """Values at t_m by a windowed sinc; before the stream's begin there is silence."""
        self._faded = np.concatenate([self._faded, samples])
        rate, end = 1 + self._is.ppm * 1e-6, self._first + len(self._faded) - 2 * REACH
        until = int(np.floor((end - REACH - 1 - self._lead) * rate + self._is.delay))
        times = (np.arange(self._sent, max(until, self._sent)) - self._is.delay) / rate + self._lead
        self._sent += len(times)
        whole = np.floor(times).astype(np.int64)
        begun = int(np.searchsorted(whole, -REACH))
        whole, fractions = whole[begun:], (times - whole)[begun:]
        weights = self._table[np.rint(fractions * PHASES).astype(np.int64)]
        windows = sliding_window_view(self._faded, 2 * REACH)[whole + 1 + REACH - self._first]
        values = np.zeros(len(times), np.complex64)
        values[begun:] = np.einsum("mk,mk->m", windows, weights)
        keep = max(int(whole[-1]) + 1 + REACH - self._first, 0) if len(whole) else 0
        self._faded, self._first = self._faded[keep:], self._first + keep
        return values

    def _shift(self, samples: Complex) -> Complex:
        """Frequency offset, phase noise, noise."""
        count, begin = len(samples), self._sent - len(samples)
        phase = 2 * np.pi * ((self._is.frequency * np.arange(begin, begin + count)) % 1.0)
        if self._is.phase_noise and count:
            steps = np.sqrt(2 * np.pi * self._is.phase_noise) * self._phase.standard_normal(count)
            walk = self._angle + np.cumsum(steps)
            self._angle = float(walk[-1])
            phase = phase + walk
        turned = samples * as_complex64(np.exp(1j * phase))
        if self._deviation:
            noise = self._noise.standard_normal((count, 2), np.float32).view(np.complex64).ravel()
            turned = turned + np.float32(self._deviation) * noise
        return as_complex64(turned)


class _Gain:
    """h(t) of one path; Clarke's model as a sum of sinusoids (Xiao, Zheng and Beaulieu, 2006), with a line of sight."""

    def __init__(
        self, impairments: Impairments, frames: Sequence[int], generator: np.random.Generator, k_factor: float = 0.0
    ) -> None:
        self._kind = impairments.fading
        self._still, self._scattered = (k_factor / (1 + k_factor)) ** 0.5, (1 + k_factor) ** -0.5
        self._turn = 2 * np.pi * LINE_OF_SIGHT * (impairments.doppler if self._kind == "fast" else 0.0)
        self._borders = np.asarray(frames, np.int64)
        draws = generator.standard_normal((len(frames) + 1, 2)) if self._kind == "block" else np.zeros((1, 2))
        self._gains = (draws @ np.array([1, 1j]) / np.sqrt(2)).astype(np.complex64)
        if self._kind == "fast":
            angles = (2 * np.pi * np.arange(SINUSOIDS) + generator.uniform(-np.pi, np.pi, SINUSOIDS)) / SINUSOIDS
            self._shifts: Float = 2 * np.pi * impairments.doppler * np.cos(angles)
            self._offsets: Float = generator.uniform(0, 2 * np.pi, SINUSOIDS)
            self._step = int(max(1, min(1 << 16, 1 / (64 * max(impairments.doppler, 1e-12)))))

    def __call__(self, begin: int, count: int) -> "Complex | np.complex64":
        """h at samples begin … begin + count − 1."""
        if self._kind == "none":
            return np.complex64(1)
        places = np.arange(begin, begin + count)
        scattered = self._scatter(places)
        if not self._still:
            return scattered
        return as_complex64(self._still * np.exp(1j * self._turn * places) + self._scattered * scattered)

    def _scatter(self, places: Index) -> Complex:
        if self._kind == "block":
            gains: Complex = self._gains[np.searchsorted(self._borders, places, side="right")]
            return gains
        coarse = np.arange(places[0] // self._step, places[-1] // self._step + 2) * self._step
        waves = np.exp(1j * (np.outer(coarse, self._shifts) + self._offsets)).sum(axis=1) / np.sqrt(SINUSOIDS)
        return as_complex64(np.interp(places, coarse, waves.real) + 1j * np.interp(places, coarse, waves.imag))


def _interpolator() -> NDArray[np.float32]:
    """Sinc weights of 2·REACH samples around each of PHASES + 1 fractions, under a Kaiser window, each row of sum 1."""
    lag = np.arange(1 - REACH, REACH + 1) - np.arange(PHASES + 1)[:, None] / PHASES
    window = np.i0(9.0 * np.sqrt(np.clip(1 - (lag / REACH) ** 2, 0, None)))
    weights = np.sinc(lag) * window
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def parse_taps(text: str) -> tuple[tuple[float, complex], ...]:
    """Paths written as ``0:0,3.5:-6:90``: delay in samples, power in dB, phase in degrees.

    Raises:
        UserError: not of that form.
    """
    taps = []
    for part in text.split(","):
        try:
            delay, power, phase = ([*part.split(":"), "0"])[:3]
            taps.append((float(delay), 10 ** (float(power) / 20) * np.exp(1j * np.radians(float(phase)))))
        except (ValueError, OverflowError):
            raise UserError(f"--taps {text}: not of the form delay:dB[:degrees],…, such as 0:0,3:-6:90") from None
    return tuple((delay, complex(gain)) for delay, gain in taps)
