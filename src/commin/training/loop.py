"""The one training loop: precision, averaging, checkpoints, resume, progress. What is trained is a `Trainable`.

A step's draws depend on (seed, step) alone and the order of images on (seed, epoch), so that a run continued from a
checkpoint is the run that was never stopped, bit for bit. Of several ranks (`commin.training.ranks`) each computes its
share of every batch, all step on the summed gradients, and the first validates and writes.
"""

import copy
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from commin.errors import UserError
from commin.images import from_uint8, save_picture
from commin.precision import autocast
from commin.randomness import generator
from commin.training import blocks, checkpoint, log, ranks
from commin.training.augment import changed, draw_changes
from commin.training.memory import keep_freed_memory
from commin.training.optimizer import learning_rate, make_optimizer, undecayed
from commin.training.progress import progress_bar, stop_on_signal
from commin.training.reader import Ahead, Pixels, Rows, batch_indices
from commin.training.recipe import LoopConfig
from commin.winograd import quicken

UNDECAYED = "before-decay.pt"
"""The checkpoint from which a finished run can be extended."""

BEST = "best.pt"
"""The checkpoint with the highest score so far; the model of that moment is exported as ``best``."""

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
        """All random numbers of a step: tensors of B rows, ``images`` among them.

        Of the images (B, 3, H, W) only the shape may matter; the loop puts the pictures in their place after, and
        beside them ``number``, int64 (B,), which of the training pictures each is.
        """

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """The mean loss over these rows, a scalar; micro-batches are averaged by their number of rows."""

    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image | None]:
        """Figures (``score`` among them, higher is better) and a picture grid, from the averaged networks."""

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """Write the averaged model to a file or folder that `commin.load` reads."""


