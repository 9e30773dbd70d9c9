"""Pictures in tar files, as WebDataset makes them: one tar, or a folder of tars, read at any place without unpacking.

A member's name is that of its tar and its own, ``train-000000.tar/00017.jpg``. The tars must be uncompressed: then each
member is a run of bytes, and any order over all shards costs no more than one after the other on a disk that seeks.
"""

import os
import tarfile
from pathlib import Path

from commin.errors import UserError


class Shards:
    """The members of one or more tar files.

    Raises:
        UserError: a file is no uncompressed tar, or cut short.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._places: dict[str, tuple[int, int, int]] = {}
        self._files: list[int] = []
        for path in paths:
            try:
                with tarfile.open(path, "r:") as archive:
                    members = [member for member in archive if member.isfile()]
            except (tarfile.TarError, OSError, EOFError) as error:
                raise UserError(f"{path}: no uncompressed tar file, or cut short ({error})") from None
            length = path.stat().st_size
            for member in members:
                if member.offset_data + member.size > length:
                    raise UserError(f"{path}: cut short in {member.name}")
                self._places[f"{path.name}/{member.name}"] = (len(self._files), member.offset_data, member.size)
            self._files.append(os.open(path, os.O_RDONLY))

    @property
    def names(self) -> list[str]:
        """Of all members, in the order of the tars."""
        return list(self._places)

    def read(self, name: str) -> bytes:
        """The bytes of one member; threads may read at the same time."""
        file, offset, size = self._places[name]
        return os.pread(self._files[file], size, offset)

    def __del__(self) -> None:
        for file in getattr(self, "_files", []):
            os.close(file)
