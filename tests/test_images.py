"""Any photo that Pillow opens becomes an upright 8-bit RGB picture, and nothing else does."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commin.errors import UserError
from commin.images import (
    Box,
    crop_box,
    frame,
    from_uint8,
    grid,
    open_photo,
    save_picture,
    to_picture,
    to_tensor,
    to_uint8,
)
from commin.randomness import image_generators, pixel_digest


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """Red rises to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, exif: Image.Exif | None = None) -> bytes:
    file = io.BytesIO()
    if exif is None:
        picture.save(file, kind)
    else:
        picture.save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF"])
def test_formats(kind: str) -> None:
    photo = open_photo(encoded(gradient(), kind))
    assert photo.mode == "RGB"
    assert photo.size == (40, 30)
    error = np.abs(np.asarray(photo, float) - np.asarray(gradient(), float)).mean()
    assert error < 12


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_modes(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(gradient().convert("L")).astype(np.uint16) * 257)
    else:
        picture = gradient().convert(mode)
    photo = open_photo(encoded(picture, "TIFF" if mode in ("CMYK", "I;16") else "PNG"))
    assert photo.mode == "RGB"
    grey = np.asarray(gradient().convert("L"), float)
    got = np.asarray(photo.convert("L"), float)
    assert abs(got.mean() - grey.mean()) < 8
    assert mode == "1" or np.abs(got - grey).mean() < 25


def test_transparency_is_white() -> None:
    assert open_photo(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    photo = open_photo(encoded(gradient(), "JPEG", exif))
    assert photo.size == (30, 40)


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    whole = encoded(gradient(400, 300), "JPEG")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "short.png").write_bytes(encoded(gradient(400, 300), "PNG")[:500])
    for name in ("text.jpg", "empty.png", "short.jpg", "short.png", "absent.png", "."):
        with pytest.raises(UserError) as caught:
            open_photo(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_bomb_is_refused() -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(UserError, match="pixels"):
        open_photo(bomb, "bomb.png")


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        ("centre", Box(5, 0, 35, 30)),
        ("top", Box(5, 0, 35, 30)),
        ("none", Box(0, 0, 40, 30)),
        ("1,2,11,12", Box(1, 2, 11, 12)),
    ],
)
def test_crops(crop: str, expected: Box) -> None:
    assert crop_box(40, 30, crop) == expected


def test_celeba_crop_is_the_usual_one() -> None:
    assert crop_box(178, 218, "celeba") == Box(15, 35, 163, 183)
    assert crop_box(89, 109, "celeba") == Box(7.5, 17.5, 81.5, 91.5)


@pytest.mark.parametrize("crop", ["middle", "1,2,3", "5,5,5,9", "90,90,99,99", "a,b,c,d", "nan,0,1,1", "0,0,inf,1"])
def test_bad_crops_are_refused(crop: str) -> None:
    with pytest.raises(UserError, match="--crop"):
        crop_box(40, 30, crop)


def test_outside_the_photo_its_edge_repeats() -> None:
    picture = frame(Image.new("RGB", (10, 10), (9, 8, 7)), Box(-5, -5, 15, 15), (20, 20))
    assert np.asarray(picture).reshape(-1, 3).min(0).tolist() == [9, 8, 7]
    assert np.asarray(picture).reshape(-1, 3).max(0).tolist() == [9, 8, 7]


def test_resize_has_antialiasing() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)).repeat(3).reshape(64, 64, 3))
    small = np.asarray(frame(stripes, Box(0, 0, 64, 64), (8, 8)), float)
    assert np.abs(small - 127.5).max() < 8


def test_eight_bits_round_trip() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(values)), values)
    assert torch.equal(to_uint8(torch.tensor([-1.0, 2.0])), torch.tensor([0, 255], dtype=torch.uint8))
    assert np.array_equal(np.asarray(to_picture(to_tensor(gradient()))), np.asarray(gradient()))


def test_saving_leaves_no_temporary_file(tmp_path: Path) -> None:
    save_picture(gradient(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert grid([[to_tensor(gradient())] * 2] * 3, scale=2).size == (160, 180)


def test_digest_is_of_the_pixels(images: torch.Tensor) -> None:
    assert pixel_digest(images[0]) == pixel_digest(images[0] + 1e-4 * (images[0] < 0.5) * 0)
    assert pixel_digest(images[0]) != pixel_digest(images[1])
    assert pixel_digest(images[0]) != pixel_digest(images[0].reshape(3, 32, 128))
    draws = [torch.rand(3, generator=g) for g in image_generators(images, 0, "a")]
    again = [torch.rand(3, generator=g) for g in image_generators(images[2:3], 0, "a")]
    assert torch.equal(draws[2], again[0])
    assert not torch.equal(draws[0], draws[1])
    other = torch.rand(3, generator=image_generators(images, 0, "b")[0])
    assert not torch.equal(draws[0], other)
