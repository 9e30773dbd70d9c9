"""An INN as one safetensors file, its config in the metadata."""

from pathlib import Path

import torch

from commin.inn.degradation import Degradation, DegradationConfig
from commin.modelfile import load_strict, read_config, read_model, write_model

KIND = "inn"


def save_inn(inn: Degradation, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write an INN, rounded to ``dtype``: invertible with any weights, it loses no exactness; whole or not at all."""
    write_model(path, KIND, inn.config.model_dump(mode="json"), inn.state_dict(), dtype)


def load_inn(path: Path, dtype: torch.dtype = torch.float32) -> Degradation:
    """Read an INN in evaluation mode.

    Args:
        path: a file that `save_inn` wrote.
        dtype: that P and U compute in; c and d stay float32. In bfloat16 they take less than half the time; c moves by
            some 10⁻³ and f⁻¹ undoes f as exactly, far below the noise of what c is exchanged for.

    Raises:
        UserError: no such file, no INN in it, or weights that do not fit its config.
    """
    config_json, tensors = read_model(path, KIND)
    config = read_config(DegradationConfig, config_json, path)
    inn = Degradation(config)
    load_strict(inn, tensors, path)
    inn.lifting.to(dtype)
    return inn.eval()
