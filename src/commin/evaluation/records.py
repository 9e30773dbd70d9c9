"""One record for each (picture, system, ρ, SNR, seed): what was asked, measured and found, and files of them."""

import gzip
import json
import lzma
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from commin.atomic import write_text
from commin.errors import UserError

FORMAT = 1
"""Rises when a record's fields change their meaning."""

OPEN: dict[str, Any] = {"": open, ".gz": gzip.open, ".xz": lzma.open}
"""What opens a file of records, by what follows ``.jsonl`` in its name."""

WHOLE_SET = "*"
"""The picture of a record that speaks of a whole set."""


class Record(BaseModel):
    """The result of one transmission of one picture.

    SNRs in dB per complex symbol, ``told_snr_db`` None where the receiver knew the true one; psnr in dB and ssim on
    8-bit pictures; lpips with ``lpips_backbone``, None where the backbone was not to be had; ``loss`` what a receiver
    that searches has minimised: ``mse+lpips``, or ``mse`` where LPIPS was not to be had, "" for others;
    ``refinement`` steps by which the transmitter refined the symbols; seconds of decoding and restoring, shared
    evenly by a batch. In a sweep also whom the picture shows, its split and the split's hash, and the system's class;
    ``lost`` where a block failed or nothing fitted, and the picture knows nothing of the one sent. A record of a
    whole set has `WHOLE_SET` for image, and its psnr is that of the mean squared error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    image: str
    digest: str
    model: str
    system: str
    channel: str
    bcr: str
    k: int
    n: int
    snr_db: float
    design_snr_db: float
    told_snr_db: float | None = None
    measured_snr_db: float
    seed: int
    psnr_db: float
    ssim: float | None = None
    lpips: float | None = None
    lpips_backbone: str | None = None
    seconds: float
    network_calls: int
    versions: dict[str, str]
    weights: dict[str, str]
    identity: str = ""
    split: str = ""
    split_hash: str = ""
    group: str = ""
    lost: bool = False
    note: str = ""
    loss: str = ""
    refinement: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values; infinities and NaN as None, which JSON does not know."""
        content = self.model_dump(mode="json")
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}


def write_json(records: Iterable[Record], path: Path) -> None:
    """All records as one JSON list, whole or not at all."""
    write_text(path, json.dumps([record.as_json() for record in records], indent=1, ensure_ascii=False) + "\n")


def append_lines(records: Iterable[Record], path: Path) -> None:
    """Add records as whole lines and wait until they are on the disk.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """
    lines = "".join(json.dumps(record.as_json(), ensure_ascii=False) + "\n" for record in records)
    try:
        with path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room and run again") from None


def drop_torn_line(path: Path) -> None:
    """Cut off what follows the last line end: all that a kill in the middle of `append_lines` can leave."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 65536)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        file.truncate(end)


def record_files(place: Path) -> list[Path]:
    """The record files of a folder, or the file itself. Raises UserError if there are none."""
    files = [place] if place.is_file() else sorted(p for end in OPEN for p in place.glob(f"records*.jsonl{end}"))
    if not files:
        raise UserError(f"{place}: no records there (records*.jsonl)")
    return files


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, plain or compressed, one at a time, as plain values; a torn last line is left out.

    Raises:
        UserError: a line is no record, or was written by another version of the format; the file cannot be unpacked.
    """
    for number, line in enumerate(_texts(path), 1):
        if not line.endswith("\n"):
            return
        try:
            content: dict[str, Any] = json.loads(line)
            written = content["format"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(f"{path}:{number}: not a record") from None
        if written != FORMAT:
            raise UserError(f"{path}: records of format {written}; this version reads format {FORMAT}")
        yield content


def _texts(path: Path) -> Iterator[str]:
    try:
        with OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="replace") as file:
            yield from file
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch it again") from None
