"""Kill a training (−9) again and again at random moments and resume it: its weights must be those of one left alone.

A small codec on generated pictures. Whenever a run ends before all kills are done, another one begins.

usage: python -P benchmarks/kills.py [--kills 50] [--processes 1] [--seed 0]
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from commin.images import to_picture
from commin.training import checkpoint

RECIPE = {
    "kind": "codec",
    "name": "killed",
    "data": {"size": 32, "crop": "centre", "validation_limit": 4},
    "model": {"widths": [8, 8, 8], "latent_channels": [8, 32], "bottleneck": 8, "image_size": 32},
    "link": {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}},
    "loop": {"images": 4000, "batch": 8, "warmup_images": 16, "validate_every": 800, "checkpoint_minutes": 0.005},
}


def command(folder: Path, runs: Path, processes: int) -> list[str]:
    train = ["-m", "commin", "train", "codec", str(folder / "recipe.yaml"), "--data", str(folder / "photos")]
    train += ["--threads", "1", "--runs", str(runs)]
    if processes == 1:
        return [sys.executable, *train]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
    return [sys.executable, *launch, *train]


def ranks(parent: int, processes: int) -> list[int]:
    """The processes that compute: the command itself, or the launcher's last children."""
    if processes == 1:
        return [parent]
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(each) for each in found[-processes:]]


def final(runs: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load_latest(runs / "killed", torch.device("cpu"))
    return {
        **state["phases"]["codec"],
        **{f"average {key}": value for key, value in state["averages"]["codec"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--longest", type=float, default=10.0, help="seconds after the start within which a kill falls")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        for index in range(24):
            rng = torch.Generator().manual_seed(index)
            to_picture(torch.rand(3, 4, 4, generator=rng).repeat_interleave(8, 1).repeat_interleave(8, 2)).save(
                folder / "photos" / f"{index}.png"
            )
        (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
        subprocess.run(command(folder, folder / "whole", options.processes), check=True, stderr=subprocess.DEVNULL)
        whole = final(folder / "whole")
        kills, runs, equal = 0, 0, 0
        while kills < options.kills:
            target = folder / f"run-{runs}"
            while True:
                arguments = command(folder, target, options.processes)
                if checkpoint.listed(target / "killed"):
                    arguments.append("--resume")
                process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
                if kills < options.kills:
                    limit = time.monotonic() + chance.uniform(0, options.longest)
                    while process.poll() is None and time.monotonic() < limit:
                        time.sleep(0.01)
                    if process.poll() is None and (victims := ranks(process.pid, options.processes)):
                        os.kill(chance.choice(victims), signal.SIGKILL)
                        kills += 1
                if process.wait() == 0:
                    break
            runs += 1
            cut = final(target)
            equal += all(torch.equal(value, cut[key]) for key, value in whole.items())
            print(f"{kills} kills, {runs} runs finished, {equal} of them equal to the uninterrupted one", flush=True)


if __name__ == "__main__":
    main()
