"""Sets of images in a folder, a zip or tars: names, splits from a manifest, the split's hash, pixels as one tensor.

A manifest is ``manifest.csv`` beside the images: columns file and split (train, valid, test), optionally identity.
Without one every image belongs to every split.
"""

import csv
import hashlib
import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from commin.atomic import replacing
from commin.data.shards import Shards
from commin.errors import UserError
from commin.images import crop_box, frame, open_photo

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class Entry:
    """One image of a set: its name there, its split ("" if none), and whom it shows ("" if unknown)."""

    file: str
    split: str = ""
    identity: str = ""


class ImageSet:
    """Images of a folder, zip, tar or folder of tars (`commin.data.shards`), in the manifest's order, else by name.

    Raises:
        UserError: no such place, no images in it, or a manifest without the columns file and split.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | Shards | None = None
        if path.is_dir():
            names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
            tars = [name for name in names if name.endswith(".tar") and "/" not in name]
            if tars:
                self._archive = Shards([path / name for name in tars])
                names += self._archive.names
        elif path.is_file() and path.suffix == ".tar":
            self._archive = Shards([path])
            names = self._archive.names
        elif path.is_file() and zipfile.is_zipfile(path):
            self._archive = zipfile.ZipFile(path)
            names = sorted(info.filename for info in self._archive.infolist() if not info.is_dir())
        else:
            raise UserError(f"{path}: no folder, zip or tar of images there")
        manifest = next((name for name in names if Path(name).name == "manifest.csv"), None)
        images = [name for name in names if name.lower().endswith(SUFFIXES)]
        self.entries = [Entry(name) for name in images] if manifest is None else self._parse(manifest, images)
        if not self.entries:
            raise UserError(f"{path}: holds no images ({', '.join(SUFFIXES)})")

    def _parse(self, manifest: str, images: list[str]) -> list[Entry]:
        rows = list(csv.DictReader(io.StringIO(self.read(manifest).decode())))
        if not rows or not {"file", "split"} <= rows[0].keys():
            raise UserError(f"{self.path}: {manifest} needs the columns file and split")
        known = {name: name for name in images} | {Path(name).name: name for name in images}
        missing = [row["file"] for row in rows if row["file"] not in known]
        if missing:
            raise UserError(
                f"{self.path}: {manifest} names {len(missing)} images that are not there, such as {missing[0]}"
            )
        return [Entry(known[row["file"]], row["split"], row.get("identity") or "") for row in rows]

    def read(self, name: str) -> bytes:
        """The bytes of one file of the set."""
        if self._archive is None or (isinstance(self._archive, Shards) and (self.path / name).is_file()):
            return (self.path / name).read_bytes()
        return self._archive.read(name)

    def split(self, name: str | None, limit: int | None = None) -> list[Entry]:
        """The entries of a split, or all of them for None or a set without a manifest; at most ``limit``.

        Raises:
            UserError: the manifest has no such split.
        """
        splits = {entry.split for entry in self.entries}
        chosen = [e for e in self.entries if name is None or splits == {""} or e.split == name]
        if not chosen:
            raise UserError(f"{self.path}: no split {name!r}; it has {', '.join(sorted(splits))}")
        return chosen[:limit]


def split_hash(entries: list[Entry]) -> str:
    """SHA-256 (hex) over the names of a split, one a line, in order: which pictures a result was made from."""
    return hashlib.sha256("".join(f"{entry.file}\n" for entry in entries).encode()).hexdigest()


def decode(images: ImageSet, entry: Entry, size: int, crop: str) -> np.ndarray:
    """One picture, cropped and resized: uint8 (size, size, 3).

    Raises:
        UserError: it cannot be decoded.
    """
    photo = open_photo(images.read(entry.file), f"{images.path.name}:{entry.file}")
    return np.asarray(frame(photo, crop_box(*photo.size, crop), (size, size)))


def load_pixels(
    images: ImageSet,
    entries: list[Entry],
    size: int,
    crop: str,
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Decode, crop and resize entries to one uint8 tensor (N, 3, size, size).

    Args:
        images: the set.
        entries: which of its images, in this order.
        size: height and width in pixels.
        crop: a name of `commin.images.crop_box`.
        cache: a folder that keeps the result, memory-mapped, for the next time.
        progress: called with the number of images done so far.

    Raises:
        UserError: an image cannot be decoded.
    """
    stat = images.path.stat()
    key = f"{images.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{split_hash(entries)}|{size}|{crop}|v1"
    stored = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy" if cache else None
    if stored and stored.is_file():
        return torch.from_numpy(np.load(stored, mmap_mode="c"))  # shared by all processes of the machine

    pixels = np.empty((len(entries), size, size, 3), np.uint8)
    with ThreadPoolExecutor() as pool:
        for done, picture in enumerate(pool.map(lambda entry: decode(images, entry, size, crop), entries)):
            pixels[done] = picture
            if progress:
                progress(done + 1)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    if stored:
        with replacing(stored) as temporary, temporary.open("wb") as file:
            np.save(file, planes)
    return torch.from_numpy(planes)
