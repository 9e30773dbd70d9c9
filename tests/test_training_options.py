"""Options of the loop that must not change the numbers; the best checkpoint; streams instead of tensors."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from commin.errors import UserError
from commin.images import to_uint8
from commin.training import checkpoint
from commin.training.blocks import blocks
from commin.training.codec import CodecTraining
from commin.training.loop import BEST, Run
from commin.training.reader import Ahead
from tests.conftest import Slopes, smooth_images
from tests.test_training_ranks import SECTIONS, first_gradients, make_run, put_into_zoo


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).norm() / a[key].norm().clamp_min(1e-3)) for key in a)


@pytest.fixture
def _parts(codec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decoders and flows are trained from: a distance, and a small model in the zoo."""
    for kind in ("decoder", "one_step"):
        monkeypatch.setattr(f"commin.training.{kind}.load_lpips", lambda name: Slopes())
    put_into_zoo(codec_file, tmp_path)


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("kind", list(SECTIONS))
def test_forgotten_activations_leave_the_gradients(kind: str, codec_file: Path, tmp_path: Path) -> None:
    plain = first_gradients(make_run(kind, codec_file, tmp_path))
    assert difference(plain, first_gradients(make_run(kind, codec_file, tmp_path, forget_activations=True))) < 1e-5


def test_forgotten_activations_take_less_memory(codec_file: Path, tmp_path: Path) -> None:
    def kept(**loop: Any) -> int:
        run = make_run("codec", codec_file, tmp_path, **loop)
        rows, sizes = run._make_rows(0), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            run.trainable.loss("codec", rows, 0)
        return sum(sizes)

    assert kept(forget_activations=True) < 0.5 * kept()


@pytest.mark.usefixtures("_parts")
def test_blocks_are_disjoint_and_hold_most_weights(codec_file: Path, tmp_path: Path) -> None:
    for kind in SECTIONS:
        for module in make_run(kind, codec_file, tmp_path).trainable.phases.values():
            held = [id(p) for block in blocks(module) for p in block.parameters()]
            assert len(held) == len(set(held))
            assert len(held) > 0.5 * len(list(module.parameters()))


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
def test_low_precision_gradients_are_near(precision: str, tolerance: float, codec_file: Path, tmp_path: Path) -> None:
    plain = first_gradients(make_run("codec", codec_file, tmp_path))
    low = first_gradients(make_run("codec", codec_file, tmp_path, precision=precision))
    whole = [torch.cat([value.flatten() for value in each.values()]) for each in (plain, low)]
    assert float((whole[0] - whole[1]).norm() / whole[0].norm()) < tolerance


@pytest.mark.parametrize(("quick", "same_as"), [(torch.bfloat16, "bf16"), (torch.float32, "float32")])
def test_auto_precision_is_the_quick_one(
    quick: torch.dtype, same_as: str, codec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commin.precision.fast_dtype", lambda device: quick)
    auto = first_gradients(make_run("codec", codec_file, tmp_path, precision="auto"))
    named = first_gradients(make_run("codec", codec_file, tmp_path, precision=same_as))
    assert difference(named, auto) == 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_blocks_leave_the_gradients(codec_file: Path, tmp_path: Path) -> None:
    plain = first_gradients(make_run("inn", codec_file, tmp_path))
    torch._dynamo.utils.counters.clear()
    compiled = first_gradients(make_run("inn", codec_file, tmp_path, compile=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert difference(plain, compiled) < 1e-4


def test_compiled_adversaries_are_refused(codec_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loop\.compile"):
        make_run("gan", codec_file, tmp_path, compile=True)


def test_best_checkpoint_is_kept(codec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([1.0, 3.0, 2.0, 2.5])
    monkeypatch.setattr(CodecTraining, "validate", lambda *_: ({"score": next(scores)}, None))
    run = make_run("codec", codec_file, tmp_path, images=64, validate_every=16, keep=1)
    assert run.train(Console(quiet=True))
    assert torch.load(tmp_path / BEST, weights_only=True)["step"] == 4
    assert [path.name for path in checkpoint.listed(tmp_path)] == ["step-000000008.pt"]
    assert (tmp_path / "best.safetensors").is_file()
    assert (tmp_path / "best.safetensors").read_bytes() != (tmp_path / "model.safetensors").read_bytes()
    resumed = make_run("codec", codec_file, tmp_path, images=64, validate_every=16, keep=1)
    resumed.resume()
    assert resumed.best == 3.0


def test_old_checkpoints_without_a_best_score_resume(codec_file: Path, tmp_path: Path) -> None:
    run = make_run("codec", codec_file, tmp_path)
    state = run.state()
    del state["best"]
    checkpoint.save(tmp_path, 0, state, 2)
    run.resume()
    assert run.best == -float("inf")


class Slow:
    """Pictures that are read one by one."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels, self.shape, self.asked = pixels, pixels.shape, 0

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, chosen: torch.Tensor) -> torch.Tensor:
        self.asked += len(chosen)
        return self.pixels[chosen]


def test_anything_that_reads_pictures_will_do(codec_file: Path, tmp_path: Path) -> None:
    straight, other = (make_run("codec", codec_file, tmp_path) for _ in range(2))
    other.pixels = Slow(to_uint8(smooth_images(20, 32)))
    for _ in range(2):
        assert straight.train_step() == other.train_step()
    assert other.pixels.asked >= 16


def test_rows_made_ahead_are_those_of_their_step() -> None:
    made: list[int] = []

    def make(step: int) -> dict[str, torch.Tensor]:
        made.append(step)
        return {"images": torch.tensor([step])}

    ahead = Ahead(make)
    assert [int(ahead.rows(step)["images"]) for step in (0, 1, 2, 7, 8)] == [0, 1, 2, 7, 8]
    assert made.count(8) == 1
    assert ahead.waited > 0


def test_rows_do_not_depend_on_what_was_made_before(codec_file: Path, tmp_path: Path) -> None:
    run: Run = make_run("codec", codec_file, tmp_path)
    first = copy.deepcopy(run.ahead.rows(3))
    run.ahead.rows(0)
    again = run.ahead.rows(3)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert isinstance(run.trainable.phases["codec"], nn.Module)
