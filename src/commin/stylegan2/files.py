"""A generator as one safetensors file, the config in the metadata."""

from pathlib import Path

import torch
from pydantic import ValidationError

from commin.errors import UserError
from commin.stylegan2.generator import Generator, GeneratorConfig
from commin.zoo.modelfile import load_strict, read_model, write_model

KIND = "stylegan2"


def save_generator(generator: Generator, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a generator, rounded to ``dtype``; the file appears whole or not at all."""
    write_model(path, KIND, generator.config.model_dump(mode="json"), generator.state_dict(), dtype)


def load_generator(path: Path) -> Generator:
    """Read a generator in float32 and evaluation mode.

    Raises:
        UserError: no such file, no generator in it, or weights that do not fit its config.
    """
    content, tensors = read_model(path, KIND)
    try:
        config = GeneratorConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: its config does not fit this version: {error.errors()[0]['msg']}") from None
    generator = Generator(config)
    load_strict(generator, tensors, path)
    return generator.eval()
