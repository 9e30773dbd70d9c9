"""Frames: what they cost, what their known symbols are like, peaks."""

import numpy as np
import pytest

from commin.errors import UserError
from commin.iq.frame import PROFILES, FrameUse, Modem, frame_samples, papr_db
from commin.iq.header import Header
from commin.iq.pulse import Complex

HEADER = Header(7, 16, 0, 4, 4)


def payload(header: Header, seed: int = 0) -> Complex:
    rng = np.random.default_rng(seed)
    symbols = rng.standard_normal((header.pictures, header.symbols, 2)).astype(np.float32).view(np.complex64)[..., 0]
    return symbols / np.sqrt(np.mean(np.abs(symbols) ** 2, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("profile", "header", "most"),
    [("standard", HEADER, 0.30), ("standard", Header(7, 64, 0, 1, 4), 0.30), ("robust", HEADER, 0.40),
     ("standard", Header(7, 4, 0, 16, 4), 0.40), ("standard", Header(7, 4, 0, 32, 4), 0.20)],
)  # fmt: skip
def test_overhead(profile: str, header: Header, most: float) -> None:
    assert FrameUse.of(header, Modem(profile=profile)).overhead <= most


@pytest.mark.parametrize("waveform", ["single", "ofdm"])
@pytest.mark.parametrize("profile", list(PROFILES))
def test_use_is_what_was_sent(profile: str, waveform: str) -> None:
    modem = Modem(profile=profile, waveform=waveform)
    samples, use = frame_samples(HEADER, payload(HEADER), modem), FrameUse.of(HEADER, modem)
    assert len(samples) == modem.pulse.samples(modem.length(HEADER))
    assert use.total == modem.length(HEADER) + modem.pulse.span
    assert use.payload == 1024
    assert np.mean(np.abs(samples) ** 2) * modem.pulse.sps == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_known_symbols_resemble_no_shift_of_themselves(profile: str) -> None:
    known = Modem(profile=profile).known
    assert np.allclose(np.abs(known), 1)
    length = len(known)
    for delay in range(1, length, 7):
        ambiguity = np.abs(np.fft.fft(known * np.roll(known, delay).conj()))
        assert ambiguity.max() == pytest.approx(length**0.5, rel=1e-3)


def test_clipping_limits_peaks() -> None:
    free = frame_samples(HEADER, payload(HEADER), Modem())
    cut = frame_samples(HEADER, payload(HEADER), Modem(), clip_db=4.0)
    assert papr_db(free) > 6
    assert papr_db(cut) == pytest.approx(4, abs=0.5)
    assert np.allclose(np.angle(cut / free), 0, atol=1e-5)


def test_bad_frames() -> None:
    with pytest.raises(ValueError, match="header says"):
        frame_samples(HEADER, payload(HEADER)[:2], Modem())
    with pytest.raises(ValueError, match="NaN"):
        frame_samples(HEADER, np.full((4, 256), np.nan, np.complex64), Modem())
    big = Header(7, 128, 0, 32, 4)
    with pytest.raises(UserError, match="fewer"):
        frame_samples(big, payload(big), Modem())
    for name in ("profile", "waveform"):
        with pytest.raises(UserError, match="choose"):
            Modem(**{name: "other"})
