"""Several processes: two ranks compute what one does, for every kind; a killed rank stops the job, which resumes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import multiprocessing

from commin.diffusion.prior import save_prior
from commin.images import to_picture, to_uint8
from commin.inn.degradation import Degradation, DegradationConfig
from commin.inn.files import save_inn
from commin.training import checkpoint, decoder, one_step, ranks
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.muon import Muon
from commin.training.prior import PriorConfig, new_prior
from commin.training.recipe import parse
from commin.zoo.add import add
from tests.conftest import Slopes, smooth_images

BATCH = 8
SECTIONS: dict[str, dict[str, Any]] = {
    "codec": {
        "model": {"widths": [8, 8, 8], "latent_channels": [8, 32], "bottleneck": 8, "image_size": 32},
        "link": {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}},
    },
    "inn": {"codec_precision": "float32", "model": {"bcr": "1/48", "width": 8, "blocks": 1, "lifts": 2}},
    "decoder": {"link": {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}}, "lpips_weight": 2.0},
    "flow": {
        "model": "own",
        "flow": {"link": {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}}, "inn": True},
    },
    "one-step": {
        "model": "own",
        "link": {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}},
        "lpips_weight": 2.0,
    },
    "prior": {"model": {"widths": [16, 16], "attention": [False, True], "head": 8, "groups": 8, "steps": 60}},
    "gan": {
        "model": {"widths": [8, 8, 8, 8], "style_dim": 8, "mapping_layers": 2},
        "discriminator": {"widths": [8, 8, 8, 8]},
        "gan": {"r1_every": 2, "path_every": 3},
    },
}


def make_run(kind: str, codec: Path, folder: Path, **loop: Any) -> Run:
    content: dict[str, Any] = {
        "kind": kind,
        "name": "tiny",
        "data": {"size": 32, "crop": "centre", "validation_limit": 4},
        "loop": {"images": 8000, "batch": BATCH, "warmup_images": 16, "validate_every": 8000, **loop},
        **SECTIONS[kind],
        **({"codec": str(codec)} if kind in ("inn", "decoder") else {}),
    }
    config = parse(KINDS[kind].recipe, content, Path("recipe"))
    pixels = to_uint8(smooth_images(20, 32))
    run = Run(KINDS[kind].make(config, pixels[:4]), config.loop, pixels, folder, torch.device("cpu"))
    start = torch.Generator().manual_seed(1)
    for module in run.trainable.phases.values():  # layers that start at zero would hide what is behind them
        for parameter in module.parameters():
            with torch.no_grad():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=start))
    return run


def first_gradients(run: Run) -> dict[str, torch.Tensor]:
    """The gradients that the optimizers are given in the first step, which has the lazy penalties too."""
    seen: dict[str, torch.Tensor] = {}
    update = run._update

    def spy(name: str, module: torch.nn.Module, rate: float) -> bool:
        for key, parameter in module.named_parameters():
            if parameter.grad is not None:
                seen[f"{name}.{key}"] = parameter.grad / run.scaler.get_scale()
        return update(name, module, rate)

    run._update = spy  # type: ignore[method-assign]
    run.train_step()
    return seen


def in_double(run: Run) -> None:
    """Weights, rows and every ``.float()`` in float64."""
    frozen = [getattr(run.trainable, "codec", None), *getattr(run.trainable, "inns", [])]
    for module in (*run.trainable.phases.values(), *run.averages.values(), *frozen):
        if module is not None:
            module.double()
    make = run.ahead.make
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    run.ahead.make = lambda step: {k: v.to(wide.get(v.dtype, v.dtype)) for k, v in make(step).items()}
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


def results(codec: Path, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    torch.set_num_threads(1)
    found: dict[str, dict[str, torch.Tensor]] = {}
    for kind in KINDS:
        found[f"{kind} gradients"] = first_gradients(make_run(kind, codec, folder))
    float32 = torch.Tensor.float
    for kind in KINDS:
        run = make_run(kind, codec, folder)
        in_double(run)
        for _ in range(20):
            run.train_step()
        networks = {**run.trainable.phases, **{f"average {name}": each for name, each in run.averages.items()}}
        found[f"{kind} weights"] = {
            f"{name}.{key}": value.clone()
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        }
        torch.Tensor.float = float32  # type: ignore[method-assign]
    found["muon"] = muon_weights()
    found["sums"] = summed_gradients()
    return found


def summed_gradients() -> dict[str, torch.Tensor]:
    """Of three weights: one with a gradient on every rank, one on the first alone, one on none."""
    weights = {name: torch.zeros(3, requires_grad=True) for name in ("all", "first", "none")}
    weights["all"].grad = torch.full((3,), 1.0 + ranks.rank())
    if ranks.rank() == 0:
        weights["first"].grad = torch.ones(3)
    ranks.sum_gradients(list(weights.values()))
    return {name: weight.grad for name, weight in weights.items() if weight.grad is not None}


def muon_weights() -> dict[str, torch.Tensor]:
    """A few matrices, two alike, and a vector after three steps on the same gradients for all ranks."""
    rng = torch.Generator().manual_seed(0)
    shapes = ((16, 24), (16, 24), (32, 20, 3, 3), (20, 16), (7,))
    weights = [torch.nn.Parameter(torch.randn(shape, generator=rng)) for shape in shapes]
    optimizer = Muon(weights, 0.1, (0.9, 0.99), 0.1)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=rng)
        optimizer.step()
    return {str(index): weight.detach() for index, weight in enumerate(weights)}


def work(rank: int, size: int, port: int, codec: Path, folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    os.environ["COMMIN_HOME"] = str(folder / "home")
    SECTIONS["codec"]["model"]["separate"] = [32]  # rows are of either ρ in turn: each rank has one network's
    for kind in (decoder, one_step):
        kind.load_lpips = lambda name: Slopes()  # type: ignore[attr-defined]
    cores = own_cores()
    with ranks.job(torch.device("cpu")):
        assert (ranks.rank(), ranks.size()) == (rank, size)
        assert len(own_cores()) == (len(cores) // size or len(cores))
        torch.save(results(codec, folder), folder / f"{size}-{rank}.pt")
    assert not [name for name in threads() if "gloo" in name]  # one that outlives its group may end in an abort


def threads() -> list[str]:
    return [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]


def own_cores() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def put_into_zoo(codec: Path, folder: Path) -> None:
    """The parts that a flow is trained from, small and random, as model ``own``."""
    torch.manual_seed(2)
    save_prior(new_prior(PriorConfig(**SECTIONS["prior"]["model"]), 32), folder / "prior")
    for bcr in ("1/192", "1/48"):
        inn = Degradation(DegradationConfig(bcr=bcr, width=8, blocks=1, lifts=2))
        save_inn(inn, folder / f"inn-{bcr[2:]}.safetensors")
    for path in (codec, folder / "prior", *folder.glob("inn-*")):
        add(path, "own", None, None, "none")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def jobs(codec_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """What a single process and both ranks of a job of two arrive at."""
    folder = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMIN_HOME", str(folder / "home"))
        put_into_zoo(codec_file, folder)
    for size in (1, 2):
        multiprocessing.spawn(work, (size, free_port(), codec_file, folder), nprocs=size)  # type: ignore[no-untyped-call]
    return {name: torch.load(folder / f"{name}.pt") for name in ("1-0", "2-0", "2-1")}


@pytest.mark.parametrize("kind", list(SECTIONS))
def test_two_ranks_have_the_gradients_of_one_process(jobs: Any, kind: str) -> None:
    alone = jobs["1-0"][f"{kind} gradients"]
    assert alone
    for name in ("2-0", "2-1"):
        shared = jobs[name][f"{kind} gradients"]
        assert shared.keys() == alone.keys()
        for network in {key.split(".")[0] for key in alone}:
            keys = [key for key in alone if key.startswith(f"{network}.")]
            a, b = (torch.cat([each[key].flatten() for key in keys]) for each in (alone, shared))
            assert float((a - b).norm() / a.norm()) < 1e-5, network
            assert float(a.norm()) > 0


@pytest.mark.parametrize("kind", list(SECTIONS))
def test_two_ranks_end_with_the_weights_of_one_process(jobs: Any, kind: str) -> None:
    """After 20 steps in float64, within 1e-8."""
    alone = jobs["1-0"][f"{kind} weights"]
    for name in ("2-0", "2-1"):
        for key, value in jobs[name][f"{kind} weights"].items():
            assert float((value - alone[key]).abs().max()) < 1e-8, key


def test_two_ranks_share_the_steps_of_muon(jobs: Any) -> None:
    """Whichever rank makes a step, all take it; a product of several matrices at once may round differently."""
    alone = jobs["1-0"]["muon"]
    for key, value in alone.items():
        assert torch.equal(jobs["2-0"]["muon"][key], jobs["2-1"]["muon"][key])
        assert float((value - jobs["2-0"]["muon"][key]).norm() / value.norm()) < 1e-2


def test_a_weight_without_gradient_on_any_rank_stays_without(jobs: Any) -> None:
    for name in ("2-0", "2-1"):
        sums = jobs[name]["sums"]
        assert {key: value.tolist() for key, value in sums.items()} == {"all": [3.0] * 3, "first": [1.0] * 3}


def test_pieces_are_disjoint_whole_and_even(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = [5.0, 1.0, 9.0, 3.0, 3.0, 1.0, 2.0]
    monkeypatch.setattr(ranks, "size", lambda: 3)
    found = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        found.append(ranks.pieces(costs))
    assert sorted(index for mine in found for index in mine) == list(range(7))
    assert max(sum(costs[i] for i in mine) for mine in found) == 9


def test_shares_are_disjoint_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(12)
    monkeypatch.setattr(ranks, "size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        parts.append(ranks.share(rows))
    assert sorted(torch.cat(parts).tolist()) == rows.tolist()


def test_batch_must_be_a_multiple_of_the_ranks(
    tmp_path: Path, codec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "size", lambda: 3)
    with pytest.raises(ranks.UserError, match=r"loop\.batch = 8"):
        make_run("codec", codec_file, tmp_path)


@pytest.fixture
def launch(tmp_path: Path) -> list[str]:
    """torchrun with two ranks, training a small codec."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, image in enumerate(smooth_images(12, 32)):
        to_picture(image).save(photos / f"{index}.png")
    loop = {"images": 320, "batch": 8, "warmup_images": 16, "validate_every": 320, "checkpoint_minutes": 0.002}
    content = {
        "kind": "codec", "name": "tiny", "data": {"size": 32, "crop": "centre", "validation_limit": 4},
        "loop": loop, **SECTIONS["codec"],
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    train = ["-m", "commin", "train", "codec", str(tmp_path / "recipe.yaml"), "--data", str(photos)]
    return [sys.executable, *torchrun, *train, "--threads", "1"]


def children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(each) for each in path.read_text().split()] if path.exists() else []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the ranks in /proc")
def test_a_killed_rank_stops_the_job_which_resumes(tmp_path: Path, launch: list[str]) -> None:
    folder = tmp_path / "cut" / "tiny"
    process = subprocess.Popen([*launch, "--runs", str(tmp_path / "cut")], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not checkpoint.listed(folder):
        time.sleep(0.05)
    found = children(process.pid)
    assert len(found) >= 2
    os.kill(random.choice(found[-2:]), signal.SIGKILL)
    _, messages = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "go on from the last checkpoint with --resume" in messages
    assert "Traceback" not in messages.split("torch/distributed")[0]
    whole = [*launch, "--runs", str(tmp_path / "whole")]
    for command in (whole, [*launch, "--runs", str(tmp_path / "cut"), "--resume"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    states = [
        checkpoint.load_latest(tmp_path / name / "tiny", torch.device("cpu"))["phases"]["codec"]
        for name in ("whole", "cut")
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
