"""The one training loop: precision, averaging, checkpoints, resume, progress. What is trained is a `Trainable`.

A step's draws depend on (seed, step) alone and the order of images on (seed, epoch), so that a run continued from a
checkpoint is the run that was never stopped, bit for bit.
"""

import copy
import json
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from commin.errors import UserError
from commin.images import from_uint8, save_picture
from commin.randomness import generator
from commin.training import checkpoint
from commin.training.muon import Muon
from commin.training.recipe import LoopConfig

UNDECAYED = "before-decay.pt"
"""The checkpoint from which a finished run can be extended."""

MAX_SKIPPED = 20
"""Steps in a row with a non-finite gradient after which a run gives up."""


class Trainable(Protocol):
    """What the loop needs to know of a kind of model.

    ``phases`` are the networks optimised in turn in each step (one, or a discriminator and a generator); their
    parameters are disjoint. ``averaged`` names those whose moving average is kept, validated and exported.
    """

    phases: Mapping[str, nn.Module]
    averaged: tuple[str, ...]

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """All random numbers of a step for images (B, 3, H, W) in [0, 1]: tensors of B rows, ``images`` among them."""

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """The mean loss over these rows, a scalar; micro-batches are averaged by their number of rows."""

    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image | None]:
        """Figures (``score`` among them, higher is better) and a picture grid, from the averaged networks."""

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """Write the averaged model to a file or folder that `commin.load` reads."""


def learning_rate(config: LoopConfig, images: int) -> float:
    """Of the step that starts at ``images``: linear warm-up, constant, linear to 0 over the last ``decay`` of them."""
    warm = min(1.0, (images + config.batch) / max(config.warmup_images, 1))
    return config.lr * min(warm, max(_left(config, images), 0.0))


def _left(config: LoopConfig, images: int) -> float:
    """1 until the decay begins, then down to 0 at the end."""
    return min((config.images - images) / (config.decay * config.images), 1.0) if config.decay else 1.0


