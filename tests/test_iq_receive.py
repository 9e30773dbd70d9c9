"""The receiver chain, told nothing but the modem: frames are found, read and measured; losses are named."""

from collections.abc import Sequence

import numpy as np
import pytest

from commin.iq.detect import Detector, peaks
from commin.iq.frame import Modem, frame_samples
from commin.iq.header import Header
from commin.iq.impairments import Air, Impairments
from commin.iq.pulse import Complex, Pulse
from commin.iq.receive import Event, Frame, Loss, StreamReceiver
from tests.test_iq_frame import HEADER, payload


def silence(count: int) -> Complex:
    return np.zeros(count, np.complex64)


def noise(count: int, seed: int = 0) -> Complex:
    return np.random.default_rng(seed).standard_normal((count, 2), np.float32).view(np.complex64).ravel() / np.float32(
        2**0.5
    )


def air(samples: Complex, impairments: Impairments) -> Complex:
    channel = Air(impairments)
    return np.concatenate([channel.push(samples), channel.finish()])


def receive(samples: Complex, modem: Modem | None = None, block: int = 50_000, chunk: int = 1 << 17) -> list[Event]:
    receiver = StreamReceiver(modem or Modem(), chunk=chunk)
    events: list[Event] = []
    for start in range(0, len(samples), block):
        events += receiver.push(samples[start : start + block])
    return events + receiver.finish()


def frames(events: Sequence[Event]) -> list[Frame]:
    return [event for event in events if isinstance(event, Frame)]


def error(frame: Frame, sent: Complex) -> float:
    """Mean |y/h − z|², each picture of unit power."""
    return float(np.mean(np.abs(frame.symbols / frame.gains - sent) ** 2))


@pytest.mark.parametrize(
    ("snr", "profile"), [(-5.0, "standard"), (-5.0, "robust"), (0.0, "standard"), (5.0, "standard")]
)
def test_frames_of_random_offsets(snr: float, profile: str) -> None:
    rng, modem, errors, estimates = np.random.default_rng(7), Modem(profile=profile), [], []
    parts = []
    for number in range(12):
        samples = frame_samples(HEADER, payload(HEADER, number), modem)
        impairments = Impairments(
            snr, float(rng.uniform(0, 4000)), float(rng.uniform(-0.005, 0.005)) / 4, 20.0, seed=number
        )
        parts.append(air(np.concatenate([samples, silence(3000)]), impairments))
    got = receive(np.concatenate(parts)) if profile == "standard" else receive(np.concatenate(parts), modem)
    assert [frame.header for frame in frames(got)] == [HEADER] * 12
    for number, frame in enumerate(frames(got)):
        errors.append(error(frame, payload(HEADER, number)))
        estimates.append(frame.snr_db)
    assert abs(10 * np.log10(np.mean(errors)) + snr) < 0.7
    assert abs(np.mean(estimates) - snr) < 0.4
    assert np.std(estimates) < 0.9


def test_measures_offsets() -> None:
    sent = np.concatenate([silence(1000), frame_samples(HEADER, payload(HEADER), Modem()), silence(1000)])
    (frame,) = frames(receive(air(sent, Impairments(15.0, 5.3, -1.2e-3, 0.0, seed=1))))
    assert frame.start == pytest.approx(1005.3, abs=0.1)
    assert frame.frequency == pytest.approx(-1.2e-3, abs=1e-5)
    assert frame.snr_db == pytest.approx(15, abs=0.6)
    assert frame.samples == Modem().pulse.samples(Modem().length(HEADER))


def test_blocks_and_level_do_not_matter() -> None:
    sent = np.concatenate(
        [part for n in range(4) for part in (silence(2500), frame_samples(HEADER, payload(HEADER, n), Modem()))]
    )
    got = air(sent, Impairments(3.0, 0.4, 1e-3, 10.0, seed=2))
    one = frames(receive(got))
    for other in (
        receive(got, block=777, chunk=1 << 14),
        receive(got * np.float32(1e-4)),
        receive(got * np.float32(1e5)),
    ):
        assert [f.start for f in frames(other)] == pytest.approx([f.start for f in one], abs=0.02)
        assert [f.snr_db for f in frames(other)] == pytest.approx([f.snr_db for f in one], abs=0.02)
    assert len(one) == 4


def test_cut_silent_and_foreign() -> None:
    """Two frames whole, one cut at the end, silence, a foreign signal as strong, and a tone 10 dB stronger."""
    rng = np.random.default_rng(0)
    whole = frame_samples(HEADER, payload(HEADER), Modem())
    foreign = Pulse(4, 0.35).shape(np.exp(0.5j * np.pi * rng.integers(0, 4, 1000)).astype(np.complex64))
    tone = np.float32(1.6) * np.exp(2j * np.pi * 0.01 * np.arange(9000)).astype(np.complex64)
    parts = [silence(500), whole, silence(3000), foreign, tone, whole, silence(100), whole[:4000]]
    got = receive(np.concatenate(parts))
    assert len(frames(got)) == 2
    (loss,) = [event for event in got if isinstance(event, Loss)]
    assert "cut off at the end" in loss.reason
    assert loss.start == pytest.approx(sum(map(len, parts[:-1])), abs=1)


def test_a_tone_beside_the_signal_band_does_little() -> None:
    sent = air(
        np.concatenate([silence(500), frame_samples(HEADER, payload(HEADER), Modem())]), Impairments(10.0, seed=1)
    )
    tone = np.float32(3.0) * np.exp(2j * np.pi * 0.3 * np.arange(len(sent))).astype(np.complex64)
    (frame,) = frames(receive(sent + tone))
    assert error(frame, payload(HEADER)) < 0.15


