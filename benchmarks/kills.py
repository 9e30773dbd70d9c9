"""Kill a training (−9) again and again at random moments and resume it: its weights must be those of one left alone.

A small codec on generated pictures; most kills fall while it trains or writes, one in five while it starts. Whenever a
run ends before all kills are done, another one begins. Ends with an error if any run's weights differ.

usage: python -P benchmarks/kills.py [--kills 50] [--processes 1] [--images 8000] [--longest 2] [--seed 0]
"""

import argparse
import contextlib
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
from commin.training.checkpoint import listed, load_latest

RECIPE = {
    "kind": "codec",
    "name": "killed",
    "data": {"size": 32, "crop": "centre", "validation_limit": 4},
    "model": {"widths": [8, 8, 8], "latent_channels": [8, 32], "bottleneck": 8, "image_size": 32},
    "link": {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}},
}
LOOP = {"batch": 8, "warmup_images": 16, "checkpoint_minutes": 0.005}


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
    state = load_latest(runs / "killed", torch.device("cpu"))
    return {
        **state["phases"]["codec"],
        **{f"average {key}": value for key, value in state["averages"]["codec"].items()},
    }


def started(runs: Path, since: float) -> bool:
    """Whether the training of this process has begun: the last thing before it is to write what it trains on."""
    about = runs / "killed" / "about.json"
    return about.exists() and about.stat().st_mtime > since


def live(arguments: list[str], environment: dict[str, str], runs: Path, processes: int, after: float | None) -> bool:
    """Start a training and kill one of its processes; True if it finished before.

    Args:
        arguments: of the process.
        environment: of the process.
        runs: where its run folder is.
        processes: of the job.
        after: seconds from the first step to the kill; negative for seconds from the start; None for no kill.
    """
    since = time.time()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(arguments, stderr=errors, env=environment)
        killed, limit = False, None if after is None or after >= 0 else time.monotonic() - after
        while process.poll() is None and not killed:
            if limit is None and after is not None and started(runs, since):
                limit = time.monotonic() + after
            if limit is not None and time.monotonic() >= limit and (victims := ranks(process.pid, processes)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(victims), signal.SIGKILL)
                    killed = True
            time.sleep(0.005)
        if process.wait() and not killed:
            errors.seek(0)
            sys.exit(f"the training failed without being killed:\n{errors.read()}")
        return process.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--images", type=int, default=8000, help="that a whole run sees, 8 a step")
    parser.add_argument("--longest", type=float, default=2.0, help="seconds of training within which a kill falls")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "COMMIN_HOME": str(folder / "home")}
        (folder / "photos").mkdir()
        for index in range(24):
            rng = torch.Generator().manual_seed(index)
            to_picture(torch.rand(3, 4, 4, generator=rng).repeat_interleave(8, 1).repeat_interleave(8, 2)).save(
                folder / "photos" / f"{index}.png"
            )
        recipe = {**RECIPE, "loop": {**LOOP, "images": options.images, "validate_every": options.images // 5}}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        target = folder / "whole"
        live(command(folder, target, options.processes), environment, target, options.processes, None)
        whole = final(target)
        print(f"the uninterrupted run: {options.images // 8} steps, {time.monotonic() - begun:.0f} s", flush=True)
        kills, runs, equal = 0, 0, 0
        while kills < options.kills:
            target, finished = folder / f"run-{runs}", False
            while not finished:
                arguments = command(folder, target, options.processes)
                if listed(target / "killed"):
                    arguments.append("--resume")
                wait = chance.uniform(0, options.longest)
                after = None if kills == options.kills else -3 * wait if chance.random() < 0.2 else wait
                finished = live(arguments, environment, target, options.processes, after)
                kills += not finished
            runs += 1
            cut = final(target)
            equal += whole.keys() == cut.keys() and all(torch.equal(value, cut[key]) for key, value in whole.items())
            print(
                f"{kills} kills, {runs} runs finished, {equal} of them equal to the uninterrupted one, "
                f"{time.monotonic() - begun:.0f} s", flush=True,
            )  # fmt: skip
        if equal < runs:
            sys.exit("some weights differ")


if __name__ == "__main__":
    main()
