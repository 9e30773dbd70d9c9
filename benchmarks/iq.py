"""How well samples become symbols again: ``python benchmarks/iq.py --frames 1000 --json results/iq.json``.

Every frame has a random start between two samples, a frequency offset within ±0.5 % of the symbol rate, a clock 20 ppm
off and a random phase, and holds 4 pictures of k = 256 (ρ = 1/48 at 64×64). The receiver is told nothing of it. Without
a codec's weights the payload is CN(0, 1), normalised for each picture.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from commin.iq.frame import FrameUse, Modem, frame_samples
from commin.iq.header import Header
from commin.iq.impairments import Air, Impairments
from commin.iq.pulse import Complex
from commin.iq.receive import Event, Frame, StreamReceiver

HEADER = Header(model=7, half_channels=16, design_snr_db=0, pictures=4, side=4)
PSNR_PER_DB = 0.4
"""dB of PSNR for a dB of SNR at ρ = 1/48."""

CORRUPTIONS = Path(__file__).parent.parent / "tests" / "test_iq_corrupt.py"

Row = dict[str, Any]


@dataclass
class Sent:
    """A frame on the air: its samples with noise around, where its first one is, and its payload."""

    samples: Complex
    start: float
    payload: Complex


@dataclass
class Tally:
    """What came of frames."""

    frames: int = 0
    read: int = 0
    spurious: int = 0
    snr_db: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    ideal: list[float] = field(default_factory=list)


def payload(rng: np.random.Generator, header: Header) -> Complex:
    symbols = rng.standard_normal((header.pictures, header.symbols, 2), np.float32).view(np.complex64)[..., 0]
    return symbols / np.sqrt(np.mean(np.abs(symbols) ** 2, axis=1, keepdims=True))


def on_air(rng: np.random.Generator, modem: Modem, header: Header, changes: Row, sent: Complex | None = None) -> Sent:
    sps = modem.pulse.sps
    sent = payload(rng, header) if sent is None else sent
    samples = frame_samples(header, sent, modem) * np.complex64(np.exp(2j * np.pi * rng.uniform()))
    before, after = (np.zeros(rng.integers(100, 1000) * sps, np.complex64) for _ in range(2))
    delay, clock = float(rng.uniform(0, sps)), 20.0 * float(rng.choice([-1, 1]))
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
    """Send frames, read them, compare. ``changes`` are impairments beside delay and offsets."""
    rng, tally = np.random.default_rng(seed), Tally(frames=frames)
    for done in range(0, frames, 50):
        part = [on_air(rng, modem, header, changes) for _ in range(min(50, frames - done))]
        receiver, events = StreamReceiver(modem), list[Event]()
        begins = np.cumsum([0, *(len(sent.samples) for sent in part)])
        for sent in part:
            events += receiver.push(sent.samples)
        events += receiver.finish()
        starts = np.array([begin + sent.start for begin, sent in zip(begins, part, strict=False)])
        for event in events:
            nearest = int(np.abs(starts - event.start).argmin())
            near = abs(starts[nearest] - event.start) < modem.pulse.sps
            if not isinstance(event, Frame) or not near or event.header != header:
                tally.spurious += not near
                continue
            tally.read += 1
            sent_symbols, noise = part[nearest].payload, 10 ** (-changes.get("snr_db", 0.0) / 20)
            gains = event.gains
            share = np.abs(gains) ** 2 + 10 ** (-event.snr_db / 10)
            tally.errors.append(effective_noise(sent_symbols, gains.conj() * event.symbols / share))
            ideal = sent_symbols + noise * payload(rng, header)
            tally.ideal.append(effective_noise(sent_symbols, ideal))
            tally.snr_db.append(event.snr_db)
    return tally


def detection_rows(frames: int, seed: int) -> Iterator[Row]:
    for profile, snr, least in (
        ("standard", -5, 0.97),
        ("standard", 0, 0.999),
        ("standard", 5, 0.999),
        ("robust", -5, 0.995),
    ):
        modem = Modem(profile=profile)
        use, tally = FrameUse.of(HEADER, modem), through(modem, frames, {"snr_db": float(snr)}, seed)
        known = use.known + use.header + use.waveform
        bound = 4.34 * np.sqrt((1 + 2 / 10 ** (snr / 10)) / known)
        loss = 10 * np.log10(np.mean(tally.errors) / np.mean(tally.ideal))
        yield {
            "row": f"{profile} {snr:+d} dB", "frames": frames, "overhead": round(use.overhead, 4),
            "read": tally.read / frames, "target": least, "spurious": tally.spurious,
            "snr_bias_db": round(float(np.mean(tally.snr_db)) - snr, 3),
            "snr_deviation_db": round(float(np.std(tally.snr_db)), 3), "bound_db": round(float(bound), 3),
            "loss_db": round(float(loss), 3), "psnr_loss_db": round(float(loss) * PSNR_PER_DB, 3),
        }  # fmt: skip


def noise_row(frames: int, seed: int) -> Row:
    rng, receiver, samples = np.random.default_rng(seed), StreamReceiver(Modem()), frames * 100_000
    events, size = [], 500_000
    for _ in range(samples // size):
        events += receiver.push(rng.standard_normal((size, 2), np.float32).view(np.complex64).ravel())
    events += receiver.finish()
    return {"row": "noise alone", "samples": samples, "false_alarms": len(events), "target": samples * 1e-7}


def small_row() -> Row:
    header = Header(model=7, half_channels=4, design_snr_db=0, pictures=16, side=4)
    return {"row": "16 pictures of k = 64", "overhead": round(FrameUse.of(header, Modem()).overhead, 4), "target": 0.4}


def echo_rows(frames: int, seed: int) -> Iterator[Row]:
    echoes = ((0, 1.0), (5, 0.6j), (14, -0.4))
    for waveform in ("single", "ofdm"):
        for snr in (0, 5, 10):
            tally = through(Modem(waveform=waveform), frames, {"snr_db": float(snr), "taps": echoes}, seed)
            effective = -10 * np.log10(np.mean(tally.errors)) if tally.errors else -np.inf
            yield {
                "row": f"3 paths, {waveform}, {snr:+d} dB", "frames": frames, "read": tally.read / frames,
                "effective_snr_db": round(float(effective), 2),
            }  # fmt: skip


def picture_rows(frames: int, seed: int, data: Path | None, model: str) -> Iterator[Row]:
    """PSNR of pictures through frames against the ideal link's, both decoded by the codec alone, at ρ = 1/48."""
    import torch

    from commin.channels.base import Csi, Received
    from commin.data.imageset import ImageSet, load_pixels
    from commin.errors import UserError
    from commin.home import data_path, home
    from commin.images import from_uint8
    from commin.metrics.pixels import psnr
    from commin.randomness import image_generators
    from commin.zoo.load import load

    try:
        link, faded, source = (
            load(model, "1/48"),
            load(model, "1/48", channel="rayleigh-block"),
            ImageSet(data_path(data)),
        )
    except UserError as error:
        yield {"row": "pictures", "left_out": str(error)}
        return
    side = link.codec.config.image_size
    pixels = load_pixels(source, source.split("test", 4 * frames), side, "celeba", home() / "cache")
    pictures = from_uint8(torch.from_numpy(np.ascontiguousarray(pixels)))
    groups, rng = list(pictures.split(4)), np.random.default_rng(seed)
    header = Header.of(model, link.bcr, 0, 4, side)

    def through_frame(part: "torch.Tensor", design: float, modem: Modem, changes: Row) -> "torch.Tensor | None":
        symbols = link.codec.encode(part, torch.full((len(part),), design), link.bcr).numpy()
        sent = on_air(rng, modem, header, changes | {"snr_db": design}, symbols)
        receiver = StreamReceiver(modem)
        events = receiver.push(sent.samples) + receiver.finish()
        found = [event for event in events if isinstance(event, Frame) and event.header == header]
        size, generators = (side, side), image_generators(part, seed, "receiver")
        return link.receive(found[0].received(), size, generators).estimate if found else None

    def blind(part: "torch.Tensor", snr: float) -> "torch.Tensor":
        sent = faded.transmit(part, snr, seed)
        received = Received(sent.received.symbols, Csi(torch.full((len(part),), snr)))
        return faded.receive(received, (side, side), image_generators(part, seed, "receiver")).estimate

    single, ofdm = Modem(), Modem(waveform="ofdm")
    echoes = {"taps": ((0, 1.0), (9, 0.7), (22, 0.5)), "fading": "block"}
    with torch.no_grad():
        for snr in (-5.0, 0.0, 5.0):
            scores: dict[str, list[float]] = {}
            for part in groups:
                got = {
                    "ideal": link.transmit(part, snr, seed).estimate,
                    "frames": through_frame(part, snr, single, {}),
                    "rayleigh": faded.transmit(part, snr, seed).estimate,
                    "rayleigh_no_csi": blind(part, snr),
                    "frames_rayleigh": through_frame(part, snr, single, {"fading": "block"}),
                    "frames_ofdm_3_rayleigh_paths": through_frame(part, snr, ofdm, echoes),
                }
                for name, images in got.items():
                    scores.setdefault(name, []).extend([] if images is None else psnr(images, part).tolist())
            means = {f"psnr_{name}": round(float(np.mean(values)), 3) for name, values in scores.items()}
            loss = round(means["psnr_ideal"] - means["psnr_frames"], 3)
            count = {name: len(values) for name, values in scores.items()}
            target = {-5.0: 0.3, 0.0: 0.15, 5.0: 0.1}[snr]
            yield {"row": f"pictures {snr:+g} dB", **means, "psnr_loss_db": loss, "target": target, "pictures": count}