class Run:
    """A training run in a folder: ``train`` goes on to the end, or saves and returns when asked to stop."""

    def __init__(
        self, trainable: Trainable, config: LoopConfig, pixels: Pixels, folder: Path, device: torch.device
    ) -> None:
        self.trainable, self.config, self.pixels, self.folder, self.device = trainable, config, pixels, folder, device
        if len(pixels) < 1:
            raise UserError("no training images")
        if config.batch % ranks.size():
            raise UserError(f"loop.batch = {config.batch}: must be a multiple of the job's {ranks.size()} processes")
        if config.compile and len(trainable.phases) > 1:
            raise UserError("loop.compile: adversarial training needs gradients of gradients, which cannot be compiled")
        self.step = 0
        self.skipped = 0
        self.best = -math.inf
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for module in trainable.phases.values():
            module.to(device)
            module.to(memory_format=layout)  # type: ignore[call-overload]
            if config.precision == "auto" and len(trainable.phases) == 1 and not config.compile:
                quicken(module)  # not where training is adversarial: that needs gradients of gradients
        self.averages = {
            name: copy.deepcopy(trainable.phases[name]).eval().requires_grad_(False) for name in trainable.averaged
        }
        self.optimizers = {name: make_optimizer(config, module) for name, module in trainable.phases.items()}
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        for module in trainable.phases.values():
            if config.forget_activations:
                blocks.forget_activations(module)
            if config.compile:
                blocks.compile_blocks(module)
        self.ahead = Ahead(self._make_rows)
        self._stop = False

    @property
    def images_seen(self) -> int:
        """Training images seen so far."""
        return self.step * self.config.batch

    def state(self) -> dict[str, Any]:
        """All that a run is, as tensors and plain values."""
        return {
            "step": self.step,
            "undecayed": undecayed(self.config, self.images_seen),
            "skipped": self.skipped,
            "best": self.best,
            "phases": {name: module.state_dict() for name, module in self.trainable.phases.items()},
            "averages": {name: module.state_dict() for name, module in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
        }

    def resume(self) -> None:
        """Continue from the newest checkpoint of the folder, dropping log lines written after it.

        A finished run that is extended to more images goes on from before its decay.

        Raises:
            UserError: there is no checkpoint, it is of another network, or the ranks do not see the same one.
        """
        state = checkpoint.load_latest(self.folder, self.device)
        start = self.folder / UNDECAYED
        left = undecayed(self.config, state["step"] * self.config.batch)
        extended = state.get("undecayed", left) < left and start.is_file()
        if extended:
            state = torch.load(start, map_location=self.device, weights_only=True)
        if ranks.total(state["step"]) != state["step"] * ranks.size():
            raise UserError(f"{self.folder}: not the same for all processes of this job; put --runs on a shared disk")
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
        self.best = state.get("best", -math.inf)
        if ranks.rank() > 0:
            return
        if extended:
            checkpoint.rewind(self.folder, start, self.step)
        log.rewind(self.folder, self.step)

    def _make_rows(self, step: int) -> Rows:
        """This rank's rows of a step: draws are made for the whole batch, pictures are read for these rows alone."""
        config = self.config
        rng = generator(config.seed, "step", step)
        chosen = batch_indices(config, len(self.pixels), step)
        changes = draw_changes(config, len(chosen), rng)
        shape_only = torch.empty(1).expand(len(chosen), *self.pixels.shape[1:])
        rows = {key: ranks.share(value) for key, value in self.trainable.draw(shape_only, rng).items()}
        mine = {name: ranks.share(drawn) for name, drawn in changes.items()}
        rows["number"] = ranks.share(chosen)
        rows["images"] = changed(from_uint8(self.pixels[rows["number"]]), config.shift, mine)
        if self.device.type == "cuda":
            rows = {key: value.pin_memory() for key, value in rows.items()}
        return rows

    def train_step(self) -> float:
        """One step of every phase on the next batch; returns the sum of their losses."""
        rate = learning_rate(self.config, self.images_seen)
        rows = {key: value.to(self.device, non_blocking=True) for key, value in self.ahead.rows(self.step).items()}
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
        """Gradients of one phase over the batch, micro-batch by micro-batch, of all ranks; returns the mean loss."""
        count = len(rows["images"])
        size = self.config.micro_batch or count
        others = [module for other, module in self.trainable.phases.items() if other != name]
        for module in others:
            module.requires_grad_(False)
        total = 0.0
        for start in range(0, count, size):
            part = {key: value[start : start + size] for key, value in rows.items()}
            with autocast(self.config.precision, self.device):
                loss = self.trainable.loss(name, part, self.step) * (len(part["images"]) / (count * ranks.size()))
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
        for module in others:
            module.requires_grad_(True)
        ranks.sum_gradients(list(self.trainable.phases[name].parameters()))
        return ranks.total(total)

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
        """Train to the end. Returns False if a signal stopped it; a checkpoint is written either way.

        Raises:
            UserError: the training diverged, a picture cannot be read, or another rank is gone.
        """
        keep_freed_memory()
        saved = time.monotonic()
        losses: list[float] = []
        with stop_on_signal(self.stop), progress_bar(console) as bar:
            task = bar.add_task("train", total=self.config.images, completed=self.images_seen, speed=0.0, loss=math.nan)
            begun, first, self.ahead.waited = time.monotonic(), self.images_seen, 0.0
            while self.images_seen < self.config.images and not ranks.total(self._stop):
                after = self.images_seen + self.config.batch
                if ranks.rank() == 0 and undecayed(self.config, self.images_seen) == 1 > undecayed(self.config, after):
                    checkpoint.write(self.folder / UNDECAYED, self.state())
                losses.append(self.train_step())
                seen, passed = self.images_seen, time.monotonic() - begun
                speed = (seen - first) / passed
                bar.update(task, completed=seen, speed=speed, loss=losses[-1])
                if self._due(seen):
                    record = self._validate(losses, speed, self.ahead.waited / passed)
                    if record:
                        console.print(log.line(record))
                    losses, saved = [], time.monotonic()
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
        self.save()
        ranks.wait()
        return self.images_seen >= self.config.images

    def _due(self, seen: int) -> bool:
        every = self.config.validate_every
        return seen >= self.config.images or seen // every != (seen - self.config.batch) // every

    def save(self) -> None:
        """Write a checkpoint now, if this is the first rank."""
        if ranks.rank() == 0:
            checkpoint.save(self.folder, self.step, self.state(), self.config.keep)

    def stop(self) -> None:
        """Ask ``train`` to save and return after the present step."""
        self._stop = True

    def _validate(self, losses: list[float], speed: float, waiting: float) -> dict[str, Any]:
        """Figures, picture, export and checkpoint of this moment, by the first rank; the best so far is kept too."""
        if ranks.rank() > 0:
            return {}
        figures, picture = self.trainable.validate(self.averages)
        record = {
            "step": self.step,
            "images": self.images_seen,
            "loss": sum(losses) / max(len(losses), 1),
            "lr": learning_rate(self.config, self.images_seen),
            "images_per_second": round(speed, 2),
            "waiting %": round(100 * waiting, 2),
            "skipped": self.skipped,
            **{key: round(value, 5) for key, value in figures.items()},
        }
        log.append(self.folder, record)
        if picture is not None:
            save_picture(picture, self.folder / f"validation-{self.images_seen:09d}.png")
        self.trainable.export(self.averages, self.folder / "model", self.images_seen)
        if figures["score"] > self.best:
            self.best = figures["score"]
            self.trainable.export(self.averages, self.folder / "best", self.images_seen)
            checkpoint.write(self.folder / BEST, self.state())
        self.save()
        return record
