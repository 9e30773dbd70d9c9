"""A generator as one safetensors file, the config in the metadata."""

from pathlib import Path

import torch

from commin.modelfile import load_strict, read_config, read_model, write_model
from commin.stylegan2.generator import Generator, GeneratorConfig

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
    config = read_config(GeneratorConfig, content, path)
    generator = Generator(config)
    load_strict(generator, tensors, path)
    return generator.eval()
