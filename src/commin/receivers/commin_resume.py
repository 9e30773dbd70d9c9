"""Where a long restoration stands, on disk, so that it goes on after a stop as if there had been none."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from commin.atomic import replacing
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
        """Keep x after ``step`` steps, every `EVERY` of them."""
        if step % EVERY:
            return
        states = [generator.get_state() for generator in self.rows.generators]
        with replacing(self.path) as temporary:
            torch.save({"step": step, "x": x.cpu(), "generators": states}, temporary)

    def forget(self) -> None:
        """Remove the file of rows that are finished."""
        self.path.unlink(missing_ok=True)
