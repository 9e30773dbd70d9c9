"""Photos: open, check, orient, crop, resize, save. The only 8-bit ↔ [0, 1] conversion of the package."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from commin.atomic import replacing
from commin.errors import UserError

MAX_PIXELS = 100_000_000
"""Larger photos are refused: they are decompression bombs or need another tool."""

CROPS = ("centre", "top", "celeba", "stretch", "none")


@dataclass(frozen=True)
class Box:
    """A crop in pixels of the oriented photo: left, top, right, bottom; edges may lie between pixels or outside."""

    left: float
    top: float
    right: float
    bottom: float

    def __str__(self) -> str:
        return f"x {self.left:g}..{self.right:g}, y {self.top:g}..{self.bottom:g}"


def open_photo(source: Path | bytes, name: str | None = None) -> Image.Image:
    """Decode a photo to an upright 8-bit RGB picture.

    EXIF orientation is applied; transparency is laid on white; 16-bit and float grey is scaled to 8 bits; CMYK,
    palette and grey become RGB.

    Raises:
        UserError: no such file, not an image, cut short, or more than `MAX_PIXELS` pixels.
    """
    label = name or (str(source) if isinstance(source, Path) else "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            photo = Image.open(BytesIO(source) if isinstance(source, bytes) else source)
            if photo.width * photo.height > MAX_PIXELS:
                raise UserError(f"{label}: {photo.width}×{photo.height} pixels; at most {MAX_PIXELS:,} are taken")
            photo.load()
            return _to_rgb(ImageOps.exif_transpose(photo))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{label}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{label}: is a folder, not a photo") from None
    except PermissionError:
        raise UserError(f"{label}: no permission to read it") from None
    except UnidentifiedImageError:
        raise UserError(f"{label}: not an image that can be read") from None
    except Image.DecompressionBombError:
        raise UserError(f"{label}: more than {MAX_PIXELS:,} pixels; refused as a decompression bomb") from None
    except Exception as error:  # Pillow's plugins raise SyntaxError, struct.error, EOFError and more on broken files
        raise UserError(
            f"{label}: damaged or cut short ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None


def _to_rgb(photo: Image.Image) -> Image.Image:
    if photo.mode.startswith(("I;16", "I", "F")):
        grey = np.asarray(photo, dtype=np.float64)
        top = 65535.0 if photo.mode.startswith("I") else max(float(np.nan_to_num(grey).max()), 1.0)
        if photo.mode == "F" and top <= 1.0:
            top = 1.0
        return Image.fromarray(np.nan_to_num(grey / top * 255).clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if photo.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in photo.info:
        rgba = photo.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return photo.convert("RGB")


def crop_box(width: int, height: int, crop: str) -> Box:
    """The part of a width × height photo that a crop keeps.

    ``centre``: the central square. ``top``: the square at the top, or the middle of a wide photo. ``celeba``: the
    148×148 frame at (15, 35) of an aligned 178×218 face, scaled. ``stretch`` and ``none``: everything, squeezed to a
    square or kept in shape. ``L,T,R,B``: these pixels.

    Raises:
        UserError: an unknown crop, or a box of no area or wholly outside the photo.
    """
    side = min(width, height)
    if crop == "centre":
        return Box((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    if crop == "top":
        return Box((width - side) / 2, 0, (width + side) / 2, side)
    if crop == "celeba":
        x, y = width / 178, height / 218
        return Box(15 * x, 35 * y, 163 * x, 183 * y)
    if crop in ("stretch", "none"):
        return Box(0, 0, width, height)
    try:
        left, top, right, bottom = (float(part) for part in crop.split(","))
    except ValueError:
        raise UserError(f"--crop {crop}: choose {', '.join(CROPS)} or four pixel numbers L,T,R,B") from None
    inside = left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0
    if not inside or not all(abs(edge) < 1e6 for edge in (left, top, right, bottom)):
        raise UserError(f"--crop {crop}: not a box inside {width}×{height} pixels")
    return Box(left, top, right, bottom)


def frame(photo: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """Cut a box out and resize it to (width, height), bicubic with antialiasing; outside the photo its edge repeats."""
    outside = (-box.left, -box.top, box.right - photo.width, box.bottom - photo.height)
    if max(outside) > 0:
        left, top, right, bottom = (max(0, int(np.ceil(edge))) for edge in outside)
        pixels = np.pad(np.asarray(photo), ((top, bottom), (left, right), (0, 0)), mode="edge")
        photo, box = Image.fromarray(pixels), Box(box.left + left, box.top + top, box.right + left, box.bottom + top)
    return photo.resize(
        size, Image.Resampling.BICUBIC, box=(box.left, box.top, box.right, box.bottom), reducing_gap=None
    )


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture to float32 (3, H, W) in [0, 1]."""
    return from_uint8(torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def from_uint8(pixels: Tensor) -> Tensor:
    """8-bit values, uint8 of any shape, to float32 in [0, 1]."""
    return pixels.to(torch.float32) / 255


def to_uint8(images: Tensor) -> Tensor:
    """Float images of any shape to the nearest 8-bit values; clamped to [0, 1] first."""
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)


def to_picture(image: Tensor) -> Image.Image:
    """Float (3, H, W) in [0, 1] to an RGB picture."""
    return Image.fromarray(to_uint8(image).permute(1, 2, 0).cpu().numpy())


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def grid(rows: Sequence[Sequence[Tensor]], scale: int = 1) -> Image.Image:
    """Rows of equal float images (3, H, W) as one picture, each pixel repeated ``scale`` times."""
    joined = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    picture = to_picture(joined)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
