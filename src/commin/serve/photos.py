"""Uploaded photos: checked, decoded one at a time, and kept in bounded memory until they are not used any more."""

import secrets
import threading
import warnings
from collections import OrderedDict
from io import BytesIO

from PIL import Image

from commin.errors import UserError
from commin.images import open_photo

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")

MAX_BYTES = 20_000_000
"""Larger files are refused."""

MAX_PIXELS = 40_000_000
"""Larger photos are refused before they are decoded; one decoded photo and its copies take about 16 bytes a pixel."""

KEPT_SIDE = 1280
"""Photos are reduced to this many pixels along the longer side: faces in them are still larger than what is sent."""


def open_upload(content: bytes) -> Image.Image:
    """An upright RGB photo of at most `KEPT_SIDE` pixels a side, from the bytes of a file.

    Raises:
        UserError: empty, too large, of another type, a decompression bomb, damaged.
    """
    if not content:
        raise UserError("The file is empty.")
    if len(content) > MAX_BYTES:
        raise UserError(too_large())
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # Pillow may be built without one
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = Image.open(BytesIO(content), formats=formats).size
    except Image.DecompressionBombError:
        raise UserError(_too_many("more than 100")) from None
    except Exception:  # whatever a plugin raises on a broken header
        raise UserError("This is not a photo that can be read; send a JPEG, PNG, WebP, AVIF, GIF or TIFF.") from None
    if width * height > MAX_PIXELS:
        raise UserError(_too_many(f"{width * height / 1e6:.0f}"))
    if min(width, height) < 16:
        raise UserError(f"The photo has only {width}×{height} pixels; at least 16×16 are needed.")
    photo = open_photo(content, "The photo")
    photo.thumbnail((KEPT_SIDE, KEPT_SIDE), Image.Resampling.LANCZOS)
    return photo


def too_large() -> str:
    """The message on a file of too many bytes."""
    return f"The file is larger than {MAX_BYTES // 10**6} MB; send a smaller one."


def _too_many(millions: str) -> str:
    return f"The photo has {millions} million pixels; at most {MAX_PIXELS // 10**6} million are taken."


class Shelf:
    """Photos by a name nobody can guess; the ones not used for longest go when ``limit`` bytes are full."""

    def __init__(self, limit: int = 200_000_000) -> None:
        self.limit = limit
        self._photos: OrderedDict[str, Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, photo: Image.Image) -> str:
        """Keep a photo; returns its name."""
        name = secrets.token_hex(16)
        with self._lock:
            self._photos[name] = photo
            while self.size > self.limit and len(self._photos) > 1:
                self._photos.popitem(last=False)
        return name

    def get(self, name: str) -> Image.Image | None:
        """The photo of that name, or None if it is no longer here."""
        with self._lock:
            if name in self._photos:
                self._photos.move_to_end(name)
            return self._photos.get(name)

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(3 * photo.width * photo.height for photo in self._photos.values())
