"""Where a long restoration stands, on disk, so that it goes on after a stop as if there had been none."""

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor

from commin.receivers.commin_rows import Rows

EVERY = 25
"""Steps between two writings."""


class Resume:
    """The state of some rows, in a file of a folder named by the hash of all that they are restored from."""

    def __init__(self, folder: Path, settings: str, rows: Rows, x: Tensor) -> None:
        digest = hashlib.sha256(settings.encode())
        for part in (rows.y, rows.snr_db, x):
            digest.update(part.detach().cpu().numpy().tobytes())
        self.path = folder / f"{digest.hexdigest()[:24]}.pt"
        self.rows = rows

    def load(self, x: Tensor) -> tuple[int, Tensor]:
        """Steps done and x after them, the rows' generators set back to where they were; (0, x) at the first time."""
        try:
            state = torch.load(self.path, weights_only=True)
        except (FileNotFoundError, RuntimeError, EOFError):
            return 0, x
        for generator, kept in zip(self.rows.generators, state["generators"], strict=True):
            generator.set_state(kept)
        return state["step"], state["x"].to(x.device)

    def save(self, step: int, x: Tensor) -> None:
        """Keep x after ``step`` steps, every `EVERY` of them; temporary name first, then renamed."""
        if step % EVERY:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        torch.save({"step": step, "x": x.cpu(), "generators": [g.get_state() for g in self.rows.generators]}, temporary)
        temporary.replace(self.path)

    def forget(self) -> None:
        """Remove the file of rows that are finished."""
        self.path.unlink(missing_ok=True)
