"""Pulses: energy, Nyquist's criterion, fractional delays and slopes."""

import numpy as np
import pytest
from scipy.signal import upfirdn

from commin.errors import UserError
from commin.iq.pulse import Complex, MatchedFilter, Pulse, smooth_number


def symbols(count: int, seed: int = 0) -> Complex:
    return np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32).view(np.complex64).ravel()


@pytest.mark.parametrize("pulse", [Pulse(), Pulse(2, 0.35, 16), Pulse(8, 0.2, 32), Pulse(4, 1.0, 12), Pulse(4, 0.5, 8)])
def test_unit_energy_and_little_between_symbols(pulse: Pulse) -> None:
    assert np.sum(pulse.taps**2) == pytest.approx(1)
    assert np.isfinite(pulse.taps).all()
    assert np.allclose(pulse.taps, pulse.taps[::-1])
    cosine = np.convolve(pulse.taps, pulse.taps)[:: pulse.sps]
    interference = np.sum(cosine**2) - cosine[len(cosine) // 2] ** 2
    assert 10 * np.log10(interference) < -32


def test_shape_is_the_convolution() -> None:
    pulse, sent = Pulse(), symbols(50)
    wanted = upfirdn(pulse.taps, sent, pulse.sps)
    assert np.allclose(pulse.shape(sent), wanted[: pulse.samples(50)], atol=1e-6)
    assert len(pulse.shape(sent)) == pulse.samples(50) == (50 - 1 + 12) * 4 + 1


@pytest.mark.parametrize("sps", [2, 4, 10])
@pytest.mark.parametrize("delay", [0.0, 0.3, -0.45])
def test_matched_filter_reads_symbols_at_any_instant(sps: int, delay: float) -> None:
    pulse, sent = Pulse(sps, span=24), symbols(60)
    matched = MatchedFilter(pulse, 60)
    window = np.zeros(matched.size, np.complex64)
    begin = matched.margin * sps - pulse.span * sps // 2
    shaped = pulse.shape(sent)
    window[begin : begin + len(shaped)] = shaped
    spectrum = matched.spectra(window)
    assert np.sqrt(np.mean(np.abs(matched.symbols(spectrum, 0.0) - sent) ** 2)) < 0.01
    turn = np.exp(-2j * np.pi * np.fft.fftfreq(matched.size) * delay * sps)
    late = matched.spectra(np.fft.ifft(np.fft.fft(window) * turn).astype(np.complex64))
    assert np.sqrt(np.mean(np.abs(matched.symbols(late, delay) - sent) ** 2)) < 0.01


def test_slopes() -> None:
    pulse, sent = Pulse(span=24), symbols(80)
    matched = MatchedFilter(pulse, 80)
    window = np.zeros(matched.size, np.complex64)
    begin = matched.margin * 4 - pulse.span * 2
    shaped = pulse.shape(sent)
    window[begin : begin + len(shaped)] = shaped
    spectrum = matched.spectra(window)
    step = 1e-3
    numeric = (matched.symbols(spectrum, step) - matched.symbols(spectrum, -step)) / (2 * step)
    assert np.allclose(matched.symbols(spectrum, 0.0, slope=True), numeric, atol=2e-2)
    known = np.convolve(sent, pulse.slope(np.arange(-20, 21)), mode="same")
    assert np.sqrt(np.mean(np.abs(known - numeric)[20:-20] ** 2)) < 0.05


def test_noise_keeps_its_power() -> None:
    matched = MatchedFilter(Pulse(), 4000)
    noise = symbols(matched.size) / np.float32(2**0.5)
    assert np.mean(np.abs(matched.symbols(matched.spectra(noise), 0.0)) ** 2) == pytest.approx(1, abs=0.05)


def test_smooth_number() -> None:
    assert [smooth_number(n) for n in (1, 7, 13, 407, 4096)] == [2, 8, 16, 432, 4096]


@pytest.mark.parametrize(
    ("sps", "rolloff", "span"), [(3, 0.25, 12), (0, 0.25, 12), (4, 0.0, 12), (4, 2.0, 12), (4, 0.25, 5)]
)
def test_bad_options(sps: int, rolloff: float, span: int) -> None:
    with pytest.raises(UserError):
        Pulse(sps, rolloff, span)
