"""Tables of settings over SNR and ρ, and the numbers between their points."""

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from pydantic import BaseModel, ValidationError
from torch import Tensor

from commin.atomic import write_text
from commin.errors import UserError

M = TypeVar("M", bound=BaseModel)

DIGITS = 4
"""After the point, of fitted numbers."""


def interpolate(grid: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Piecewise linear, constant beyond the ends: ascending grid (P,), values (P, K), at (R,) to (R, K)."""
    if len(grid) == 1:
        return values.expand(len(at), -1)
    right = torch.searchsorted(grid.contiguous(), at.contiguous()).clamp(1, len(grid) - 1)
    low, high = grid[right - 1], grid[right]
    share = ((at - low) / (high - low)).clamp(0, 1).unsqueeze(1)
    return torch.lerp(values[right - 1], values[right], share)


def resample(values: Tensor, count: int) -> Tensor:
    """Rows (P, K) spread evenly from first to last, as ``count`` rows of the same line: (count, K)."""
    return interpolate(torch.linspace(0, 1, len(values)), values, torch.linspace(0, 1, count))


def interpolate_link(points: Sequence[tuple[Fraction, float, Tensor]], bcr: Fraction, snr_db: Tensor) -> Tensor:
    """Linear in dB, then linear in log ρ between the nearest two ρ of the table; constant beyond its edges.

    Args:
        points: (ρ, SNR in dB, numbers (K,)) for every point of the table, in any order.
        bcr: ρ of the link.
        snr_db: (R,).

    Returns:
        (R, K).
    """
    ratios = sorted({point[0] for point in points})
    lines = []
    for ratio in ratios:
        line = sorted(((snr, numbers) for r, snr, numbers in points if r == ratio), key=lambda pair: pair[0])
        grid = torch.tensor([snr for snr, _ in line])
        lines.append(interpolate(grid, torch.stack([numbers for _, numbers in line]), snr_db.cpu().float()))
    logs = torch.tensor([math.log2(ratio) for ratio in ratios])
    stacked = torch.stack(lines)
    mixed = interpolate(logs, stacked.flatten(1), torch.tensor([math.log2(bcr)]))
    return mixed.view(stacked.shape[1:])


def read_settings(model: type[M], path: Path) -> M:
    """Settings of a receiver from a YAML or JSON file.

    Raises:
        UserError: it cannot be read, or holds a wrong key or value.
    """
    try:
        content: Any = yaml.safe_load(path.read_text())
        return model.model_validate(content)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        known = f"; the keys are {', '.join(model.model_fields)}" if problem["type"] == "extra_forbidden" else ""
        raise UserError(f"{path}: {where}: {problem['msg']}{known}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None


def write_settings(settings: BaseModel, path: Path) -> None:
    """Write settings as JSON that `read_settings` reads, whole or not at all."""
    write_text(path, json.dumps(settings.model_dump(mode="json"), separators=(",", ":")) + "\n")
