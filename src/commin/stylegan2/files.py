"""A generator or a discriminator as one safetensors file, the config in the metadata."""

from pathlib import Path

import torch

from commin.modelfile import load_strict, read_config, read_model, write_model
from commin.stylegan2.discriminator import Discriminator, DiscriminatorConfig
from commin.stylegan2.generator import Generator, GeneratorConfig

KIND = "stylegan2"
DISCRIMINATOR_KIND = "stylegan2-discriminator"


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


def save_discriminator(discriminator: Discriminator, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a discriminator, which a later training goes on with, as `save_generator` does."""
    config = discriminator.config.model_dump(mode="json")
    write_model(path, DISCRIMINATOR_KIND, config, discriminator.state_dict(), dtype)


def load_discriminator(path: Path) -> Discriminator:
    """Read a discriminator in float32 and evaluation mode. Raises UserError as `load_generator`."""
    content, tensors = read_model(path, DISCRIMINATOR_KIND)
    config = read_config(DiscriminatorConfig, content, path)
    discriminator = Discriminator(config)
    load_strict(discriminator, tensors, path)
    return discriminator.eval()
