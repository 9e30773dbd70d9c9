"""The mean of several files of one network, such as checkpoints of one run: an average over more of it."""

from collections.abc import Sequence
from pathlib import Path

import torch

from commin.errors import UserError
from commin.modelfile import read_any_model, stored_dtype, write_model


def write_mean(paths: Sequence[Path], out: Path) -> None:
    """Write θ = (θ₁ + … + θ_N)/N in the first file's precision, with the kind and config that all files have.

    It is worth something for files whose trainings have most in common (uniform soup, https://arxiv.org/abs/2203.05482).
    A file that is named twice counts twice. What is not floating is the first file's.

    Raises:
        UserError: fewer than two files, one that is no model file or of another network, or no place to write.
    """
    if len(paths) < 2:
        raise UserError(f"{paths[0] if paths else out}: a mean needs two files or more")
    first, *others = paths
    kind, config, mean = read_any_model(first)
    for path in others:
        held, held_config, tensors = read_any_model(path)
        if (held, held_config) != (kind, config) or _shapes(tensors) != _shapes(mean):
            raise UserError(f"{path}: is not the same network as {first}: their kinds, configs or shapes differ")
        for key, value in tensors.items():
            if value.is_floating_point():
                mean[key] += value
    scaled = {key: value / len(paths) if value.is_floating_point() else value for key, value in mean.items()}
    try:
        write_model(out, kind, config, scaled, stored_dtype(first))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in tensors.items()}
