"""Image files as source codes: every format there is, at falling quality and size, and the best that fits a budget.

A picture may also be sent smaller and enlarged by the receiver: below 200 bytes that is worth more than any quality.
"""

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from commin.images import to_picture

FULL, HALF = Fraction(1), Fraction(1, 2)
LIGHT = (FULL, Fraction(3, 4), HALF, Fraction(3, 8), Fraction(1, 4))
"""Sizes for the formats with small headers, as a share of the picture's side; the others get full and half."""

QUALITIES = {
    "webp": (0, 5, 10, 20, 30, 45, 60, 75, 85, 92, 97, 100),
    "jpeg": (1, 5, 10, 15, 20, 30, 45, 60, 75, 85, 92, 97),
    "jpeg2000": (16, 18, 20, 22, 24, 26, 28, 30, 33, 36, 40),
    "avif": (0, 15, 30, 50, 75),
    "heic": (0, 15, 30, 50, 75),
    "bpg": (51, 46, 42, 38, 34, 30, 25, 20),
}
"""Per format in its own scale: quality, for JPEG 2000 the PSNR aimed at in dB, for BPG the quantiser (0 is best)."""


@dataclass(frozen=True)
class Option:
    """One way to write a picture: format, its quality, and the side as a share of the picture's."""

    format: str
    quality: int
    share: Fraction

    def __str__(self) -> str:
        return f"{self.format} q{self.quality}" + ("" if self.share == 1 else f" {self.share} side")


@dataclass(frozen=True)
class File:
    """A picture written one way: the file, what is seen of it, uint8 (3, H, W), and the squared error it makes."""

    option: Option
    content: bytes
    pixels: Tensor
    mse: float


@cache
def formats() -> tuple[str, ...]:
    """The formats that this machine can write and read."""
    there = {
        "webp": features.check("webp"), "jpeg": features.check("jpg"), "jpeg2000": features.check("jpg_2000"),
        "avif": features.check("avif"), "heic": importlib.util.find_spec("pillow_heif") is not None,
        "bpg": bool(shutil.which("bpgenc") and shutil.which("bpgdec")),
    }  # fmt: skip
    if there["heic"]:
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(name for name, found in there.items() if found)


@cache
def options() -> tuple[Option, ...]:
    """Every way to write a picture here."""
    return tuple(
        Option(name, quality, share)
        for name in formats()
        for share in (LIGHT if name in ("webp", "jpeg") else (FULL, HALF))
        for quality in QUALITIES[name]
    )


def write(picture: Image.Image, option: Option) -> bytes:
    """The file of an RGB picture."""
    size = (max(1, round(picture.width * option.share)), max(1, round(picture.height * option.share)))
    small = picture if option.share == 1 else picture.resize(size, Image.Resampling.LANCZOS)
    buffer, quality = BytesIO(), option.quality
    match option.format:
        case "webp":
            small.save(buffer, "WEBP", quality=quality, method=6)
        case "jpeg":
            small.save(buffer, "JPEG", quality=quality, optimize=True)
        case "jpeg2000":
            small.save(buffer, "JPEG2000", quality_mode="dB", quality_layers=[quality], irreversible=True, no_jp2=True)
        case "avif":
            small.save(buffer, "AVIF", quality=quality, speed=6, max_threads=1)
        case "heic":
            small.save(buffer, "HEIF", quality=quality)
        case _:
            return _bpg(small, quality)
    return buffer.getvalue()


def read(content: bytes, option: Option, size: tuple[int, int]) -> Image.Image:
    """What is seen of a file, enlarged to (width, height), bicubic; bytes after its end do no harm."""
    if option.format == "bpg":
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "a.bpg", Path(folder) / "a.png"
            source.write_bytes(content)
            subprocess.run(["bpgdec", "-o", target, source], check=True, capture_output=True)
            content = target.read_bytes()
    picture = Image.open(BytesIO(content)).convert("RGB")
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)


def _bpg(picture: Image.Image, quality: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.png", Path(folder) / "a.bpg"
        picture.save(source)
        subprocess.run(["bpgenc", "-m", "9", "-q", str(quality), "-o", target, source], check=True, capture_output=True)
        return target.read_bytes()


def ladder(image: Tensor) -> tuple[File, ...]:
    """A picture, float (3, H, W) in [0, 1], written every way, least error first. The last 64 pictures are kept."""
    picture = to_picture(image)
    return _ladder(picture.tobytes(), picture.size)


@lru_cache(maxsize=64)
def _ladder(pixels: bytes, size: tuple[int, int]) -> tuple[File, ...]:
    picture = Image.frombytes("RGB", size, pixels)
    original = np.asarray(picture, dtype=np.float64)
    found = []
    for option in options():
        content = write(picture, option)
        seen = np.array(read(content, option, size))
        mse = float(np.square(seen - original).mean()) / 255**2
        found.append(File(option, content, torch.from_numpy(seen).permute(2, 0, 1), mse))
    return tuple(sorted(found, key=lambda file: (file.mse, len(file.content))))


@dataclass(frozen=True)
class Header:
    """Bytes that are the same, at the same place from the start, in all files of one option.

    Attributes:
        places: where, ascending.
        values: which.
    """

    places: tuple[int, ...]
    values: bytes

    @classmethod
    def of(cls, contents: Sequence[bytes]) -> "Header":
        """What these files, two or more, have in common."""
        common = min(map(len, contents))
        rows = np.stack([np.frombuffer(content[:common], np.uint8) for content in contents])
        places = np.flatnonzero((rows == rows[0]).all(0))
        return cls(tuple(places.tolist()), rows[0][places].tobytes())

    def strip(self, content: bytes) -> bytes | None:
        """What is left to be sent of a file; None if its header is another one."""
        places = list(self.places)
        row = np.frombuffer(content, np.uint8)
        if places and (places[-1] >= len(row) or row[places].tobytes() != self.values):
            return None
        return np.delete(row, places).tobytes()

    def restore(self, rest: bytes) -> bytes:
        """The file again."""
        row = np.zeros(len(self.places) + len(rest), np.uint8)
        sent = np.ones(len(row), bool)
        sent[list(self.places)] = False
        row[list(self.places)], row[sent] = np.frombuffer(self.values, np.uint8), np.frombuffer(rest, np.uint8)
        return row.tobytes()


def best(files: Sequence[File], budget: int, headers: dict[Option, Header] | None = None) -> tuple[File, bytes] | None:
    """The file of least error that fits ``budget`` bytes, and what is sent for it; None if none does.

    Args:
        files: a `ladder`.
        budget: in bytes.
        headers: that the receiver knows; one byte then says which option it is.
    """
    for file in files:
        if headers is None:
            sent: bytes | None = file.content
        else:
            sent = _stripped(file, headers.get(file.option), budget)
        if sent is not None and len(sent) <= budget:
            return file, sent
    return None


def _stripped(file: File, header: Header | None, budget: int) -> bytes | None:
    if header is None or len(file.content) - len(header.places) >= budget:
        return None
    rest = header.strip(file.content)
    return None if rest is None else bytes([options().index(file.option)]) + rest


def received(sent: bytes, size: tuple[int, int], headers: dict[Option, Header]) -> Image.Image:
    """What the receiver that knows the headers sees of ``sent``, with whatever follows it, enlarged to a size."""
    option = options()[sent[0]]
    return read(headers[option].restore(sent[1:]), option, size)
