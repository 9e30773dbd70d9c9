"""The transformer's parts: the lapped transform, windows over grids of any size, what it is before training."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commin.codec.config import DeepJSCCConfig, TransformerConfig
from commin.codec.deepjscc import DeepJSCC
from commin.codec.lapped import COUNT, Lapped
from commin.codec.windows import windows
from tests.conftest import smooth_images

SMALL = DeepJSCCConfig(
    latent_channels=(8,), image_size=32, transformer=TransformerConfig(width=64, encoder_blocks=1, decoder_blocks=1)
)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 11), st.integers(1, 11), st.integers(1, 4))
def test_every_token_is_found_again_in_a_window_around_it(rows: int, columns: int, side: int) -> None:
    inside, where = windows(rows, columns, side)
    assert inside.shape == (-(-rows // side) * -(-columns // side), side**2)
    assert torch.equal(inside.flatten()[where], torch.arange(rows * columns))
    assert set(inside.flatten().tolist()) == set(range(rows * columns))
    if rows >= side and columns >= side:
        assert all(len(set(window)) == side**2 for window in inside.tolist())  # none twice


def test_a_window_is_the_grid_trained_for() -> None:
    inside, where = windows(4, 4, 4)
    assert torch.equal(inside, torch.arange(16)[None])
    assert torch.equal(where, torch.arange(16))


def test_all_frequencies_are_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commin.codec.lapped.COUNT", 4 * COUNT)
    lapped, images = Lapped(), torch.rand(2, 3, 96, 64) * 2 - 1
    assert torch.allclose(lapped.inverse(lapped(images), 6, 4), images, atol=1e-5)


def test_those_kept_show_slow_waves() -> None:
    lapped = Lapped()
    images = smooth_images(2, 96)[..., :64] * 2 - 1
    numbers = lapped(images)
    assert numbers.shape == (2, 24, COUNT)
    shown = lapped.inverse(numbers, 6, 4)
    assert (shown - images).square().mean() < 1e-3 * images.square().mean()


def test_the_transform_is_float32_under_autocast() -> None:
    lapped, images = Lapped(), smooth_images(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        numbers = lapped(images)
        shown = lapped.inverse(numbers, 4, 4)
    assert torch.equal(numbers, lapped(images))
    assert torch.equal(shown, lapped.inverse(numbers, 4, 4))


def test_squares_of_another_window_do_not_matter() -> None:
    """Pictures larger than trained for: each window is coded by itself, but for 8 pixels of its neighbours."""
    torch.manual_seed(0)
    codec = DeepJSCC(SMALL).eval()
    images = torch.rand(1, 3, 32, 96)
    other = images.clone()
    other[..., 64 + 8 :] = 0
    snr, channels = torch.zeros(1), torch.full((1,), 8.0)
    assert codec.encoder is not None
    with torch.no_grad():
        first, second = (codec.encoder.latent(each, snr, channels) for each in (images, other))
    assert torch.allclose(first[..., :4], second[..., :4], atol=1e-6)
    assert not torch.allclose(first[..., 4:], second[..., 4:], atol=1e-2)


@pytest.mark.parametrize("size", [(16, 16), (48, 80)])
def test_sizes_of_one_square_and_of_no_whole_window(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    codec = DeepJSCC(SMALL).eval()
    z = codec.encode(torch.rand(2, 3, *size), torch.zeros(2), SMALL.bcrs[0])
    assert z.shape == (2, 4 * size[0] // 16 * size[1] // 16)
    assert codec.decode(z, torch.zeros(2), size).shape == (2, 3, *size)
