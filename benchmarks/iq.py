"""How well samples become pictures again: ``python benchmarks/iq.py`` writes results/iq.json, part by part.

Parts that the file already holds at the same settings are left alone; ``--only psnr,fading`` does these anew. Frames
are those of `iq_frames`: nothing of their offsets is told to the receiver. SNR is Es/N0 at the matched filter's output.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from iq_frames import HEADER, PPM, Row, on_air, payload, through
from iq_pictures import fading_rows, psnr_rows
from iq_retrain import retrain_rows

import commin
from commin.atomic import write_text
from commin.iq.frame import FrameUse, Modem, frame_samples
from commin.iq.header import Header
from commin.iq.ofdm import Ofdm
from commin.iq.receive import Event, Frame, StreamReceiver
from commin.iq.sigmf import RecordingWriter, open_recording

CORRUPTIONS = Path(__file__).parent.parent / "tests" / "test_iq_corrupt.py"
CORRUPTION_TESTS = 6
ECHOES = ((0, 1.0), (5, 0.6j), (14, -0.4))
SMALL = Header(model=7, half_channels=4, design_snr_db=0, pictures=16, side=4)
POINTS = (("standard", -5, 0.97, 0.8), ("standard", 0, 0.999, 0.5), ("standard", 5, 0.999, 0.35),
          ("robust", -5, 0.995, 0.8))  # fmt: skip
"""Profile, SNR in dB, least share read, largest deviation of the SNR estimate in dB."""


@dataclass(frozen=True)
class Settings:
    """What the figures depend on."""

    frames: int
    seed: int
    data: Path | None
    model: str


def detection_rows(settings: Settings) -> Iterator[Row]:
    """Frames found with their header right, what the symbols lose, and the SNR estimate beside its bound."""
    for profile, snr, least, widest in POINTS:
        modem = Modem(profile=profile)
        use, tally = FrameUse.of(HEADER, modem), through(modem, settings.frames, {"snr_db": float(snr)}, settings.seed)
        known = use.known + use.header + use.waveform
        bound = 4.34 * np.sqrt((1 + 2 / 10 ** (snr / 10)) / known)
        loss = 10 * np.log10(np.mean(tally.errors) / np.mean(tally.ideal))
        bias, deviation = float(np.mean(tally.snr_db)) - snr, float(np.std(tally.snr_db))
        yield {
            "row": f"frames read, {profile}, {snr:+d} dB", "frames": settings.frames,
            "read": tally.read / settings.frames, "target": least, "overhead": round(use.overhead, 4),
            "spurious": tally.spurious, "symbol_snr_loss_db": round(float(loss), 3),
        }  # fmt: skip
        yield {
            "row": f"SNR estimate, {profile}, {snr:+d} dB", "frames": tally.read, "bias_db": round(bias, 3),
            "deviation_db": round(deviation, 3), "target": widest, "bound_db": round(float(bound), 3),
            "over_bound": round(deviation / float(bound), 3),
        }  # fmt: skip


def noise_rows(settings: Settings) -> Iterator[Row]:
    """White noise alone, 100,000 samples for each frame asked: what is taken for a frame, and memory meanwhile."""
    rng, receiver, samples = np.random.default_rng(settings.seed), StreamReceiver(Modem()), settings.frames * 100_000
    size, events, resident = 500_000, list[Event](), []
    for _ in range(samples // size):
        events += receiver.push(rng.standard_normal((size, 2), np.float32).view(np.complex64).ravel())
        resident.append(_resident_mb())
    events += receiver.finish()
    found = sum(isinstance(event, Frame) for event in events)
    yield {
        "row": "noise alone", "samples": samples, "false_frames": found, "false_losses": len(events) - found,
        "target": samples * 1e-7, "memory_growth_mb": _growth(resident),
    }  # fmt: skip


def small_rows(settings: Settings) -> Iterator[Row]:
    """Small pictures share a frame."""
    overhead = FrameUse.of(SMALL, Modem()).overhead
    for snr in (-5, 0, 5):
        tally = through(Modem(), settings.frames, {"snr_db": float(snr)}, settings.seed, SMALL)
        read = tally.read / settings.frames
        yield {"row": f"16 pictures of k = 64, {snr:+d} dB", "frames": settings.frames, "read": read,
               "overhead": round(overhead, 4), "target": 0.4}  # fmt: skip


def echo_rows(settings: Settings) -> Iterator[Row]:
    """What symbols are worth behind three fixed paths: 3.5 symbols of echo drown a single carrier, not OFDM."""
    frames = max(settings.frames // 5, 1)
    modems = {"single": Modem(), "ofdm, LMMSE": Modem(waveform="ofdm"), "ofdm, LS": _least_squares()}
    for name, modem in modems.items():
        for snr in (0, 5, 10):
            tally = through(modem, frames, {"snr_db": float(snr), "taps": ECHOES}, settings.seed)
            worth = -10 * np.log10(np.mean(tally.errors)) if tally.errors else -np.inf
            yield {"row": f"3 paths, {name}, {snr:+d} dB", "frames": frames, "read": tally.read / frames,
                   "effective_snr_db": round(float(worth), 2)}  # fmt: skip


def _least_squares() -> Modem:
    modem = Modem(waveform="ofdm")
    modem.__dict__["carrier"] = Ofdm(estimator="ls")
    return modem


def speed_rows(settings: Settings) -> Iterator[Row]:
    """Samples per second without restoration, of wall time and of processor time."""
    rng, modem = np.random.default_rng(settings.seed), Modem()
    count = min(settings.frames, 200)
    one = np.concatenate([frame_samples(HEADER, payload(rng, HEADER), modem) for _ in range(count)])
    noise = rng.standard_normal((len(one), 2), np.float32).view(np.complex64).ravel()
    for name, samples in (("frames back to back", one + np.float32(0.7) * noise), ("noise", noise)):
        for threads in (1, 2):
            with ThreadPoolExecutor(threads) as pool:
                receiver = StreamReceiver(modem, pool if threads > 1 else None)
                receiver.push(samples[: 1 << 19])
                begin, cpu = time.perf_counter(), time.process_time()
                for start in range(0, len(samples), 1 << 18):
                    receiver.push(samples[start : start + (1 << 18)])
                receiver.finish()
                wall, busy = time.perf_counter() - begin, time.process_time() - cpu
            yield {
                "row": f"speed, {name}, {threads} threads", "samples": len(samples),
                "msamples_per_s": round(len(samples) / wall / 1e6, 2),
                "msamples_per_cpu_s": round(len(samples) / busy / 1e6, 2), "target": 2.0,
                "load": round(os.getloadavg()[0], 1),
            }  # fmt: skip


def memory_rows(settings: Settings) -> Iterator[Row]:
    """Read a file of one MB for each frame asked, frames and noise in turn."""
    rng, modem = np.random.default_rng(settings.seed), Modem()
    with TemporaryDirectory() as folder:
        path, part = Path(folder) / "long.sigmf-meta", on_air(rng, modem, HEADER, {"snr_db": 5.0}).samples
        with RecordingWriter(path, 1e6, modem) as writer:
            while writer.samples * 8 < settings.frames * 1_000_000:
                writer.write(part)
        receiver, found, resident = StreamReceiver(modem), 0, []
        for block in open_recording(path).blocks():
            found += sum(isinstance(event, Frame) for event in receiver.push(block))
            resident.append(_resident_mb())
    yield {"row": "memory", "megabytes": settings.frames, "frames_read": found, "growth_mb": _growth(resident)}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _growth(resident: list[float]) -> float:
    """How much more memory was held at any time than at the most in the first tenth."""
    early = max(1, len(resident) // 10)
    return round(max(resident) - max(resident[:early]), 1)


def corruption_rows(settings: Settings) -> Iterator[Row]:
    """Damage recordings in ten ways for each frame asked, by hypothesis: the tests of that, with more examples."""
    count = 10 * settings.frames
    command = [sys.executable, "-m", "pytest", "-q", str(CORRUPTIONS)]
    changed = os.environ | {"COMMIN_CORRUPTIONS": str(-(-count // CORRUPTION_TESTS))}
    begin = time.perf_counter()
    done = subprocess.run(command, env=changed, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - begin, 1)
    yield {"row": "corrupted recordings", "count": count, "no_traceback": done.returncode == 0, "seconds": seconds}
    if done.returncode:
        print(done.stdout[-2000:])


PARTS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "detection": detection_rows,
    "noise": noise_rows,
    "small": small_rows,
    "psnr": lambda s: psnr_rows(s.frames, s.seed, s.data, s.model),
    "fading": lambda s: fading_rows(s.frames, s.seed, s.data, s.model),
    "retrain": lambda s: retrain_rows(s.frames, s.seed, s.data, s.model),
    "echo": echo_rows,
    "speed": speed_rows,
    "memory": memory_rows,
    "corruption": corruption_rows,
}


def main(
    frames: Annotated[int, typer.Option(help="Frames for each point; everything else scales with it.")] = 1000,
    only: Annotated[str, typer.Option(help=f"Parts to do anew, by commas: {', '.join(PARTS)}.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Faces for psnr and fading; else COMMIN_DATA, else left out.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model of the zoo, for psnr and fading.")] = "faces64",
    out: Annotated[Path, typer.Option(help="The file of results.")] = Path("results/iq.json"),
    table: Annotated[bool, typer.Option("--table", help="Measure nothing; print the file as Markdown.")] = False,
) -> None:
    """Measure, print, and write as JSON."""
    settings = Settings(frames, seed, data, model)
    held = json.loads(out.read_text()) if out.exists() else {}
    if table:
        return print_table(held)
    chosen = only.split(",") if only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"--only: no part {', '.join(sorted(unknown))}")
    for part in chosen:
        asked = {"frames": frames, "seed": seed}
        if not only and held.get(part, {}).items() >= (asked | {"complete": True}).items():
            print(f"{part}: done already")
            continue
        about = asked | {"commin": commin.__version__, "numpy": np.__version__, "machine": _machine(), "ppm": PPM}
        rows: list[Row] = []
        for row in PARTS[part](settings):
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()).removeprefix("row "), flush=True)
            _save(out, held | {part: about | {"complete": False, "rows": rows}})
        held[part] = about | {"complete": True, "rows": rows}
        _save(out, held)


def _save(out: Path, held: dict[str, Row]) -> None:
    ordered = {name: held[name] for name in PARTS if name in held}
    write_text(out, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def print_table(held: dict[str, Row]) -> None:
    """The file of results as Markdown."""
    print("| | measured | target |\n|---|---|---|")
    hidden = ("row", "target", "weights", "commin", "pictures", "load")
    for row in (row for part in held.values() for row in part["rows"]):
        measured = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in row.items() if key not in hidden)
        print(f"| {row['row']} | {measured} | {row.get('target', '')} |")


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    typer.run(main)