def test_damaged_samples_are_named_and_the_rest_is_read() -> None:
    got = np.concatenate([silence(500), frame_samples(HEADER, payload(HEADER), Modem()), silence(6000)])
    got = air(got, Impairments(10.0, seed=1))
    got[8000:8010] = np.nan
    got[9000] = np.inf
    got[9100] = 1e30
    events = receive(got)
    assert len(frames(events)) == 1
    assert [event.reason for event in events if isinstance(event, Loss)] == [
        "12 samples from here on are NaN, infinite or absurd; taken as silence"
    ]


def test_header_damaged() -> None:
    modem = Modem()
    sent = frame_samples(HEADER, payload(HEADER), modem)
    section = modem.section(HEADER).copy()
    section[1::2] = np.exp(0.5j * np.pi * np.random.default_rng(3).integers(0, 4, len(section) // 2))
    broken = modem.pulse.shape(section)
    events = receive(air(np.concatenate([silence(500), broken, sent]), Impairments(20.0, seed=1)))
    assert [type(event) for event in events] == [Loss, Frame]
    assert "CRC" in events[0].reason  # type: ignore[union-attr]


def test_long_frame_with_a_drifting_clock() -> None:
    header = Header(7, 64, 0, 16, 4)
    sent = np.concatenate([silence(500), frame_samples(header, payload(header), Modem()), silence(500)])
    (frame,) = frames(receive(air(sent, Impairments(10.0, 0.7, 1e-3, 20.0, seed=4))))
    assert frame.clock == pytest.approx(20e-6, abs=3e-6)
    assert 10 * np.log10(error(frame, payload(header))) < -9.5


@pytest.mark.parametrize(
    ("impairments", "least"),
    [
        (Impairments(5.0, 3.2, 1e-3, phase_noise=1e-5, seed=2), 3.0),
        (Impairments(15.0, fading="fast", doppler=2e-5, seed=4), 6.0),
    ],
)
def test_gain_is_followed(impairments: Impairments, least: float) -> None:
    """The pictures' symbols, weighed by the gains that the receiver tells, are worth this SNR in dB."""
    sent = np.concatenate([silence(500), frame_samples(HEADER, payload(HEADER), Modem()), silence(500)])
    (frame,) = frames(receive(air(sent, impairments)))
    weight = np.abs(frame.gains) ** 2
    share = np.sum(weight * np.abs(frame.symbols / frame.gains - payload(HEADER)) ** 2) / np.sum(weight)
    assert -10 * np.log10(share) > least


@pytest.mark.parametrize("pulse", [Pulse(2, 0.35, 16), Pulse(8, 0.2, 16)])
def test_other_pulses(pulse: Pulse) -> None:
    modem = Modem(pulse)
    sent = np.concatenate([silence(333), frame_samples(HEADER, payload(HEADER), modem), silence(500)])
    (frame,) = frames(receive(air(sent, Impairments(5.0, 0.3, 0.004 / pulse.sps, 20.0, seed=3)), modem))
    assert 10 * np.log10(error(frame, payload(HEADER))) < -4.5


def test_noise_alone_and_nothing_at_all() -> None:
    assert receive(noise(1_000_000)) == []
    assert receive(silence(100_000)) == []
    assert receive(silence(0)) == []


@pytest.mark.parametrize("after", range(0, 2400, 160))
def test_a_stream_may_pause_anywhere(after: int) -> None:
    """Also right behind a frame, when its last window is not yet full."""
    sent = frame_samples(HEADER, payload(HEADER), Modem())
    receiver, border = StreamReceiver(Modem(), chunk=1), len(sent) + after
    got = air(np.concatenate([sent, silence(60_000)]), Impairments(5.0, seed=3))
    receiver.push(np.concatenate([noise(30_000), got[:border]]))
    events = receiver.push(got[border:]) + receiver.finish()
    assert len(frames(events)) == 1


def test_memory_is_bounded() -> None:
    receiver = StreamReceiver(Modem(), chunk=1 << 16)
    for number in range(30):
        receiver.push(noise(40_000, number))
        assert len(receiver._buffer) < 150_000


@pytest.mark.parametrize("colour", [1.0, 1e-6])
def test_false_alarms_are_as_many_as_the_formula_says(colour: float) -> None:
    """At a rate of 1e-4, where enough happen to be counted: a constant rate, whatever the noise level."""
    detector = Detector(Modem())
    statistic = detector.statistic(noise(2_000_000, 5) * np.float32(colour))
    found = peaks(statistic, detector.threshold(1e-4), detector.length)
    expected = 1e-4 * len(statistic) * detector.half
    assert 0.6 * expected < len(found) < 1.25 * expected


def test_peaks_are_the_largest_around() -> None:
    statistic = np.zeros(100)
    statistic[[10, 12, 50, 58, 99]] = [0.5, 0.9, 0.6, 0.7, 0.3]
    assert peaks(statistic, 0.4, 5).tolist() == [12, 50, 58]
    assert peaks(statistic, 0.2, 10).tolist() == [12, 58, 99]
    assert peaks(statistic, 0.95, 5).tolist() == []


def test_received_goes_into_a_link() -> None:
    sent = np.concatenate([frame_samples(HEADER, payload(HEADER), Modem()), silence(500)])
    (frame,) = frames(receive(air(sent, Impairments(5.0, seed=3))))
    received = frame.received()
    assert received.symbols.shape == (4, 256)
    assert received.csi is not None
    assert received.csi.gains is not None
    assert received.csi.gains.abs().square().mean().item() == pytest.approx(1, abs=0.05)
    assert received.csi.snr_db.tolist() == pytest.approx([frame.snr_db] * 4, abs=1e-5)