def speed_rows(frames: int, seed: int) -> Iterator[Row]:
    rng, modem = np.random.default_rng(seed), Modem()
    one = np.concatenate([frame_samples(HEADER, payload(rng, HEADER), modem) for _ in range(min(frames, 200))])
    noise = rng.standard_normal((len(one), 2), np.float32).view(np.complex64).ravel()
    for name, samples in (("back to back", one + np.float32(0.7) * noise), ("noise", noise)):
        for threads in (1, 2):
            with ThreadPoolExecutor(threads) as pool:
                receiver = StreamReceiver(modem, pool if threads > 1 else None)
                receiver.push(samples[: 1 << 19])
                begin, cpu = time.perf_counter(), time.process_time()
                for start in range(0, len(samples), 1 << 18):
                    receiver.push(samples[start : start + (1 << 18)])
                receiver.finish()
                wall, busy = time.perf_counter() - begin, time.process_time() - cpu
            rate = {
                "msamples_per_s": round(len(samples) / wall / 1e6, 2),
                "per_cpu_s": round(len(samples) / busy / 1e6, 2),
            }
            yield {"row": f"speed, {name}, {threads} threads", "samples": len(samples), **rate, "target": 2.0}


def memory_row(frames: int, seed: int) -> Row:
    """Read a file of ``frames`` MB, frames and noise in turn."""
    import resource

    from commin.iq.sigmf import RecordingWriter, open_recording

    rng, modem = np.random.default_rng(seed), Modem()
    with TemporaryDirectory() as folder:
        path, part = Path(folder) / "long.sigmf-meta", on_air(rng, modem, HEADER, {"snr_db": 5.0}).samples
        with RecordingWriter(path, 1e6, modem) as writer:
            while writer.samples * 8 < frames * 1_000_000:
                writer.write(part)
        receiver, found, first = StreamReceiver(modem), 0, 0
        for number, block in enumerate(open_recording(path).blocks()):
            found += sum(isinstance(event, Frame) for event in receiver.push(block))
            first = first or (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if number == 8 else 0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - (first or 0) if first else 0
    return {"row": "memory", "megabytes": frames, "frames_read": found, "growth_mb": round(grown / 1024, 1)}


def corruption_row(count: int) -> Row:
    """Damage recordings in ``count`` ways by hypothesis: the tests of that, with more examples."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", str(CORRUPTIONS)]
    begin = time.perf_counter()
    done = subprocess.run(command, env=os.environ | {"COMMIN_CORRUPTIONS": str(-(-count // 6))}, capture_output=True)
    seconds = round(time.perf_counter() - begin, 1)
    return {"row": "corrupted recordings", "count": count, "no_traceback": done.returncode == 0, "seconds": seconds}


def main(
    frames: Annotated[int, typer.Option(help="Frames for each point; everything else scales with it.")] = 1000,
    only: Annotated[
        str, typer.Option(help="Parts, by commas.")
    ] = "detection,noise,small,echo,pictures,speed,memory,corruption",
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Faces for the PSNR rows; else COMMIN_DATA, else left out.")] = None,
    model: Annotated[str, typer.Option(help="A model of the zoo, for the PSNR rows.")] = "faces64",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows there.")] = None,
) -> None:
    """Measure, print, and write as JSON."""
    parts = {
        "detection": lambda: detection_rows(frames, seed),
        "noise": lambda: iter([noise_row(frames, seed)]),
        "small": lambda: iter([small_row()]),
        "echo": lambda: echo_rows(max(frames // 5, 1), seed),
        "pictures": lambda: picture_rows(frames, seed, data, model),
        "speed": lambda: speed_rows(frames, seed),
        "memory": lambda: iter([memory_row(frames, seed)]),
        "corruption": lambda: iter([corruption_row(10 * frames)]),
    }
    rows = []
    for part in only.split(","):
        for row in parts[part]():
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()).removeprefix("row "), flush=True)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({"frames": frames, "seed": seed, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