def make_optimizer(config: LoopConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe for one network."""
    if config.optimizer == "muon":
        return Muon(module.parameters(), config.lr, config.betas, config.weight_decay)
    return torch.optim.AdamW(module.parameters(), config.lr, config.betas, weight_decay=config.weight_decay, fused=True)


def batch_indices(config: LoopConfig, count: int, step: int) -> Tensor:
    """Which of ``count`` images step ``step`` sees: (batch,) int64, one random permutation after another."""
    positions = torch.arange(step * config.batch, (step + 1) * config.batch)
    chosen = torch.empty_like(positions)
    for epoch in torch.unique(positions // count).tolist():
        order = torch.randperm(count, generator=generator(config.seed, "epoch", epoch))
        here = positions // count == epoch
        chosen[here] = order[positions[here] % count]
    return chosen


def autocast(config: LoopConfig, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast context of a precision; nothing for float32."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[config.precision])


class Run:
    """A training run in a folder: ``train`` goes on to the end, or saves and returns when asked to stop."""

    def __init__(
        self, trainable: Trainable, config: LoopConfig, pixels: Tensor, folder: Path, device: torch.device
    ) -> None:
        self.trainable, self.config, self.pixels, self.folder, self.device = trainable, config, pixels, folder, device
        if len(pixels) < 1:
            raise UserError("no training images")
        self.step = 0
        self.skipped = 0
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for module in trainable.phases.values():
            module.to(device)
            module.to(memory_format=layout)  # type: ignore[call-overload]
        self.averages = {name: copy.deepcopy(trainable.phases[name]).eval() for name in trainable.averaged}
        for average in self.averages.values():
            average.requires_grad_(False)
        self.optimizers = {name: make_optimizer(config, module) for name, module in trainable.phases.items()}
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._stop = False

    @property
    def images_seen(self) -> int:
        """Training images seen so far."""
        return self.step * self.config.batch

    def state(self) -> dict[str, Any]:
        """All that a run is, as tensors and plain values."""
        return {
            "step": self.step,
            "decaying": _left(self.config, self.images_seen) < 1,
            "skipped": self.skipped,
            "phases": {name: module.state_dict() for name, module in self.trainable.phases.items()},
            "averages": {name: module.state_dict() for name, module in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
        }

    def resume(self) -> None:
        """Continue from the newest checkpoint of the folder, dropping log lines written after it.

        A finished run that is extended to more images goes on from before its decay.

        Raises:
            UserError: there is no checkpoint, or it is of another network.
        """
        state = checkpoint.load_latest(self.folder, self.device)
        undecayed = self.folder / UNDECAYED
        if state["decaying"] and _left(self.config, state["step"] * self.config.batch) == 1 and undecayed.is_file():
            state = torch.load(undecayed, map_location=self.device, weights_only=True)
            checkpoint.rewind(self.folder, undecayed, state["step"])
        try:
            for name, module in self.trainable.phases.items():
                module.load_state_dict(state["phases"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            for name, average in self.averages.items():
                average.load_state_dict(state["averages"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{self.folder}: checkpoint of another network ({str(error).splitlines()[0]})") from None
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.skipped = state["step"], state["skipped"]
        log = self.folder / "log.jsonl"
        if log.exists():
            lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            temporary = log.with_suffix(".tmp")
            temporary.write_text("".join(f"{line}\n" for line in lines))
            temporary.replace(log)

    def train_step(self) -> float:
        """One step of every phase on the next batch; returns the sum of their losses."""
        config = self.config
        rate = learning_rate(config, self.images_seen)
        rng = generator(config.seed, "step", self.step)
        images = from_uint8(self.pixels[batch_indices(config, len(self.pixels), self.step)])
        if config.flip:
            images = torch.where((torch.rand(len(images), 1, 1, 1, generator=rng) < 0.5), images.flip(3), images)
        rows = {key: value.to(self.device) for key, value in self.trainable.draw(images, rng).items()}
        total = 0.0
        for name, module in self.trainable.phases.items():
            loss = self._accumulate(name, rows)
            if math.isfinite(loss) and self._update(name, module, rate):
                self.skipped = 0
            else:
                self.skipped += 1
                if self.skipped >= MAX_SKIPPED:
                    raise UserError(f"{self.folder}: {name} diverged at step {self.step}; lower loop.lr and resume")
            self.optimizers[name].zero_grad(set_to_none=True)
            total += loss
        self._average()
        self.step += 1
        return total

    def _accumulate(self, name: str, rows: dict[str, Tensor]) -> float:
        """Gradients of one phase over the batch, micro-batch by micro-batch; returns the mean loss."""
        count = len(rows["images"])
        size = self.config.micro_batch or count
        others = [module for other, module in self.trainable.phases.items() if other != name]
        for module in others:
            module.requires_grad_(False)
        total = 0.0
        for start in range(0, count, size):
            part = {key: value[start : start + size] for key, value in rows.items()}
            with autocast(self.config, self.device):
                loss = self.trainable.loss(name, part, self.step) * (len(part["images"]) / count)
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
        for module in others:
            module.requires_grad_(True)
        return total

    def _update(self, name: str, module: nn.Module, rate: float) -> bool:
        """Clip and apply the gradients of one phase; False if they are not finite."""
        optimizer = self.optimizers[name]
        self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(module.parameters(), self.config.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate
        finite = bool(torch.isfinite(norm))
        if finite:
            self.scaler.step(optimizer)
        self.scaler.update()
        return finite

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, average in self.averages.items():
            module = self.trainable.phases[name]
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
            for target, source in zip(average.buffers(), module.buffers(), strict=True):
                target.copy_(source)

    def train(self, console: Console) -> bool:
        """Train to the end. Returns False if a signal stopped it; a checkpoint is written either way."""
        saved = time.monotonic()
        losses: list[float] = []
        with stop_on_signal(self), _progress(console) as bar:
            task = bar.add_task("train", total=self.config.images, completed=self.images_seen, speed=0.0, loss=math.nan)
            begun, first = time.monotonic(), self.images_seen
            while self.images_seen < self.config.images and not self._stop:
                if _left(self.config, self.images_seen) == 1 > _left(self.config, self.images_seen + self.config.batch):
                    shutil.copyfile(self.save(), self.folder / UNDECAYED)
                losses.append(self.train_step())
                seen = self.images_seen
                speed = (seen - first) / (time.monotonic() - begun)
                bar.update(task, completed=seen, speed=speed, loss=losses[-1])
                last = seen >= self.config.images
                if (
                    last
                    or seen // self.config.validate_every != (seen - self.config.batch) // self.config.validate_every
                ):
                    record = self._validate(losses, speed)
                    console.print(
                        f"{seen:,} images: loss {record['loss']:.4f}, score {record['score']:.3f}, {speed:.1f} images/s"
                    )
                    losses, saved = [], 0.0
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
        self.save()
        return self.images_seen >= self.config.images

    def save(self) -> Path:
        """Write a checkpoint now."""
        return checkpoint.save(self.folder, self.step, self.state(), self.config.keep)

    def stop(self) -> None:
        """Ask ``train`` to save and return after the present step."""
        self._stop = True

    def _validate(self, losses: list[float], speed: float) -> dict[str, Any]:
        figures, picture = self.trainable.validate(self.averages)
        record = {
            "step": self.step,
            "images": self.images_seen,
            "loss": sum(losses) / max(len(losses), 1),
            "lr": learning_rate(self.config, self.images_seen),
            "images_per_second": round(speed, 2),
            "skipped": self.skipped,
            **{key: round(value, 5) for key, value in figures.items()},
        }
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
            log.flush()
            os.fsync(log.fileno())
        if picture is not None:
            save_picture(picture, self.folder / f"validation-{self.images_seen:09d}.png")
        self.trainable.export(self.averages, self.folder / "model", self.images_seen)
        return record


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.1f} images/s  loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console, refresh_per_second=1,
    )  # fmt: skip


@contextmanager
def stop_on_signal(run: Run) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM ask the run to save and stop; the former handlers come back after."""
    before = {number: signal.signal(number, lambda *_: run.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
