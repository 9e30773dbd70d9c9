"""What the parts of `speed.py` share: a thing to be timed, and its plain version."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

BCR, SIZE = "1/48", 64
RECIPES = Path(__file__).parent.parent / "recipes"
Call = Callable[[], object]


@dataclass(frozen=True)
class Part:
    """``used`` and ``plain`` do the same to ``images`` pictures; ``times`` such calls make one whole result."""

    name: str
    images: int
    used: Call
    plain: Call
    times: float = 1.0
    calls: int = 1


def contiguous(module: Any) -> Any:
    """A float32 copy in plain layout."""
    return deepcopy(module).float().to(memory_format=torch.contiguous_format)
