"""Public generators: key lists of both layouts, equal pictures, files that are refused.

What the two layouts mean is stated here once more, plainly, from their published definitions: a kernel for each
picture, zeros between samples, one filter after another.
"""

import argparse
import math
import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from commin.errors import UserError
from commin.stylegan2.generator import Generator
from commin.stylegan2.public import load_public, rename

Shapes = dict[str, tuple[int, ...]]
PATH = Path("some.pt")
WIDTHS = {32: [24, 16, 12, 8], 256: [512] * 5 + [256, 128], 1024: [512] * 5 + [256, 128, 64, 32]}


def rosinality_shapes(widths: list[int], dim: int, layers: int) -> Shapes:
    shapes: Shapes = {"input.input": (1, widths[0], 4, 4)}
    for index in range(1, layers + 1):
        shapes |= {f"style.{index}.weight": (dim, dim), f"style.{index}.bias": (dim,)}

    def conv(name: str, inputs: int, outputs: int, up: bool) -> Shapes:
        found: Shapes = {
            f"{name}.conv.weight": (1, outputs, inputs, 3, 3),
            f"{name}.conv.modulation.weight": (inputs, dim),
            f"{name}.conv.modulation.bias": (inputs,),
            f"{name}.noise.weight": (1,),
            f"{name}.activate.bias": (outputs,),
        }
        return found | ({f"{name}.conv.blur.kernel": (4, 4)} if up else {})

    def rgb(name: str, inputs: int, up: bool) -> Shapes:
        found: Shapes = {
            f"{name}.bias": (1, 3, 1, 1),
            f"{name}.conv.weight": (1, 3, inputs, 1, 1),
            f"{name}.conv.modulation.weight": (inputs, dim),
            f"{name}.conv.modulation.bias": (inputs,),
        }
        return found | ({f"{name}.upsample.kernel": (4, 4)} if up else {})

    shapes |= conv("conv1", widths[0], widths[0], False) | rgb("to_rgb1", widths[0], False)
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes |= conv(f"convs.{2 * index}", inputs, outputs, True)
        shapes |= conv(f"convs.{2 * index + 1}", outputs, outputs, False) | rgb(f"to_rgbs.{index}", outputs, True)
    for index in range(2 * len(widths) - 1):
        size = 2 ** ((index + 5) // 2)
        shapes[f"noises.noise_{index}"] = (1, 1, size, size)
    return shapes


def nvidia_shapes(widths: list[int], dim: int, layers: int) -> Shapes:
    shapes: Shapes = {"synthesis.b4.const": (widths[0], 4, 4), "mapping.w_avg": (dim,)}
    for index in range(layers):
        shapes |= {f"mapping.fc{index}.weight": (dim, dim), f"mapping.fc{index}.bias": (dim,)}
    for index, outputs in enumerate(widths):
        size = 4 * 2**index
        block = f"synthesis.b{size}"
        shapes[f"{block}.resample_filter"] = (4, 4)
        convs = [("conv0", widths[index - 1]), ("conv1", outputs)] if index else [("conv1", outputs)]
        for name, inputs in convs:
            shapes |= {
                f"{block}.{name}.weight": (outputs, inputs, 3, 3),
                f"{block}.{name}.bias": (outputs,),
                f"{block}.{name}.noise_strength": (),
                f"{block}.{name}.noise_const": (size, size),
                f"{block}.{name}.resample_filter": (4, 4),
                f"{block}.{name}.affine.weight": (inputs, dim),
                f"{block}.{name}.affine.bias": (inputs,),
            }
        shapes |= {
            f"{block}.torgb.weight": (3, outputs, 1, 1),
            f"{block}.torgb.bias": (3,),
            f"{block}.torgb.affine.weight": (outputs, dim),
            f"{block}.torgb.affine.bias": (outputs,),
        }
    return shapes


LAYOUTS = {"rosinality": rosinality_shapes, "nvidia": nvidia_shapes}
KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Normal numbers; mapping weights 100 times as large, style biases about 1, the filters what they are."""
    torch.manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        value = torch.randn(shape)
        if key.startswith(("style.", "mapping.fc")):
            value = 100 * value
        elif key.endswith(("modulation.bias", "affine.bias")):
            value = 1 + 0.1 * value
        elif key.endswith("resample_filter"):
            value = KERNEL.clone()
        elif key.endswith("kernel"):
            value = 4 * KERNEL
        state[key] = value
    return state


def filtered(x: Tensor, up: int, before: int, after: int, gain: float) -> Tensor:
    """Zeros after each sample, padding, correlation with the filter."""
    count, channels, height, width = x.shape
    spread = torch.zeros(count, channels, height * up, width * up)
    spread[..., ::up, ::up] = x
    spread = F.pad(spread, (before, after, before, after))
    return F.conv2d(spread, (gain * KERNEL).expand(channels, 1, 4, 4), groups=channels)


def activated(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)


def mapped(z: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    x = z * torch.rsqrt(z.pow(2).mean(1, keepdim=True) + 1e-8)
    for weight, bias in layers:
        x = activated(x @ (weight * 0.01 / math.sqrt(weight.shape[1])).T, bias * 0.01)
    return x


def convolved(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool) -> Tensor:
    """One picture after another with its own kernel; ``up``: zeros between samples, a true convolution, the filter."""
    outputs = []
    for image, row in zip(x, style, strict=True):
        kernel = weight * row[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.pow(2).sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            spread = torch.zeros(1, len(image), 2 * image.shape[1] - 1, 2 * image.shape[2] - 1)
            spread[..., ::2, ::2] = image
            outputs.append(filtered(F.conv2d(spread, kernel.flip(2, 3), padding=2), 1, 1, 1, 4.0))
        else:
            outputs.append(F.conv2d(image[None], kernel, padding=weight.shape[-1] // 2))
    return torch.cat(outputs)


def rosinality_picture(state: dict[str, Tensor], z: Tensor) -> Tensor:
    dim = z.shape[1]
    layers = sum(key.startswith("style.") for key in state) // 2
    w = mapped(z, [(state[f"style.{i}.weight"], state[f"style.{i}.bias"]) for i in range(1, layers + 1)])

    def modulated(name: str, x: Tensor, demodulate: bool, up: bool) -> Tensor:
        style = w @ (state[f"{name}.modulation.weight"] / math.sqrt(dim)).T + state[f"{name}.modulation.bias"]
        weight = state[f"{name}.weight"][0]
        return convolved(x, weight / math.sqrt(weight[0].numel()), style, demodulate, up)

    def styled(name: str, x: Tensor, index: int, up: bool) -> Tensor:
        x = modulated(f"{name}.conv", x, True, up)
        x = x + state[f"{name}.noise.weight"] * state[f"noises.noise_{index}"]
        return activated(x, state[f"{name}.activate.bias"])

    x = styled("conv1", state["input.input"].repeat(len(z), 1, 1, 1), 0, False)
    skip = modulated("to_rgb1.conv", x, False, False) + state["to_rgb1.bias"]
    for block in range(sum(key.startswith("to_rgbs.") and key.endswith("conv.weight") for key in state)):
        x = styled(f"convs.{2 * block}", x, 2 * block + 1, True)
        x = styled(f"convs.{2 * block + 1}", x, 2 * block + 2, False)
        rgb = modulated(f"to_rgbs.{block}.conv", x, False, False) + state[f"to_rgbs.{block}.bias"]
        skip = rgb + filtered(skip, 2, 2, 1, 4.0)
    return skip


def nvidia_picture(state: dict[str, Tensor], z: Tensor) -> Tensor:
    dim = z.shape[1]
    layers = sum(key.startswith("mapping.fc") for key in state) // 2
    w = mapped(z, [(state[f"mapping.fc{i}.weight"], state[f"mapping.fc{i}.bias"]) for i in range(layers)])

    def style(name: str) -> Tensor:
        return w @ (state[f"{name}.affine.weight"] / math.sqrt(dim)).T + state[f"{name}.affine.bias"]

    def layer(name: str, x: Tensor, up: bool) -> Tensor:
        x = convolved(x, state[f"{name}.weight"], style(name), True, up)
        x = x + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
        return activated(x, state[f"{name}.bias"])

    x = state["synthesis.b4.const"].repeat(len(z), 1, 1, 1)
    picture: Tensor | None = None
    size = 4
    while f"synthesis.b{size}.conv1.weight" in state:
        block = f"synthesis.b{size}"
        if size > 4:
            x = layer(f"{block}.conv0", x, True)
        x = layer(f"{block}.conv1", x, False)
        weight = state[f"{block}.torgb.weight"]
        rgb = convolved(x, weight, style(f"{block}.torgb") / math.sqrt(weight.shape[1]), False, False)
        rgb = rgb + state[f"{block}.torgb.bias"][:, None, None]
        picture = rgb if picture is None else rgb + filtered(picture, 2, 2, 1, 4.0)
        size *= 2
    assert picture is not None
    return picture


PICTURES = {"rosinality": rosinality_picture, "nvidia": nvidia_picture}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [256, 1024])
def test_key_and_shape_lists_at_the_public_sizes(layout: str, size: int) -> None:
    shapes = LAYOUTS[layout](WIDTHS[size], 512, 8)
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    config, renamed = rename(tensors, PATH)
    assert (config.size, config.style_dim, config.mapping_layers) == (size, 512, 8)
    with torch.device("meta"):
        own = Generator(config).state_dict()
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in own.items()}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_pictures(layout: str, suffix: str, tmp_path: Path) -> None:
    state = random_state(LAYOUTS[layout](WIDTHS[32], 20, 3))
    path = tmp_path / f"g{suffix}"
    if suffix == ".pt":
        torch.save({"g_ema": state, "latent_avg": torch.zeros(20)}, path)
    else:
        save_file(state, path)
    generator = load_public(path)
    assert not generator.training
    z = torch.randn(3, 20)
    with torch.no_grad():
        expected = PICTURES[layout](state, z)
        made = generator.run(generator.styles(z))[1]
    assert expected.shape == (3, 3, 32, 32)
    assert (made - expected).abs().max() < 1e-4 * expected.std()


def test_missing_noise_maps_are_zero() -> None:
    state = random_state(rosinality_shapes(WIDTHS[32], 20, 3))
    _, renamed = rename({key: value for key, value in state.items() if not key.startswith("noises")}, PATH)
    assert all(not value.any() for key, value in renamed.items() if key.endswith(".noise"))


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    state = random_state(rosinality_shapes(WIDTHS[32], 20, 3))
    path = tmp_path / "trained.pt"
    torch.save({"g_ema": state, "args": argparse.Namespace(size=32)}, path)
    with pytest.raises(UserError, match=r"not loaded.*convert it once.*\['g_ema'\].*save_file.*trained\.safetensors"):
        load_public(path)
    path = tmp_path / "ffhq.pkl"
    path.write_bytes(pickle.dumps({"G_ema": argparse.Namespace()}))
    with pytest.raises(UserError, match=r"not loaded.*pickle.*\['G_ema'\].*save_file.*ffhq\.safetensors"):
        load_public(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    state = random_state(nvidia_shapes(WIDTHS[32], 20, 3))
    path = tmp_path / "g.safetensors"

    def refused(match: str, content: dict[str, Tensor]) -> None:
        save_file(content, path)
        with pytest.raises(UserError, match=match):
            load_public(path)

    refused("mapping.embed.weight", state | {"mapping.embed.weight": torch.zeros(20, 10)})  # one for classes
    refused("missing", {key: value for key, value in state.items() if key != "synthesis.b8.torgb.bias"})
    refused("not whole", {key: value for key, value in state.items() if not key.startswith("mapping")})
    refused("filter", state | {"synthesis.b8.resample_filter": torch.eye(4)})
    refused("known layout", {"a": torch.zeros(1)})
    refused("shape", state | {"synthesis.b8.conv0.bias": torch.zeros(5)})
    with pytest.raises(UserError, match="no such"):
        load_public(tmp_path / "none.pt")
    path.write_bytes(b"not tensors")
    with pytest.raises(UserError, match="cannot be read"):
        load_public(path)
    broken = tmp_path / "g.pt"
    torch.save(state, broken)
    broken.write_bytes(broken.read_bytes()[:5000])
    with pytest.raises(UserError):
        load_public(broken)
    torch.save([1, 2], broken)
    with pytest.raises(UserError, match="no state dict"):
        load_public(broken)
