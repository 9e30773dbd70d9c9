"""Public StyleGAN2 generators in the two layouts people have, into our `Generator`.

* ``g_ema`` of rosinality's PyTorch port, a ``.pt`` or safetensors file: ``style.N``, ``input``, ``conv1``,
  ``convs.N``, ``to_rgb1``, ``to_rgbs.N``, ``noises.noise_N``.
* ``G_ema`` of NVIDIA's own (stylegan2-ada-pytorch, stylegan3), its state dict as safetensors: ``mapping.fcN``,
  ``synthesis.bN.convK``, ``synthesis.bN.torgb``.

The two differ in names and in dimensions of size one; the size follows from the shapes. The activation clamp of
NVIDIA's half-precision training is left out: it acts on values above 256 only.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from commin.errors import UserError
from commin.modelfile import load_strict
from commin.stylegan2.generator import Generator, GeneratorConfig
from commin.stylegan2.resample import FILTER

Names = Iterator[tuple[str, str]]
"""Pairs of our key and theirs."""


def load_public(path: Path) -> Generator:
    """Read a public generator of any size, in float32 and evaluation mode.

    Raises:
        UserError: no such file, a pickle that holds more than tensors, another layout or architecture.
    """
    tensors = _read(path)
    for key, value in tensors.items():
        if re.search(r"(\.kernel|resample_filter)$", key) and not _is_our_filter(value):
            raise UserError(f"{path}: {key} is not the filter [1, 3, 3, 1]; only that one is supported")
    config, renamed = rename(tensors, path)
    generator = Generator(config)
    load_strict(generator, renamed, path)
    return generator.eval()


def rename(tensors: Mapping[str, Tensor], path: Path) -> tuple[GeneratorConfig, dict[str, Tensor]]:
    """The config that the shapes tell, and the tensors under our names and in our shapes.

    A key that is not known keeps its name, and one that is missing stays so: `load_strict` then names it. Filters and
    mean latents are dropped. Where a file has no noise maps they are zero.

    Raises:
        UserError: neither of the two layouts.
    """
    if "input.input" in tensors:
        blocks = 1 + sum(bool(re.fullmatch(r"to_rgbs\.\d+\.bias", key)) for key in tensors)
        lasts = ["input.input", *(f"convs.{2 * index - 1}.conv.weight" for index in range(1, blocks))]
        widths = [tensors[key].shape[1] for key in lasts if key in tensors]
        layers, first, names = r"style\.\d+\.weight", "style.1.weight", _rosinality
    elif "synthesis.b4.const" in tensors:
        sizes = [4 << index for index in range(16)]
        keys = [f"synthesis.b{size}.conv1.weight" for size in sizes if f"synthesis.b{size}.conv1.weight" in tensors]
        widths = [tensors[key].shape[0] for key in keys]
        layers, first, names = r"mapping\.fc\d+\.weight", "mapping.fc0.weight", _nvidia
    else:
        raise UserError(f"{path}: no StyleGAN2 generator in a known layout; it holds {', '.join(list(tensors)[:3])}, …")
    try:
        config = GeneratorConfig(
            widths=tuple(widths),
            style_dim=tensors[first].shape[0],
            mapping_layers=sum(bool(re.fullmatch(layers, key)) for key in tensors),
        )
    except (KeyError, ValidationError):
        raise UserError(f"{path}: {first} or the convolutions are missing; the file is not whole") from None
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Generator(config).state_dict().items()}
    left = {key: value for key, value in tensors.items() if not re.search(_DROPPED, key)}
    renamed = {}
    for ours, theirs in names(config):
        if theirs in left:
            value = left.pop(theirs)
            renamed[ours] = value.reshape(shapes[ours]) if value.numel() == shapes[ours].numel() else value
        elif ours.endswith(".noise"):
            renamed[ours] = torch.zeros(shapes[ours])
    return config, {**renamed, **left}


_DROPPED = r"(\.kernel|\.resample_filter|^mapping\.w_avg)$"


def _rosinality(config: GeneratorConfig) -> Names:
    yield "constant", "input.input"
    for index in range(config.mapping_layers):
        for part in ("weight", "bias"):
            yield f"mapping.layers.{index}.{part}", f"style.{index + 1}.{part}"
    for index in range(len(config.widths)):
        convs = [2 * index - 2, 2 * index - 1] if index else [None]
        for number, conv in enumerate(convs):
            ours, theirs = f"blocks.{index}.convs.{number}", "conv1" if conv is None else f"convs.{conv}"
            yield from _modulated(f"{ours}.conv", f"{theirs}.conv", "modulation")
            yield f"{ours}.bias", f"{theirs}.activate.bias"
            yield f"{ours}.strength", f"{theirs}.noise.weight"
            yield f"{ours}.noise", f"noises.noise_{0 if conv is None else conv + 1}"
        rgb = f"to_rgbs.{index - 1}" if index else "to_rgb1"
        yield from _modulated(f"blocks.{index}.rgb.conv", f"{rgb}.conv", "modulation")
        yield f"blocks.{index}.rgb.bias", f"{rgb}.bias"


def _nvidia(config: GeneratorConfig) -> Names:
    yield "constant", "synthesis.b4.const"
    for index in range(config.mapping_layers):
        for part in ("weight", "bias"):
            yield f"mapping.layers.{index}.{part}", f"mapping.fc{index}.{part}"
    for index in range(len(config.widths)):
        block = f"synthesis.b{4 << index}"
        for number, conv in enumerate(("conv0", "conv1") if index else ("conv1",)):
            ours, theirs = f"blocks.{index}.convs.{number}", f"{block}.{conv}"
            yield from _modulated(f"{ours}.conv", theirs, "affine")
            yield f"{ours}.bias", f"{theirs}.bias"
            yield f"{ours}.strength", f"{theirs}.noise_strength"
            yield f"{ours}.noise", f"{theirs}.noise_const"
        yield from _modulated(f"blocks.{index}.rgb.conv", f"{block}.torgb", "affine")
        yield f"blocks.{index}.rgb.bias", f"{block}.torgb.bias"


def _modulated(ours: str, theirs: str, style: str) -> Names:
    yield f"{ours}.weight", f"{theirs}.weight"
    for part in ("weight", "bias"):
        yield f"{ours}.style.{part}", f"{theirs}.{style}.{part}"


def _is_our_filter(kernel: Tensor) -> bool:
    taps = torch.tensor(FILTER)
    kernel = kernel.float()
    return kernel.shape == (4, 4) and torch.allclose(kernel / kernel.sum(), taps[:, None] * taps, atol=1e-5)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        elif path.suffix == ".pkl" and path.is_file():
            raise pickle.UnpicklingError
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such model file") from None
    except pickle.UnpicklingError:
        raise UserError(f"{path}: {_CONVERT[path.suffix == '.pkl'].format(path.with_suffix('.safetensors'))}") from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read, or cut short ({str(error).splitlines()[0]})") from None
    if isinstance(content, dict):
        content = content.get("g_ema", content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict of a generator")
    return {key: value.float() if value.is_floating_point() else value for key, value in content.items()}


_REFUSED = "holds pickled objects, which can run any code and are not loaded; if you trust the file, convert it once"
_SAVE = "from safetensors.torch import save_file; save_file({{k: v.contiguous() for k, v in g.items()}}, '{}')"
_CONVERT = (
    f"{_REFUSED}: import torch; g = torch.load(FILE, 'cpu', weights_only=False)['g_ema']; {_SAVE}",
    f"{_REFUSED}, in the folder of the code that wrote it: "
    f"import pickle; g = pickle.load(open(FILE, 'rb'))['G_ema'].state_dict(); {_SAVE}",
)
