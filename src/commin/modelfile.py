"""The model file: one safetensors file, its kind and config in the metadata, loaded strictly."""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from commin.atomic import replacing
from commin.errors import UserError

M = TypeVar("M", bound=BaseModel)


def write_model(path: Path, kind: str, config: dict[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Write tensors, floating ones rounded to ``dtype``, with kind and config; whole or not at all."""
    rounded = {
        key: value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype).contiguous()
        for key, value in tensors.items()
    }
    with replacing(path) as temporary:
        save_file(rounded, temporary, metadata={"kind": kind, "config": json.dumps(config)})
        temporary.chmod(0o644)  # safetensors makes its files private


def read_model(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors, floating ones as float32, of a file of this kind.

    Raises:
        UserError: no such file, not safetensors, cut short, or of another kind.
    """
    held, config, tensors = read_any_model(path)
    if held != kind:
        raise UserError(f"{path}: holds {held}, not {kind}")
    return config, tensors


def read_any_model(path: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Kind, config and tensors of a file of any kind. Raises UserError as `read_model`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise UserError(f"{path}: no such model file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file, or cut short ({error}); pickles are not loaded") from None
    if "kind" not in metadata:
        raise UserError(f"{path}: holds an unknown model: no kind in its metadata")
    try:
        config: dict[str, Any] = json.loads(metadata["config"])
    except (KeyError, json.JSONDecodeError):
        raise UserError(f"{path}: has no config in its metadata") from None
    return metadata["kind"], config, {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def stored_dtype(path: Path) -> torch.dtype:
    """The precision of a model file's floating tensors."""
    with safe_open(path, framework="pt") as file:
        tensors = (file.get_tensor(key) for key in file.keys())  # noqa: SIM118 - not a dict
        return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def read_config(model: type[M], content: dict[str, Any], path: Path) -> M:
    """A file's config, checked. Raises UserError, naming the file, if it does not fit."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: its config does not fit this version: {error.errors()[0]['msg']}") from None


def load_strict(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load every tensor into its place.

    Raises:
        UserError: keys are missing or unknown, or shapes differ; the line names the first few of each.
    """
    own = module.state_dict()
    complaints = {
        "missing": sorted(own.keys() - tensors.keys()),
        "unknown": sorted(tensors.keys() - own.keys()),
        "shape": [
            f"{key} {tuple(tensors[key].shape)} instead of {tuple(own[key].shape)}"
            for key in sorted(own.keys() & tensors.keys())
            if own[key].shape != tensors[key].shape
        ],
    }
    found = [f"{what} ({len(keys)}): {', '.join(keys[:3])}" for what, keys in complaints.items() if keys]
    if found:
        raise UserError(f"{path}: weights do not fit the network: {'; '.join(found)}")
    module.load_state_dict(tensors)
