"""3GPP delay lines by Sionna: the tables of TR 38.901, at any sample rate, and frames that come through them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from commin.errors import UserError
from commin.iq.frame import Modem, frame_samples
from commin.iq.impairments import Impairments
from commin.iq.tdl import FIXED, SCALABLE, tdl
from tests.test_iq_cli import complaint, run
from tests.test_iq_frame import HEADER, payload
from tests.test_iq_receive import air, frames, silence
from tests.test_iq_receive import receive as received


def test_without_sionna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sionna", None)
    monkeypatch.setitem(sys.modules, "sionna.phy.channel.tr38901", None)
    with pytest.raises(UserError, match="commin"):
        tdl("A", 1e6)


@pytest.mark.parametrize(("profile", "spread"), [("F", 300.0), ("tdl-a", 300.0), ("A", -1.0), ("A", float("nan"))])
def test_what_is_no_profile(profile: str, spread: float) -> None:
    with pytest.raises(UserError, match=r"choose|must be"):
        tdl(profile, 1e6, spread)


@pytest.mark.parametrize("profile", [*SCALABLE, *FIXED])
def test_profiles_have_unit_power_and_their_delay_spread(profile: str) -> None:
    pytest.importorskip("sionna")
    line = tdl(profile, 1e9, 100.0)  # a sample is a nanosecond
    delays, powers = np.array([d for d, _ in line.taps]), np.array([abs(g) ** 2 for _, g in line.taps])
    spread = 100.0 if profile in SCALABLE else float(profile[1:])
    assert powers.sum() == pytest.approx(1, abs=1e-5)
    assert delays[0] == 0
    assert np.sqrt(powers @ delays**2 - (powers @ delays) ** 2) == pytest.approx(spread, rel=0.1)
    assert (line.k_factor > 1) == (profile[0] in "DE")


def test_table_of_tdl_c() -> None:
    """Source: TR 38.901, table 7.7.2-3."""
    pytest.importorskip("sionna")
    line = tdl("C", 20e6, 300.0)
    assert [delay for delay, _ in line.taps[:4]] == pytest.approx([0, 1.259, 1.331, 1.397], abs=2e-3)
    powers = 20 * np.log10([abs(gain) for _, gain in line.taps[:4]])
    assert powers - powers[0] == pytest.approx([0, 3.2, 0.9, -0.8], abs=0.01)
    assert 10 * np.log10(tdl("D", 20e6).k_factor) == pytest.approx(13.3, abs=0.01)


def test_frames_come_through() -> None:
    """Where no fade is deep: 10 of TDL-C frames at 12 dB, most of them read and worth more than 5 dB."""
    pytest.importorskip("sionna")
    line, modem, worth = tdl("C", 20e6, 300.0), Modem(waveform="ofdm"), []
    sent = np.concatenate([silence(500), frame_samples(HEADER, payload(HEADER), modem), silence(500)])
    for seed in range(10):
        faded = Impairments(12.0, 0.3, 5e-4, 10.0, fading="block", taps=line.taps, seed=seed, k_factor=line.k_factor)
        for frame in frames(received(air(sent, faded), modem)):
            weight = np.abs(frame.gains) ** 2
            share = np.sum(weight * np.abs(frame.symbols / frame.gains - payload(HEADER)) ** 2) / np.sum(weight)
            worth.append(-10 * np.log10(share))
    assert len(worth) >= 8
    assert np.median(worth) > 5


def test_channel_command(tmp_path: Path) -> None:
    (tmp_path / "tx.cf32").write_bytes(np.ones(4000, np.complex64).tobytes())
    raw = ["channel", tmp_path / "tx.cf32", "-o", tmp_path / "rx.cf32", "--sample-rate", 20e6]
    assert "--tdl F" in complaint(*raw, "--tdl", "F")
    pytest.importorskip("sionna")
    run(*raw, "--tdl", "A", "--delay-spread", 100, "--seed", 1)
    got = np.fromfile(tmp_path / "rx.cf32", np.complex64)[500:3500]
    assert np.std(got) < 1e-3
    assert 1e-3 < abs(got.mean()) != pytest.approx(1, abs=1e-3)
