"""Winograd's convolutions are the plain ones, and are taken where they gain."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from commin.randomness import generator
from commin.training import winograd
from commin.training.winograd import Winograd, WinogradConv2d, quicken

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "fast_dtype", lambda device: torch.float32)


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=generator("winograd", *shape)).to(dtype).requires_grad_()


@pytest.mark.parametrize(("count", "height", "width"), [(1, 4, 4), (3, 8, 12), (5, 32, 64)])
def test_value_and_gradients_of_the_plain_convolution(count: int, height: int, width: int) -> None:
    images, weight, change = drawn(count, 5, height, width), drawn(7, 5, 3, 3), drawn(count, 7, height, width)
    plain, ours = F.conv2d(images, weight, padding=1), Winograd.apply(images, weight)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-11)
    wanted = torch.autograd.grad(plain, (images, weight), change)
    torch.testing.assert_close(torch.autograd.grad(ours, (images, weight), change), wanted, rtol=1e-11, atol=1e-9)


def test_rounding_in_float32() -> None:
    images, weight = drawn(4, 96, 32, 32, dtype=torch.float32), drawn(96, 96, 3, 3, dtype=torch.float32)
    exact = F.conv2d(images.double(), weight.double(), padding=1)
    assert (Winograd.apply(images, weight) - exact).abs().max() < 3e-5 * exact.abs().max()


def test_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, weight = drawn(6, 3, 8, 8), drawn(4, 3, 3, 3)
    at_once = Winograd.apply(images, weight)
    monkeypatch.setattr(winograd, "PIXELS", 64)
    torch.testing.assert_close(Winograd.apply(images, weight), at_once)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(12, 96, 3, padding=1), nn.Conv2d(96, 96, 3, padding=1), nn.Conv2d(96, 96, 1),
        nn.Conv2d(96, 96, 3, stride=2, padding=1), nn.Conv2d(96, 96, 3, padding=1, groups=2),
        nn.Conv2d(96, 96, 3), nn.Conv2d(96, 96, 3, padding=1, padding_mode="reflect"),
    )  # fmt: skip


def test_layers_that_gain_are_taken() -> None:
    layers = network()
    plain = copy.deepcopy(layers)
    quicken(layers, "auto", CPU)
    assert [isinstance(layer, WinogradConv2d) for layer in layers] == [False, True] + 5 * [False]
    assert isinstance(copy.deepcopy(layers)[1], WinogradConv2d)
    plain.load_state_dict(layers.state_dict())
    for size in (8, 10):  # 10: no multiple of 4
        images = drawn(2, 96, size, size, dtype=torch.float32)
        torch.testing.assert_close(layers[1](images), plain[1](images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("precision", "device"), [("float32", "cpu"), ("bf16", "cpu"), ("auto", "cuda")])
def test_other_arithmetic_stays_as_it_is(precision: str, device: str) -> None:
    layers = network()
    quicken(layers, precision, torch.device(device))  # type: ignore[arg-type]
    assert not any(isinstance(layer, WinogradConv2d) for layer in layers)


def test_where_bf16_is_quick_it_is_taken_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "fast_dtype", lambda device: torch.bfloat16)
    layers = network()
    quicken(layers, "auto", CPU)
    assert not any(isinstance(layer, WinogradConv2d) for layer in layers)
