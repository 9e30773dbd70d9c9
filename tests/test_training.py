"""The training loop: resume bit for bit, micro-batches, schedule, data order, signals, bad recipes."""

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
from PIL import Image
from rich.console import Console
from torch import nn

from commin.codec.deepjscc import DeepJSCC
from commin.errors import UserError
from commin.images import to_picture, to_uint8
from commin.training import checkpoint
from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.loop import Run
from commin.training.muon import Muon, is_matrix, orthogonalize
from commin.training.optimizer import learning_rate
from commin.training.reader import batch_indices
from commin.training.recipe import LoopConfig, parse
from tests.conftest import smooth_images

LINK = {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}}
MODEL = {"widths": [8, 8, 8], "latent_channels": [8, 32], "bottleneck": 8, "image_size": 32}


def recipe(**loop: Any) -> dict[str, Any]:
    return {
        "kind": "codec",
        "name": "tiny",
        "data": {"size": 32, "crop": "centre", "validation_limit": 4},
        "model": MODEL,
        "link": LINK,
        "loop": {"images": 96, "batch": 8, "validate_every": 32, "warmup_images": 16, **loop},
    }


def make_run(folder: Path, **loop: Any) -> Run:
    folder.mkdir(exist_ok=True)
    config = parse(CodecRecipe, recipe(**loop), Path("recipe"))
    pixels = to_uint8(smooth_images(20, 32))
    return Run(CodecTraining(config, pixels[:4]), config.loop, pixels, folder, torch.device("cpu"))


def weights(run: Run) -> torch.Tensor:
    parts = [*run.trainable.phases["codec"].parameters(), *run.averages["codec"].parameters()]
    return torch.cat([part.detach().flatten() for part in parts])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_codec_for_one_snr_is_validated_there_alone() -> None:
    config = parse(CodecRecipe, recipe() | {"link": LINK | {"snr_range_db": [0, 0]}}, Path("recipe"))
    training = CodecTraining(config, to_uint8(smooth_images(2, 32)))
    figures, _ = training.validate(training.phases)
    assert figures.keys() == {"psnr 1/192 +0", "psnr 1/48 +0", "score"}


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = make_run(tmp_path, images=8 * 100, lr=1e-2)
    first = sum(run.train_step() for _ in range(5))
    for _ in range(90):
        run.train_step()
    assert sum(run.train_step() for _ in range(5)) < 0.9 * first


def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    straight = make_run(tmp_path / "a")
    for _ in range(9):
        straight.train_step()
    stopped = make_run(tmp_path / "b")
    for _ in range(4):
        stopped.train_step()
    stopped.save()
    resumed = make_run(tmp_path / "b")
    resumed.resume()
    for _ in range(5):
        resumed.train_step()
    assert torch.equal(weights(straight), weights(resumed))


def test_micro_batches_have_equal_gradients(tmp_path: Path) -> None:
    whole, parts = make_run(tmp_path / "a"), make_run(tmp_path / "b", micro_batch=3)
    for run in (whole, parts):
        rows = run.trainable.draw(smooth_images(8, 32), torch.Generator().manual_seed(0))
        run._accumulate("codec", rows)
    for (name, a), b in zip(
        whole.trainable.phases["codec"].named_parameters(), parts.trainable.phases["codec"].parameters(), strict=True
    ):
        assert a.grad is not None, name
        assert b.grad is not None, name
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_precisions_run(tmp_path: Path, precision: str) -> None:
    run = make_run(tmp_path, precision=precision)
    assert run.train_step() == pytest.approx(make_run(tmp_path).train_step(), rel=0.05)
    assert run.skipped == 0


def test_divergence_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, images=8 * 100)
    with torch.no_grad():
        next(run.trainable.phases["codec"].parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="diverged"):
        for _ in range(30):
            run.train_step()


