"""Checkpoints of a run: written atomically, the last few kept, read without pickled code."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from commin.atomic import replacing
from commin.errors import UserError


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state, whole and on the disk or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``step-N.pt``, and drop all but the last ``keep`` and what a kill in the middle of writing has left."""
    path = folder / f"step-{step:09d}.pt"
    write(path, state)
    for old in [*listed(folder)[:-keep], *folder.glob(".*.pt.*.tmp")]:
        old.unlink()
    return path


def rewind(folder: Path, path: Path, step: int) -> None:
    """Make ``path``, of step ``step``, the newest checkpoint of the folder: later ones belong to an abandoned end."""
    start = folder / f"step-{step:09d}.pt"
    with replacing(start) as temporary:
        shutil.copyfile(path, temporary)
    for later in [each for each in listed(folder) if each.name > start.name]:
        later.unlink()


def listed(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d{9}\.pt", path.name))


def load_latest(folder: Path, device: torch.device) -> dict[str, Any]:
    """The newest checkpoint that can be read.

    Raises:
        UserError: there is none.
    """
    for path in reversed(listed(folder)):
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            return state
        except (RuntimeError, EOFError, OSError, ValueError):
            continue
    raise UserError(f"{folder}: no checkpoint to resume from; start without --resume")
