"""Impairments: each does what its formula says, from a seed alone, however the stream is cut."""

import numpy as np
import pytest
from scipy.special import j0

from commin.errors import UserError
from commin.iq.impairments import Air, Impairments, parse_taps
from commin.iq.pulse import Complex

ALL = Impairments(3.0, 7.3, 1e-3, 20.0, 1e-6, "fast", 1e-4, ((0, 1), (9, 0.5j)), 5)


def tone(count: int, frequency: float = 0.01) -> Complex:
    return np.exp(2j * np.pi * frequency * np.arange(count)).astype(np.complex64)


def through(impairments: Impairments, samples: Complex, cuts: int = 1, frames: tuple[int, ...] = ()) -> Complex:
    air = Air(impairments, 1.0, frames)
    return np.concatenate([*(air.push(part) for part in np.array_split(samples, cuts)), air.finish()])


def test_nothing_changes_nothing() -> None:
    sent = tone(1000)
    got = through(Impairments(), sent)
    assert np.allclose(got[:1000], sent, atol=1e-5)
    assert np.abs(got[1000:]).max(initial=0) < 1e-6


BETWEEN = Impairments(3.0, 7.3, 1e-3, 20.0, 0.0, "fast", 1e-4, ((0.4, 1), (9.7, 0.5j)), 5, 2.0)


@pytest.mark.parametrize(
    "impairments", [ALL, BETWEEN, Impairments(0.0, fading="block", seed=3), Impairments(delay=5000.5)]
)
def test_cuts_do_not_matter(impairments: Impairments) -> None:
    sent = tone(20_000)
    whole, parts = through(impairments, sent, 1, (3000, 9000)), through(impairments, sent, 37, (3000, 9000))
    assert len(whole) == len(parts)
    assert np.allclose(whole, parts, atol=1e-5)


def test_seed() -> None:
    sent = tone(1000)
    assert np.array_equal(through(ALL, sent), through(ALL, sent))
    other = Impairments(3.0, 7.3, 1e-3, 20.0, 1e-6, "fast", 1e-4, ((0, 1), (9, 0.5j)), 6)
    assert not np.allclose(through(ALL, sent), through(other, sent))


def test_snr() -> None:
    noise = through(Impairments(-5.0), np.zeros(300_000, np.complex64))
    assert 10 * np.log10(np.mean(np.abs(noise) ** 2)) == pytest.approx(5, abs=0.05)
    assert abs(np.mean(noise**2)) < 0.05


@pytest.mark.parametrize(("delay", "ppm"), [(0.5, 0.0), (12.25, 0.0), (3.0, 200.0), (1.7, -500.0)])
def test_delay_and_clock(delay: float, ppm: float) -> None:
    got = through(Impairments(delay=delay, ppm=ppm), tone(5000, 0.1))
    times = (np.arange(100, 4900) - delay) / (1 + ppm * 1e-6)
    assert np.allclose(got[100:4900], np.exp(2j * np.pi * 0.1 * times), atol=2e-3)
    assert len(got) == pytest.approx(5000 * (1 + ppm * 1e-6) + delay, abs=40)


def test_frequency() -> None:
    got = through(Impairments(frequency=0.003), np.ones(4000, np.complex64))[100:3900]
    assert np.allclose(got, np.exp(2j * np.pi * 0.003 * np.arange(100, 3900)), atol=1e-3)


def test_phase_noise_is_a_random_walk() -> None:
    got = through(Impairments(phase_noise=1e-5, seed=1), np.ones(400_000, np.complex64))[100:-100]
    steps = np.angle(got[1:] / got[:-1])
    assert np.var(steps) == pytest.approx(2 * np.pi * 1e-5, rel=0.03)


def test_taps_are_a_filter_of_unit_power() -> None:
    sent = tone(500, 0.02)
    got = through(Impairments(taps=((0, 3.0), (4, 4.0j))), sent)
    assert np.allclose(got[:504], np.convolve(sent, [0.6, 0, 0, 0, 0.8j]), atol=1e-4)
    assert parse_taps("0:0,3:-6:90")[1] == (3, pytest.approx(10**-0.3 * 1j))


def test_paths_between_samples() -> None:
    got = through(Impairments(taps=((0.3, 0.6), (7.75, 0.8j))), tone(3000, 0.05))[100:2900]
    waves = (np.exp(2j * np.pi * 0.05 * (np.arange(100, 2900) - delay)) for delay in (0.3, 7.75))
    assert np.allclose(got, np.array([0.6, 0.8j]) @ np.stack(list(waves)), atol=2e-3)
    assert parse_taps("0:0,1.5:-3")[1][0] == 1.5


def test_line_of_sight() -> None:
    """Its power is K times that of the rest, only in the first path, and its Doppler shift is 0.7 of the largest."""
    frames = tuple(range(0, 400_000, 1000))
    for factor in (0.0, 4.0):
        taken = Impairments(fading="block", seed=2, k_factor=factor, taps=((0, 1.0),))
        gains = through(taken, np.ones(400_000, np.complex64), 1, frames)[500:400_000:1000]
        assert np.mean(np.abs(gains) ** 2) == pytest.approx(1, abs=0.15)
        assert abs(np.mean(gains)) ** 2 == pytest.approx(factor / (1 + factor), abs=0.1)
    fast = Impairments(fading="fast", doppler=1e-3, k_factor=1e6)
    got = through(fast, np.ones(3000, np.complex64))[100:2900]
    assert np.allclose(got, np.exp(2j * np.pi * 0.7e-3 * np.arange(100, 2900)), atol=1e-2)


def test_block_fading_changes_with_frames() -> None:
    frames = tuple(range(0, 400_000, 1000))
    gains = through(Impairments(fading="block", seed=2), np.ones(400_000, np.complex64), 1, frames)
    gains = gains[:400_000].reshape(400, 1000)
    assert np.allclose(gains[:, 100:900], gains[:, 500:501], atol=1e-4)
    assert np.mean(np.abs(gains[:, 500]) ** 2) == pytest.approx(1, abs=0.15)


def test_fast_fading_follows_clarke() -> None:
    runs = np.stack(
        [through(Impairments(fading="fast", doppler=1e-3, seed=s), np.ones(3000, np.complex64)) for s in range(80)]
    )
    assert np.mean(np.abs(runs[:, 100:2900]) ** 2) == pytest.approx(1, abs=0.1)
    for lag in (100, 250, 400):
        measured = np.mean(runs[:, 100:2000] * runs[:, 100 + lag : 2000 + lag].conj())
        assert measured.real == pytest.approx(j0(2 * np.pi * 1e-3 * lag), abs=0.12)


@pytest.mark.parametrize(
    "bad",
    [{"snr_db": float("nan")}, {"delay": -1.0}, {"frequency": 0.6}, {"ppm": 5000.0}, {"phase_noise": -1.0},
     {"fading": "other"}, {"taps": ()}, {"taps": ((0, 0.0),)}, {"taps": ((-1, 1.0),)},
     {"k_factor": -1.0}, {"taps": ((float("nan"), 1.0),)}],
)  # fmt: skip
def test_bad_impairments(bad: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Impairments(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "0", "a:b", "0:0,1", "0:x"])
def test_bad_taps(text: str) -> None:
    with pytest.raises(UserError):
        parse_taps(text)
