"""How commands read their options."""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from commin.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from commin.images import Box


def numbers(text: str, name: str) -> list[float]:
    """Finite numbers of dB, separated by commas.

    Raises:
        UserError: one is not a finite number.
    """
    values = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise UserError(f"{name} {part}: not a number") from None
        if not math.isfinite(value) or abs(value) > 200:
            raise UserError(f"{name} {part}: must be a finite number of dB between -200 and 200")
        values.append(value)
    return values


def shares(text: str, name: str, most: float) -> list[float]:
    """Numbers in 0..most, separated by commas.

    Raises:
        UserError: one is no such number.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{name} {text}: not numbers separated by commas") from None
    if not all(0 <= value <= most for value in values):
        raise UserError(f"{name} {text}: must be in 0..{most:g}")
    return values


def output_folder(path: Path) -> Path:
    """Make the folder if need be and see that it can be written.

    Raises:
        UserError: it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".commin-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"-o {path}: cannot be written ({error.strerror})") from None
    return path


def warn_of_loss(receivers: Iterable[str]) -> None:
    """Say so where a receiver will search by the squared error alone for want of LPIPS's weights."""
    if "inverse-jscc" not in receivers:
        return
    from commin.metrics.lpips import try_lpips

    if try_lpips() is None:
        line = "warning: inverse-jscc searches by the squared error alone, as LPIPS's weights are not on this machine"
        print(line, file=sys.stderr)


def photo_box(photo: "Image.Image", crop: str) -> "Box":
    """The part of a photo that ``--crop`` keeps: ``face`` looks for one, the rest is `commin.images.crop_box`.

    Raises:
        UserError: no such crop, or the face finder is not installed.
    """
    from commin.images import crop_box

    if crop != "face":
        return crop_box(*photo.size, crop)
    from commin.serve.faces import face_or_centre

    box, note = face_or_centre(photo)
    print(f"--crop face: {note}", file=sys.stderr)
    return box
