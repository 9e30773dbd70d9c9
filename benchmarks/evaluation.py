"""How well a sweep keeps its promises: kills, memory, overhead, workers.

usage: python benchmarks/evaluation.py [--only kills,memory,overhead,workers] [--small] [--out results/evaluation.json]

Works on made pictures with an untrained codec of 0.02 M weights, but for ``overhead``, which takes the zoo's faces64.
Every part is kept under its own name; ``--small`` is a trial of a minute that is not written.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from commin.atomic import write_text
from commin.channels import channel
from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC
from commin.codec.files import save_codec
from commin.data.imageset import ImageSet, load_pixels
from commin.evaluation.bench import Spec
from commin.evaluation.config import SweepConfig
from commin.evaluation.records import read_lines
from commin.evaluation.results import read_results
from commin.evaluation.sweep import RECORDS, run_sweep
from commin.evaluation.table import summarise, write_csv
from commin.images import from_uint8, save_picture, to_picture
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr, ssim
from commin.zoo.load import load

BATCH = 16
PEAK = """import resource, sys
from commin.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit:
    pass
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"""


def made_pictures(folder: Path, count: int, distinct: int) -> Path:
    """A folder of ``count`` pictures of 64×64, the first ``distinct`` repeated as hard links, all test."""
    folder.mkdir()
    coarse = torch.rand(distinct, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(0, 1)
    rows = ["file,split,identity"]
    for index in range(count):
        path = folder / f"{index:05}.png"
        if index < distinct:
            save_picture(to_picture(smooth[index]), path)
        else:
            path.hardlink_to(folder / f"{index % distinct:05}.png")
        rows.append(f"{path.name},test,{index % 25}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def tiny_codec(path: Path) -> Path:
    torch.manual_seed(0)
    config = DeepJSCCConfig(widths=(8, 16, 16), latent_channels=(8, 32, 128), bottleneck=16, image_size=64)
    save_codec(DeepJSCC(config).eval(), path)
    return path


def sweep_of(codec: Path, **changes: Any) -> dict[str, Any]:
    base = {"model": str(codec), "systems": ["deepjscc"], "bcr": ["1/48"], "snr_db": [0, 5], "crop": "none"}
    return base | changes


def records(folder: Path) -> list[dict[str, Any]]:
    """Records without their times, sorted."""
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in read_lines(folder / RECORDS)]
    return sorted(lines, key=lambda line: json.dumps(line, sort_keys=True))


def table(folder: Path) -> bytes:
    path = folder / "table.csv"
    write_csv(summarise(read_results(folder)), path)
    return path.read_bytes()


def kills(place: Path, small: bool) -> dict[str, Any]:
    """SIGKILL at random moments of a sweep of 1,000 units (a picture at a point), 200 times, then run to its end."""
    torch.set_num_threads(1)  # children are forked with everything imported: minutes, not hours
    pictures, wanted = (10, 6) if small else (100, 200)
    data, codec = made_pictures(place / "data", pictures, pictures), tiny_codec(place / "codec.safetensors")
    spec = Spec(SweepConfig.model_validate(sweep_of(codec, bcr=["1/192", "1/48"], snr_db=[-5, 0, 5, 10, 15])), data)
    whole, broken = place / "whole", place / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    run_sweep(spec, whole, batch=1)
    draw, done, sweeps, torn, begun = random.Random(0), 0, 0, 0, time.perf_counter()
    path = broken / RECORDS
    while done < wanted:
        child = os.fork()
        if child == 0:
            try:
                run_sweep(spec, broken, batch=1)
            finally:
                os._exit(0)
        if killed(child, path, draw.randint(0, 9), draw.uniform(0, 0.05)):
            done += 1
            torn += path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        else:  # it came to its end: checked, and begun again until there were enough kills
            check_same(broken, whole)
            path.unlink()
            sweeps += 1
    run_sweep(spec, broken, batch=1)
    lost, doubled = check_same(broken, whole)
    return {
        "units": pictures * 10, "kills": done, "sweeps": sweeps + 1, "torn lines": torn, "lost": lost,
        "doubled": doubled, "table identical": table(broken) == table(whole),
        "seconds": round(time.perf_counter() - begun),
    }  # fmt: skip


def killed(child: int, path: Path, records: int, moment: float) -> bool:
    """Kill once it has written so many more records and a moment passed; False if it came to its end before."""

    def size() -> int:
        return path.stat().st_size if path.exists() else 0

    goal = size() + 900 * records  # a record is about 900 bytes
    since = None if records else time.perf_counter() + 50 * moment  # also while it starts
    while not os.waitpid(child, os.WNOHANG)[0]:
        if since is None and size() >= goal:
            since = time.perf_counter()
        if since is not None and time.perf_counter() > since + moment:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.001)
    return False


def check_same(broken: Path, whole: Path) -> tuple[int, int]:
    """Records lost and doubled, once the sweep is run to its end."""
    keys = [
        json.dumps([line[k] for k in ("system", "bcr", "snr_db", "image")]) for line in read_lines(broken / RECORDS)
    ]
    wanted = {
        json.dumps([line[k] for k in ("system", "bcr", "snr_db", "image")]) for line in read_lines(whole / RECORDS)
    }
    lost, doubled = len(wanted - set(keys)), len(keys) - len(set(keys))
    if lost or doubled:
        raise SystemExit(f"kills: {lost} records lost, {doubled} doubled")
    return lost, doubled


def memory(place: Path, small: bool) -> dict[str, Any]:
    """Peak resident memory of a sweep as its pictures grow, each in a process of its own."""
    codec = tiny_codec(place / "codec.safetensors")
    found: dict[str, Any] = {}
    for count in (50, 200) if small else (100, 1000, 10000):
        data = made_pictures(place / f"data{count}", count, min(count, 100))
        sweep = place / f"sweep{count}.yaml"
        sweep.write_text(json.dumps(sweep_of(codec, snr_db=[0])))
        command = [sys.executable, "-P", "-c", PEAK, "evaluate", str(sweep), "--data", str(data)]
        command += ["-o", str(place / f"out{count}"), "--batch", "16"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[str(count)] = round(int(done.stdout.split("peak")[-1]) / 1024)
    values = list(found.values())
    return {"peak MiB by pictures": found, "growth": round(values[-1] / values[0] - 1, 4)}


def overhead(place: Path, small: bool) -> dict[str, Any]:
    """CPU time of a sweep of DeepJSCC, loading and kept features too, against a bare loop that sends and measures.

    Both take every picture at three SNRs and read it once.
    """
    count = 32 if small else 160
    data = made_pictures(place / "data", count, count)
    snrs = [-5.0, 0.0, 5.0]
    config = SweepConfig.model_validate({"systems": ["deepjscc"], "bcr": "1/48", "snr_db": snrs, "crop": "none"})
    source = ImageSet(data)
    link, lpips = load(config.model, "1/48"), try_lpips()
    link.channel = channel("awgn")
    bare, swept = [], []
    for turn in range(2 if small else 4):
        begin = time.process_time()
        with torch.no_grad():
            for first in range(0, count, BATCH):
                pixels = load_pixels(source, source.entries[first : first + BATCH], 64, "none")
                images = from_uint8(pixels)
                for snr in snrs:
                    restored = link.transmit(images, snr).images
                    psnr(restored, images), ssim(restored, images)
                    if lpips:
                        lpips(restored, images)
        bare.append(time.process_time() - begin)
        folder = place / f"out{turn}"
        folder.mkdir()
        begin = time.process_time()
        run_sweep(Spec(config, data), folder, batch=BATCH)
        swept.append(time.process_time() - begin)
    loop, sweep = min(bare[1:]), min(swept[1:])  # the first of each warms up
    return {"pictures": count, "SNRs": len(snrs), "bare loop CPU s": round(loop, 2), "sweep CPU s": round(sweep, 2),
            "overhead": round(sweep / loop - 1, 4), "lpips": lpips is not None}  # fmt: skip


def workers(place: Path, small: bool) -> dict[str, Any]:
    """The same sweep by 1 process, 2 processes and Ray (where installed): equal records, seconds with all loading."""
    count = 32 if small else 400
    data, codec = made_pictures(place / "data", count, min(count, 100)), tiny_codec(place / "codec.safetensors")
    spec = Spec(SweepConfig.model_validate(sweep_of(codec, snr_db=[-5, 0, 5])), data)
    kinds: list[int | str] = [1, 2]
    try:
        import ray  # noqa: F401

        kinds.append("ray")
    except ImportError:
        pass
    took: dict[str, float] = {}
    first: list[dict[str, Any]] | None = None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for kind in kinds:
        folder = place / f"out-{kind}"
        folder.mkdir()
        begin = time.perf_counter()
        skipped = run_sweep(spec, folder, kind, BATCH)  # type: ignore[arg-type]
        took[str(kind)] = round(time.perf_counter() - begin, 1)
        found = records(folder)
        first = first or found
        if skipped or found != first:
            raise SystemExit(f"workers {kind}: other records than one process's, or skipped {skipped}")
    torch.set_num_threads(threads)
    return {
        "records": len(first or ()), "identical": True, "seconds": took, "cores": os.cpu_count(),
        "efficiency of 2": round(took["1"] / (2 * took["2"]), 3), "load average": round(os.getloadavg()[0], 1),
    }  # fmt: skip


PARTS: dict[str, Callable[[Path, bool], dict[str, Any]]] = {
    "kills": kills, "memory": memory, "overhead": overhead, "workers": workers,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--small", action="store_true", help="a trial of each, not written")
    parser.add_argument("--out", type=Path, default=Path("results/evaluation.json"))
    options = parser.parse_args()
    for name in options.only.split(","):
        with TemporaryDirectory() as folder:
            found = PARTS[name](Path(folder), options.small)
        print(name, json.dumps(found), flush=True)
        if not options.small:
            content = json.loads(options.out.read_text()) if options.out.is_file() else {}
            content[name] = found | {"torch": torch.__version__, "threads": torch.get_num_threads()}
            write_text(options.out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