def test_train_validates_logs_and_saves(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.train(Console(quiet=True))
    log = [yaml.safe_load(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["images"] for entry in log] == [32, 64, 96]
    assert all(entry["score"] > 3 for entry in log)
    assert Image.open(tmp_path / "validation-000000096.png").size == (4 * 64, 7 * 64)
    assert (tmp_path / "model.safetensors").stat().st_size > 0
    assert len(checkpoint.listed(tmp_path)) <= 2
    assert not list(tmp_path.glob("*.tmp"))


def test_log_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.train(Console(quiet=True))
    early = checkpoint.listed(tmp_path)[0]
    for path in checkpoint.listed(tmp_path)[1:]:
        path.unlink()
    resumed = make_run(tmp_path)
    resumed.resume()
    assert early.name == f"step-{resumed.step:09d}.pt"
    resumed.train(Console(quiet=True))
    log = [yaml.safe_load(line)["images"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log == [32, 64, 96]


def test_schedule() -> None:
    config = LoopConfig(images=1000, batch=10, lr=1.0, warmup_images=100, decay=0.2)
    rates = [learning_rate(config, seen) for seen in range(0, 1000, 10)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)
    assert all(b < a for a, b in zip(rates[80:], rates[81:], strict=False))


@pytest.mark.parametrize("images", [96, 64])
def test_extended_run_goes_on_from_before_the_decay(images: int, tmp_path: Path) -> None:
    """48 images, the last 24 of them decayed, extended to more: the run that was made for as many."""
    make_run(tmp_path / "a", images=48, decay=0.5).train(Console(quiet=True))
    extended = make_run(tmp_path / "a", images=images, decay=0.5)
    extended.resume()
    assert extended.images_seen == 24
    extended.train_step()
    extended.save()
    assert checkpoint.listed(tmp_path / "a")[-1].name == "step-000000004.pt"  # the finished run's later ones are gone
    extended.train(Console(quiet=True))
    straight = make_run(tmp_path / "b", images=images, decay=0.5)
    straight.train(Console(quiet=True))
    assert torch.equal(weights(straight), weights(extended))


def test_every_image_is_seen_once_an_epoch() -> None:
    config = LoopConfig(images=1000, batch=7)
    stream = torch.cat([batch_indices(config, 20, step) for step in range(20)])
    for epoch in range(7):
        assert sorted(stream[20 * epoch : 20 * epoch + 20].tolist()) == list(range(20))
    assert not torch.equal(stream[:20], stream[20:40])


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.train_step()
    run.save()
    run.train_step()
    run.save()
    path = checkpoint.listed(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:1000])
    resumed = make_run(tmp_path)
    resumed.resume()
    assert resumed.step == 1
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.load_latest(tmp_path / "nowhere", torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key colour; the keys here are kind"),
        ({"loop": {"images": 5, "speed": 2}}, "unknown key loop.speed; the keys here are seed"),
        ({"loop": {"images": -1}}, "loop.images"),
        ({"model": {"latent_channels": [7]}}, "even"),
        ({"link": {"reference_psnr_db": {"x": [1, 2]}}}, "ratio"),
    ],
)
def test_bad_recipes_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(CodecRecipe, {**recipe(), **change}, Path("r.yaml"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, image in enumerate(smooth_images(12, 32)):
        to_picture(image).save(photos / f"{index}.png")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe(images=400, checkpoint_minutes=0.002)))
    arguments = ["train", "codec", str(tmp_path / "recipe.yaml"), "--data", str(photos), "--threads", "1"]
    return [sys.executable, "-m", "commin", *arguments]


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.load_latest(folder, torch.device("cpu"))["phases"]["codec"]
    return state


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, command: list[str]) -> None:
    """kill −9 at a random moment, twice; the resumed run ends with the weights of one that was left alone."""
    subprocess.run([*command, "--runs", str(tmp_path / "whole")], check=True, capture_output=True, timeout=120)
    folder, kills, extra = tmp_path / "cut" / "tiny", 0, []
    for _ in range(2):
        process = subprocess.Popen([*command, "--runs", str(tmp_path / "cut"), *extra], stderr=subprocess.DEVNULL)
        while process.poll() is None and not checkpoint.listed(folder):
            time.sleep(0.02)
        time.sleep(random.random() * 0.5)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        extra = ["--resume"]
    subprocess.run(
        [*command, "--runs", str(tmp_path / "cut"), "--resume"], check=True, capture_output=True, timeout=120
    )
    whole, cut = final_weights(tmp_path / "whole" / "tiny"), final_weights(folder)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert kills >= 1


def test_sigterm_saves_and_stops(tmp_path: Path, command: list[str]) -> None:
    folder = tmp_path / "runs" / "tiny"
    options = ["--runs", str(tmp_path / "runs"), "--images", "1000000"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not checkpoint.listed(folder):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "go on with --resume" in messages
    assert checkpoint.listed(folder)
    again = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)
    assert again.returncode == 2
    assert "--resume" in again.stderr


def test_dry_run_trains_nothing(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run(
        [*command, "--runs", str(tmp_path / "runs"), "--dry-run"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "parameters" in done.stderr
    assert "GFLOP" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("wrong", [["train", "inn"], ["train", "spoon"]])
def test_wrong_kind_is_one_line(tmp_path: Path, command: list[str], wrong: list[str]) -> None:
    done = subprocess.run(
        [*command[:3], *wrong, *command[5:]], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_muon_steps_are_orthogonal_and_momentum_averages() -> None:
    rng = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 24, 60, generator=rng) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1)
    for got in (orthogonalize(matrices), orthogonalize(matrices.mT).mT):
        values = torch.linalg.svdvals(got)
        assert values.min() > 0.4
        assert values.max() < 1.4
        aligned = torch.einsum("bij,bij->b", got, matrices) / torch.linalg.svdvals(matrices).sum(1)
        assert (aligned > 0.6).all()


def test_muon_steps_are_alike_in_either_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = torch.randn(2, 24, 40, generator=torch.Generator().manual_seed(0))
    steps = []
    for dtype in (torch.bfloat16, torch.float32):
        monkeypatch.setattr("commin.training.muon.fast_dtype", lambda device, dtype=dtype: dtype)
        steps.append(orthogonalize(matrices))
    assert 0 < float((steps[0] - steps[1]).norm() / steps[1].norm()) < 0.05


def test_muon_leaves_vectors_to_adamw() -> None:
    """On a network without matrices Muon is AdamW."""
    torch.manual_seed(0)
    mine, theirs = (nn.Conv2d(3, 4, 3) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    ours = Muon(mine.parameters(), 1e-2, (0.9, 0.99), 0.1)
    reference = torch.optim.AdamW(theirs.parameters(), 1e-2, (0.9, 0.99), weight_decay=0.1)
    for _ in range(5):
        x = torch.randn(2, 3, 8, 8)
        for module, optimizer in ((mine, ours), (theirs, reference)):
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
    assert torch.allclose(mine.weight, theirs.weight, atol=1e-6)


def test_muon_takes_matrices_and_kernels_but_no_stacks_of_matrices() -> None:
    assert is_matrix(torch.empty(16, 32))
    assert is_matrix(torch.empty(16, 2, 3, 3))
    assert not is_matrix(torch.empty(64, 16, 16))
    assert not is_matrix(torch.empty(15, 32))


def test_muon_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    wide = {**MODEL, "widths": [16, 16, 16], "bottleneck": 16}

    def run(folder: str) -> Run:
        (tmp_path / folder).mkdir(exist_ok=True)
        config = parse(CodecRecipe, {**recipe(optimizer="muon"), "model": wide}, Path("recipe"))
        pixels = to_uint8(smooth_images(20, 32))
        return Run(CodecTraining(config, pixels[:4]), config.loop, pixels, tmp_path / folder, torch.device("cpu"))

    straight, stopped = run("a"), run("b")
    for _ in range(6):
        straight.train_step()
    for _ in range(3):
        stopped.train_step()
    stopped.save()
    resumed = run("b")
    resumed.resume()
    for _ in range(3):
        resumed.train_step()
    assert torch.equal(weights(straight), weights(resumed))
    assert any(group["matrices"] for group in resumed.optimizers["codec"].param_groups)


def test_training_starts_from_given_weights(codec: DeepJSCC, codec_file: Path) -> None:
    content = {**recipe(), "init": str(codec_file), "model": codec.config.model_dump(mode="json")}
    started = CodecTraining(parse(CodecRecipe, content, Path("recipe")), to_uint8(smooth_images(1))).phases["codec"]
    for a, b in zip(started.parameters(), codec.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    with pytest.raises(UserError, match="do not fit"):
        CodecTraining(parse(CodecRecipe, {**content, "model": MODEL}, Path("recipe")), to_uint8(smooth_images(1)))
