"""The log of a run: ``log.jsonl``, one line for each validation."""

import json
import os
from pathlib import Path
from typing import Any

from commin.atomic import write_text

NAME = "log.jsonl"


def line(record: dict[str, Any]) -> str:
    """A record in short, for the terminal."""
    return (
        f"{record['images']:,} images: loss {record['loss']:.4f}, score {record['score']:.3f}, "
        f"{record['images_per_second']:.1f} images/s, waiting {record['waiting %']:.1f} %"
    )


def append(folder: Path, record: dict[str, Any]) -> None:
    """Add a line and flush it to disk."""
    with (folder / NAME).open("a") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def rewind(folder: Path, step: int) -> None:
    """Drop the lines written after a step."""
    path = folder / NAME
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
    write_text(path, "".join(f"{line}\n" for line in lines))
