"""How commands read their options."""

import math
from pathlib import Path

from commin.errors import UserError


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
