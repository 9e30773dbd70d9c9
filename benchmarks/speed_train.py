"""Training speed of a recipe on this machine: one process on one core against several, and waiting for pictures.

usage: python -P benchmarks/speed_train.py RECIPE.yaml [--processes 2] [--steps 10] [--repeats 5] [--batch 0] [--stream]
       [--data FOLDER|ZIP] [--json results/speed_train.json]

Each process has a core of its own. One, several together, and as many apart, each a job of one with the whole batch,
take turns, --repeats times, for other guests of a machine come and go. Prints images/s of the median step and the
share of time spent waiting for pictures, of the first rank, summed over the jobs; beside it GFLOP/s of matrix products
that all processes make at once. Cores share clock and memory: what jobs apart gain is what the machine allows. At the
end the gains of the medians over all turns; --json keeps every turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from commin.atomic import write_text
from commin.data.imageset import ImageSet, load_pixels
from commin.data.stream import Stream
from commin.home import data_path, home
from commin.training import ranks
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml


def products(seconds: float = 3.0, side: int = 1024) -> float:
    """GFLOP/s of float32 products of square matrices, over all ranks at once."""
    matrix, count = torch.randn(side, side), 0
    ranks.wait()
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        matrix @ matrix
        count += 1
    return ranks.total(2 * side**3 * count / (time.perf_counter() - begin)) / 1e9


def measure(options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # helping threads must not take the core that one process leaves idle
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[(int(os.environ["LOCAL_RANK"]) + options.turn) % len(cores)]})
    content = read_yaml(options.recipe)
    recipe = parse(KINDS[content["kind"]].recipe, content, options.recipe)
    with ranks.job(torch.device("cpu")) as device:
        source, data = ImageSet(data_path(options.data)), recipe.data
        entries = source.split(data.split, options.pictures)
        with ranks.first_alone():
            pixels = load_pixels(source, entries, data.size, data.crop, home() / "cache")
        reader = Stream(source, entries, data.size, data.crop, data.workers) if options.stream else pixels
        loop = recipe.loop.model_copy(update={"batch": options.batch} if options.batch else {})
        run = Run(KINDS[recipe.kind].make(recipe, pixels[:4]), loop, reader, Path(), device)
        run.train_step()
        run.ahead.waited, times = 0.0, []
        for _ in range(options.steps):
            begin = time.perf_counter()
            run.train_step()
            times.append(time.perf_counter() - begin)
        peak = products()
        return {
            "images/s": round(loop.batch / statistics.median(times), 2),
            "GFLOP/s of products": round(peak, 1),
            "waiting %": round(100 * run.ahead.waited / sum(times), 2),
        } if ranks.rank() == 0 else {}  # fmt: skip


def launch(count: int, turn: int) -> "subprocess.Popen[str]":
    """This benchmark as a job of that many processes, the first on the core of that number."""
    job = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.Popen(
        [sys.executable, *job, __file__, *sys.argv[1:], "--turn", str(turn)],
        env={**os.environ, "PYTHONSAFEPATH": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rows(jobs: "list[subprocess.Popen[str]]") -> dict[str, float]:
    """What jobs that run at once print, summed."""
    total: Counter[str] = Counter()
    for out, errors in [job.communicate() for job in jobs]:
        lines = [line for line in out.splitlines() if line.startswith("{")]
        if not lines:
            sys.exit(errors)
        total.update(json.loads(lines[-1]))
    return dict(total)


def median(turns: list[dict[str, dict[str, float]]], way: str, key: str) -> float:
    """Of a figure over the turns."""
    return statistics.median(turn[way][key] for turn in turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--turn", type=int, default=0, help="the core of the first process")
    parser.add_argument("--batch", type=int, default=0, help="of all processes together; 0 for the recipe's")
    parser.add_argument("--stream", action="store_true", help="decode pictures when they are needed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        found = measure(options)
        if found:
            print(json.dumps(found), flush=True)
        return
    turns: list[dict[str, dict[str, float]]] = []
    for number in range(options.repeats):
        one = rows([launch(1, number)])
        together = rows([launch(options.processes, number)])
        apart = rows([launch(1, number + core) for core in range(options.processes)])
        turns.append({"one": one, "together": together, "apart": apart})
        print(json.dumps(turns[-1]), flush=True)
    for way in ("together", "apart"):
        gains = {
            key: median(turns, way, key) / median(turns, "one", key) for key in ("images/s", "GFLOP/s of products")
        }
        print(
            f"{way}: {gains['images/s']:.2f} × the images/s of one process, where products gain "
            f"{gains['GFLOP/s of products']:.2f} × (medians of {options.repeats} turns)"
        )
    if options.json:
        write_text(options.json, json.dumps(turns, indent=1) + "\n")


if __name__ == "__main__":
    main()
