"""OFDM payloads: echoes shorter than the prefix become gains; LMMSE is nearer to them than least squares."""

from typing import Literal

import numpy as np
import pytest

from commin.iq.frame import Modem
from commin.iq.header import Header
from commin.iq.impairments import Impairments
from commin.iq.ofdm import Ofdm
from commin.iq.pulse import Complex
from tests.test_iq_frame import HEADER, payload
from tests.test_iq_receive import air, error, frame_samples, frames, receive, silence

ECHOES = np.array([0.1, 1, 0, 0.5j, 0, -0.3, 0, 0.2], np.complex64)
ECHOES /= np.linalg.norm(ECHOES)


def chips(ofdm: Ofdm, snr_db: float, seed: int = 0, frequency: float = 0.0) -> tuple[Complex, Complex, Complex]:
    """What is received through `ECHOES`, the strongest one chip late; the section sent; the payload sent."""
    rng = np.random.default_rng(seed)
    section, sent = Modem().section(HEADER), payload(HEADER, seed).ravel()
    through = np.convolve(np.concatenate([section, ofdm.modulate(sent)]), ECHOES)[1:]
    through = through[: len(section) + ofdm.length(len(sent))]
    noise = (
        rng.standard_normal((len(through), 2)).astype(np.float32).view(np.complex64).ravel()
        * 10 ** (-snr_db / 20)
        / 2**0.5
    )
    turn = np.exp(2j * np.pi * frequency * np.arange(len(through)))
    return ((through + noise) * turn).astype(np.complex64), section, sent


def test_without_noise_every_symbol_comes_back() -> None:
    ofdm = Ofdm(estimator="ls")
    got, section, sent = chips(ofdm, 80.0, frequency=2e-5)
    read = ofdm.demodulate(got, None, section, len(sent))
    assert np.allclose(read.symbols / read.gains, sent, atol=0.03)
    assert read.frequency == pytest.approx(2e-5, abs=5e-6)
    assert np.mean(np.abs(read.gains) ** 2) == pytest.approx(1, abs=0.1)


def test_chips() -> None:
    ofdm, sent = Ofdm(), payload(HEADER).ravel()
    made = ofdm.modulate(sent)
    assert len(made) == ofdm.length(1024) == 9 * 144
    assert np.mean(np.abs(made) ** 2) == pytest.approx(1, abs=0.1)
    blocks = made.reshape(9, 144)
    assert np.allclose(blocks[:, :16], blocks[:, -16:], atol=1e-6)


def test_lmmse_is_nearer_than_least_squares() -> None:
    delays = np.arange(len(ECHOES)) - 1 + 4

    def mean_error(estimator: Literal["lmmse", "ls"]) -> float:
        ofdm, total = Ofdm(estimator=estimator), 0.0
        for seed in range(15):
            got, section, sent = chips(ofdm, -3.0, seed)
            read = ofdm.demodulate(got, None, section, len(sent))
            places = ofdm._places(9)[: len(sent)] % 128
            true = np.exp(-2j * np.pi * np.outer(places, delays) / 128) @ ECHOES
            aligned = np.exp(-1j * np.angle(np.vdot(true, read.gains)))
            total += float(np.mean(np.abs(read.gains * aligned - true / np.sqrt(np.mean(np.abs(true) ** 2))) ** 2))
        return total / 15

    assert mean_error("lmmse") < 0.75 * mean_error("ls")


def test_snr_of_subcarriers() -> None:
    """Noise over the gains that the receiver tells is what it says it is."""
    ofdm, ratios, told = Ofdm(), [], []
    for seed in range(10):
        got, section, sent = chips(ofdm, 5.0, seed)
        read = ofdm.demodulate(got, None, section, len(sent))
        ratios.append(np.mean(np.abs(read.symbols - read.gains * sent) ** 2))
        told.append(10 ** (-read.snr_db / 10))
    assert np.mean(told) == pytest.approx(np.mean(ratios), rel=0.12)


def test_frames_through_echoes() -> None:
    """Where a single carrier drowns in echoes, OFDM does not."""
    echoes = Impairments(12.0, 0.6, 8e-4, 10.0, taps=((0, 1.0), (12, 0.7j), (30, -0.5)), seed=6)
    worth = {}
    for waveform in ("single", "ofdm"):
        modem = Modem(waveform=waveform)
        sent = np.concatenate([silence(500), frame_samples(HEADER, payload(HEADER), modem), silence(500)])
        (frame,) = frames(receive(air(sent, echoes), modem))
        weight = np.abs(frame.gains) ** 2
        share = np.sum(weight * np.abs(frame.symbols / frame.gains - payload(HEADER)) ** 2) / np.sum(weight)
        worth[waveform] = -10 * np.log10(share)
    assert worth["ofdm"] > worth["single"] + 4


def test_small_payload() -> None:
    modem, header = Modem(waveform="ofdm"), Header(7, 1, 0, 1, 1)
    sent = np.concatenate([silence(500), frame_samples(header, payload(header), modem), silence(500)])
    (frame,) = frames(receive(air(sent, Impairments(20.0, seed=1)), modem))
    assert frame.symbols.shape == (1, 1)
    assert error(frame, payload(header)) < 0.2
