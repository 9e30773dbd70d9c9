"""Where weights are: a folder in the environment, the cache, torch.hub's cache, the package. Checksums always hold."""

import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

from commin.atomic import replacing
from commin.errors import UserError
from commin.home import home
from commin.zoo.cards import Card, Place, card, sha256

PACKAGED = Path(__file__).parent / "weights"


class MissingFileError(UserError):
    """Weights that are not on this machine."""


def folders() -> list[Path]:
    """Where files are looked for, in this order.

    ``COMMIN_WEIGHTS`` (one or more folders), ``COMMIN_HOME/weights``, torch.hub's checkpoints, the package itself.
    """
    chosen = [Path(part).expanduser() for part in os.environ.get("COMMIN_WEIGHTS", "").split(os.pathsep) if part]
    hub = Path(os.environ.get("TORCH_HOME", "~/.cache/torch")).expanduser() / "hub" / "checkpoints"
    return [*chosen, home() / "weights", hub, PACKAGED]


def find(name: str) -> Path:
    """The file or folder of a card, its checksum right.

    Raises:
        MissingFileError: it is in none of `folders`.
        UserError: no such card, or a file of that name has another checksum.
    """
    wanted = card(name)
    for place in wanted.places:
        for folder in folders():
            path = folder / place.file
            if path.exists():
                check(path, place)
                return path
    raise MissingFileError(f"{name}: {_where(wanted)}")


def _where(wanted: Card) -> str:
    names = " or ".join(place.file for place in wanted.places)
    looked = ", ".join(str(folder) for folder in folders())
    hint = f"; fetch it with: commin zoo pull {wanted.name}" if any(place.url for place in wanted.places) else ""
    return f"{names} is in none of {looked}{hint}"


def check(path: Path, place: Place) -> None:
    """Raise UserError unless the file's SHA-256 is, or starts with, the card's."""
    actual = sha256(path)
    if not actual.startswith(place.sha256):
        raise UserError(
            f"{path}: SHA-256 {actual[:16]}… is not the card's {place.sha256[:16]}…; delete it and fetch it again"
        )


def pull(name: str, progress: Callable[[int, int], None] | None = None) -> Path:
    """The file of a card, downloaded to ``COMMIN_HOME/weights`` if it is nowhere else.

    Args:
        name: the card.
        progress: called with bytes so far and in all (0 if unknown).

    Raises:
        UserError: nothing to download from, no connection, no space, or a wrong checksum.
    """
    try:
        return find(name)
    except MissingFileError:
        place = next((place for place in card(name).places if place.url), None)
        if place is None or place.url is None:
            raise
    target = home() / "weights" / place.file
    try:
        with replacing(target) as temporary:
            with urllib.request.urlopen(place.url, timeout=30) as response, temporary.open("wb") as file:
                total, done = int(response.headers.get("Content-Length") or 0), 0
                while block := response.read(1 << 20):
                    file.write(block)
                    done += len(block)
                    if progress:
                        progress(done, total)
            check(temporary, place)
    except OSError as error:
        raise UserError(f"{name}: cannot be fetched from {place.url} to {target.parent} ({error})") from None
    return target
