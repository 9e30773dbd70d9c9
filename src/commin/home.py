"""Where the product keeps things on this machine: ``COMMIN_HOME``, by default ``commin`` in the user's cache folder."""

import os
from pathlib import Path

from commin.errors import UserError


def home() -> Path:
    """The folder of caches, downloaded weights and training runs."""
    chosen = os.environ.get("COMMIN_HOME")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "commin"


def data_path(option: Path | None) -> Path:
    """The data set: the option, else the environment variable ``COMMIN_DATA``.

    Raises:
        UserError: neither is given.
    """
    chosen = option or (Path(os.environ["COMMIN_DATA"]) if os.environ.get("COMMIN_DATA") else None)
    if chosen is None:
        raise UserError("no data: give --data FOLDER|ZIP or set COMMIN_DATA")
    return chosen.expanduser()
