"""Winograd's convolutions are the plain ones, and are taken where they gain."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import commin
from commin import winograd
from commin.images import to_uint8
from commin.randomness import generator
from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.loop import Run
from commin.training.recipe import parse
from commin.winograd import Winograd, WinogradConv2d, quicken
from tests.conftest import smooth_images
from tests.test_training import MODEL, recipe


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=generator("winograd", *shape)).to(dtype).requires_grad_()


@pytest.mark.parametrize(("count", "height", "width"), [(1, 4, 4), (3, 8, 12), (5, 32, 64)])
def test_value_and_gradients_of_the_plain_convolution(count: int, height: int, width: int) -> None:
    given = (drawn(count, 5, height, width), drawn(7, 5, 3, 3), drawn(7))
    plain, ours = F.conv2d(*given, padding=1), Winograd.apply(*given)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-11)
    change = drawn(count, 7, height, width)
    wanted = torch.autograd.grad(plain, given, change)
    torch.testing.assert_close(torch.autograd.grad(ours, given, change), wanted, rtol=1e-11, atol=1e-9)


def test_rounding_in_float32() -> None:
    images, weight = drawn(4, 96, 32, 32, dtype=torch.float32), drawn(96, 96, 3, 3, dtype=torch.float32)
    exact = F.conv2d(images.double(), weight.double(), padding=1)
    assert (Winograd.apply(images, weight, None) - exact).abs().max() < 3e-5 * exact.abs().max()


def test_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, weight = drawn(6, 3, 8, 8), drawn(4, 3, 3, 3)
    at_once = Winograd.apply(images, weight, None)
    monkeypatch.setattr(winograd, "NUMBERS", 8 * 8 * 4)
    torch.testing.assert_close(Winograd.apply(images, weight, None), at_once)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(12, 96, 3, padding=1), nn.Conv2d(96, 96, 3, padding=1), nn.Conv2d(96, 96, 1),
        nn.Conv2d(96, 96, 3, stride=2, padding=1), nn.Conv2d(96, 96, 3, padding=1, groups=2),
        nn.Conv2d(96, 96, 3), nn.Conv2d(96, 96, 3, padding=1, padding_mode="reflect"),
    )  # fmt: skip


def test_layers_that_gain_are_taken() -> None:
    layers = network()
    quicken(layers)
    assert [isinstance(layer, WinogradConv2d) for layer in layers] == [False, True] + 5 * [False]
    assert isinstance(copy.deepcopy(layers)[1], WinogradConv2d)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The inputs that go this way."""
    seen: list[torch.Size] = []

    def noted(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        seen.append(images.shape)
        return F.conv2d(images, weight, bias, padding=1)

    monkeypatch.setattr(Winograd, "apply", noted)
    return seen


@pytest.mark.parametrize(
    ("shape", "dtype", "taken"),
    [
        ((2, 96, 32, 32), torch.float32, True),
        ((1, 96, 32, 32), torch.float32, False),  # too few samples
        ((8, 96, 30, 32), torch.float32, False),  # no multiple of 4
        ((2, 96, 32, 32), torch.float64, False),
    ],
)
def test_where_a_layer_goes_this_way(
    shape: tuple[int, ...], dtype: torch.dtype, taken: bool, calls: list[torch.Size]
) -> None:
    plain = nn.Conv2d(96, 96, 3, padding=1).to(dtype)
    layer = copy.deepcopy(plain)
    quicken(layer)
    images = drawn(*shape, dtype=dtype)
    torch.testing.assert_close(layer(images), plain(images))
    assert bool(calls) == taken


def test_autocast_is_left_alone(calls: list[torch.Size]) -> None:
    layer = nn.Conv2d(96, 96, 3, padding=1)
    quicken(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(drawn(2, 96, 32, 32, dtype=torch.float32)).dtype == torch.bfloat16
    assert not calls


def test_restored_pictures_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    images = smooth_images(4, 64)
    link = commin.load(bcr="1/48", receiver="commin-fast")
    quick = link.transmit(images, 0.0).images
    monkeypatch.setattr(winograd, "LEAST", 10**9)
    torch.testing.assert_close(link.transmit(images, 0.0).images, quick, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("precision", "taken"), [("auto", True), ("float32", False)])
def test_training_goes_this_way_by_auto(precision: str, taken: bool, tmp_path: Path) -> None:
    content = recipe(precision=precision) | {"model": MODEL | {"widths": [96, 8, 8]}}
    config = parse(CodecRecipe, content, Path("recipe"))
    pixels = to_uint8(smooth_images(8, 32))
    run = Run(CodecTraining(config, pixels), config.loop, pixels, tmp_path, torch.device("cpu"))
    for codec in (run.trainable.phases["codec"], run.averages["codec"]):
        assert any(isinstance(layer, WinogradConv2d) for layer in codec.modules()) == taken
    assert run.train_step() > 0
