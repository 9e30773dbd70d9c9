"""Recordings: SigMF files of cf32_le or ci16_le samples, and raw ``.cf32`` and ``.ci16``, read and written in blocks.

A SigMF recording is two files: ``name.sigmf-data`` with the samples and ``name.sigmf-meta``, JSON that says what they
are. What both ends of a CommIN link must agree on stands in its global object under ``commin:``. Source: SigMF 1.2.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from commin import __version__
from commin.errors import UserError
from commin.iq.frame import Modem
from commin.iq.pulse import Complex, Pulse

BYTES = {"cf32_le": 8, "ci16_le": 4}
RAW = {".cf32": "cf32_le", ".cfile": "cf32_le", ".ci16": "ci16_le"}
FULL_SCALE = 32767
CLIPPED = 1e-3
"""Share of cf32 values at ±1 from which on they are clipped; those of ci16 at full scale are, however few."""

VERSION = "1.2.0"


@dataclass
class Recording:
    """A recording on disk, to read.

    Attributes:
        path: its meta file, or the data file of a raw one.
        data: its data file.
        datatype: cf32_le or ci16_le.
        sample_rate: samples per second.
        frequency: centre frequency in Hz, or None.
        annotations: SigMF annotations as they are.
        modem: pulse, profile and waveform, if it says so.
        samples: how many there are.
        complaints: what is odd about it, one line each; more may come while it is read.
    """

    path: Path
    data: Path
    datatype: str
    sample_rate: float
    frequency: float | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)
    modem: Modem | None = None
    samples: int = 0
    complaints: list[str] = field(default_factory=list)

    def blocks(self, size: int = 1 << 18, start: int = 0, stop: int | None = None) -> Iterator[Complex]:
        """Samples start … stop − 1 as complex64 blocks of at most ``size``; ci16 is scaled to ±1."""
        start = min(start, self.samples)
        wanted = min(self.samples, self.samples if stop is None else stop) - start
        left, clipped = wanted, 0
        try:
            with self.data.open("rb") as file:
                file.seek(start * BYTES[self.datatype])
                while left > 0:
                    block = self._decode(file.read(min(size, left) * BYTES[self.datatype]))
                    if not len(block):
                        break
                    left -= len(block)
                    sizes = np.abs(block.view(np.float32))
                    full = (sizes >= FULL_SCALE / (FULL_SCALE + 1)) & (sizes <= (FULL_SCALE + 1) / FULL_SCALE)
                    clipped += int(np.count_nonzero(full))
                    yield block
        except OSError as error:
            raise UserError(f"{self.data}: cannot be read ({error.strerror})") from None
        if left > 0:
            self.complaints.append(f"{self.data}: was cut short by {left} samples while it was read")
        if clipped > (0 if self.datatype == "ci16_le" else CLIPPED * 2 * wanted):
            self.complaints.append(f"{self.data}: {clipped} values are at full scale: clipped, or nearly so")

    def _decode(self, content: bytes) -> Complex:
        content = content[: len(content) - len(content) % BYTES[self.datatype]]
        if self.datatype == "cf32_le":
            return np.frombuffer(content, "<c8").astype(np.complex64, copy=False)
        return (np.frombuffer(content, "<i2").astype(np.float32) / (FULL_SCALE + 1)).view(np.complex64)


def open_recording(path: Path, sample_rate: float | None = None) -> Recording:
    """Open ``name.sigmf-meta``, ``name.sigmf-data`` or ``name``; or raw ``.cf32``, ``.ci16`` with their sample rate.

    Raises:
        UserError: missing, empty or of a kind that is not taken; the line says which.
    """
    if sample_rate is not None and not _positive(sample_rate):
        raise UserError(f"--sample-rate {sample_rate:g}: must be above 0, at most 1e12")
    if path.suffix in RAW:
        if sample_rate is None:
            raise UserError(f"{path}: a raw file says no sample rate: give --sample-rate")
        return _counted(Recording(path, path, RAW[path.suffix], sample_rate))
    stem = path.with_suffix("") if path.suffix in (".sigmf-meta", ".sigmf-data") else path
    meta = stem.with_name(stem.name + ".sigmf-meta")
    if path.suffix == ".sigmf":
        raise UserError(f"{path}: an archive; unpack it first (tar -xf)")
    try:
        content = json.loads(meta.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{meta}: no such file; recordings are .sigmf-meta with .sigmf-data, .cf32 or .ci16") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise UserError(f"{meta}: is not JSON") from None
    except OSError as error:
        raise UserError(f"{meta}: cannot be read ({error.strerror})") from None
    return _counted(_parse(content, meta, stem, sample_rate))


def _parse(content: Any, meta: Path, stem: Path, sample_rate: float | None) -> Recording:
    about = content.get("global") if isinstance(content, dict) else None
    if not isinstance(about, dict):
        raise UserError(f"{meta}: is not SigMF: it has no global object")
    datatype = about.get("core:datatype")
    if not isinstance(datatype, str) or datatype not in BYTES:
        raise UserError(f"{meta}: datatype {datatype!r} is not taken; convert it to {' or '.join(BYTES)}")
    if about.get("core:num_channels", 1) != 1:
        raise UserError(f"{meta}: holds {about['core:num_channels']} channels; one is taken")
    rate = sample_rate or about.get("core:sample_rate")
    if rate is None or not _positive(rate):
        raise UserError(f"{meta}: says no sample rate: give --sample-rate")
    captures, annotations = (content.get(key) or [] for key in ("captures", "annotations"))
    for name, entries in (("captures", captures), ("annotations", annotations)):
        if not isinstance(entries, list) or not all(_starts(entry) for entry in entries):
            raise UserError(f"{meta}: its {name} are not a list of objects with core:sample_start")
    if any(capture.get("core:header_bytes") for capture in captures):
        raise UserError(f"{meta}: its data file has headers inside; not taken")
    named = about.get("core:dataset")
    if named is not None and (not isinstance(named, str) or Path(named).name != named):
        raise UserError(f"{meta}: core:dataset {named!r} is not the name of a file beside it")
    data = meta.with_name(named) if named else stem.with_name(stem.name + ".sigmf-data")
    frequency = captures[0].get("core:frequency") if captures else None
    frequency = float(frequency) if frequency is not None and _positive(frequency) else None
    return Recording(meta, data, datatype, float(rate), frequency, annotations, _modem(about, meta))


def _counted(recording: Recording) -> Recording:
    """With its samples counted. Raises UserError if there are none."""
    width = BYTES[recording.datatype]
    try:
        size = recording.data.stat().st_size
        if recording.data.is_dir():
            raise UserError(f"{recording.data}: is a folder, not samples")
    except FileNotFoundError:
        of = "" if recording.path == recording.data else f", the data file of {recording.path.name}"
        raise UserError(f"{recording.data}: no such file{of}") from None
    except OSError as error:
        raise UserError(f"{recording.data}: cannot be read ({error.strerror})") from None
    recording.samples = size // width
    if not recording.samples:
        raise UserError(f"{recording.data}: holds no samples")
    if size % width:
        recording.complaints.append(f"{recording.data}: ends within a sample: cut short")
    ends = [note["core:sample_start"] + note.get("core:sample_count", 0) for note in recording.annotations]
    if max(ends, default=0) > recording.samples:
        line = f"has {recording.samples} samples, its meta file tells of {max(ends)}: cut short"
        recording.complaints.append(f"{recording.data}: {line}")
    return recording


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1e12


def _starts(entry: Any) -> bool:
    """Whether it is an object whose sample numbers are whole and not negative."""
    if not isinstance(entry, dict):
        return False
    numbers = (entry.get("core:sample_start"), entry.get("core:sample_count", 0))
    return all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)


def _modem(about: dict[str, Any], meta: Path) -> Modem | None:
    if "commin:samples_per_symbol" not in about:
        return None
    default = Modem()
    sps, span = about["commin:samples_per_symbol"], about.get("commin:span", default.pulse.span)
    rolloff = about.get("commin:rolloff", default.pulse.rolloff)
    if type(sps) is not int or type(span) is not int or not _positive(rolloff):
        raise UserError(f"{meta}: its commin: fields are not numbers of a pulse")
    names = (str(about.get(f"commin:{key}", getattr(default, key))) for key in ("profile", "waveform"))
    try:
        return Modem(Pulse(sps, float(rolloff), span), *names)
    except UserError as error:
        raise UserError(f"{meta}: {error}") from None


class RecordingWriter:
    """Writes a recording under temporary names; on leaving its context it appears whole, on an error not at all."""

    def __init__(
        self,
        path: Path,
        sample_rate: float,
        modem: Modem,
        datatype: str = "cf32_le",
        frequency: float | None = None,
        full_scale: float = 1.0,
    ) -> None:
        """Prepare to write.

        Args:
            path: ``name.sigmf-meta``, ``name.sigmf-data`` or ``name``; ``name.cf32``, ``name.ci16`` for samples alone.
            sample_rate: samples per second.
            modem: goes into the meta file.
            datatype: cf32_le or ci16_le; a raw file's suffix decides for itself.
            frequency: centre frequency in Hz.
            full_scale: the magnitude that becomes 32767 in ci16; larger values are clipped and counted.
        """
        if datatype not in BYTES:
            raise UserError(f"datatype {datatype}: choose {' or '.join(BYTES)}")
        if not _positive(sample_rate):
            raise UserError(f"sample rate {sample_rate:g}: must be above 0, at most 1e12")
        self.raw = path.suffix in RAW
        stem = path.with_suffix("") if path.suffix in (".sigmf-meta", ".sigmf-data") else path
        self.data = path if self.raw else stem.with_name(stem.name + ".sigmf-data")
        self.meta = None if self.raw else stem.with_name(stem.name + ".sigmf-meta")
        self.datatype = RAW[path.suffix] if self.raw else datatype
        self.sample_rate, self.modem, self.frequency, self.full_scale = sample_rate, modem, frequency, full_scale
        self.annotations: list[dict[str, Any]] = []
        self.samples = self.clipped = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.data.parent.mkdir(parents=True, exist_ok=True)
            self._file = _temporary(self.data).open("wb")
        except OSError as error:
            raise UserError(f"{self.data}: cannot be written ({error.strerror})") from None
        return self

    def write(self, samples: Complex) -> None:
        """Append complex64 samples."""
        assert self._file is not None
        values: np.ndarray[Any, Any] = np.ascontiguousarray(samples, "<c8")
        if self.datatype == "ci16_le":
            scaled = values.view(np.float32) * (FULL_SCALE / self.full_scale)
            self.clipped += int(np.count_nonzero(np.abs(scaled) > FULL_SCALE))
            values = np.rint(scaled).clip(-FULL_SCALE, FULL_SCALE).astype("<i2")
        try:
            self._file.write(values.tobytes())
        except OSError as error:
            raise UserError(f"{self.data}: cannot be written ({error.strerror})") from None
        self.samples += len(samples)

    def annotate(self, start: int, count: int, label: str, facts: dict[str, Any]) -> None:
        """Mark a frame: its first sample, its samples, a short label, and facts that go under ``commin:``."""
        note = {"core:sample_start": start, "core:sample_count": count, "core:label": label}
        self.annotations.append(note | {f"commin:{key}": value for key, value in facts.items()})

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()
        temporary = _temporary(self.data)
        if kind is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return
        if self.meta is not None:
            _temporary(self.meta).write_text(json.dumps(self._metadata(), indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.data)
        if self.meta is not None:
            _temporary(self.meta).replace(self.meta)

    def _metadata(self) -> dict[str, Any]:
        pulse = self.modem.pulse
        about = {
            "core:datatype": self.datatype,
            "core:sample_rate": self.sample_rate,
            "core:version": VERSION,
            "core:recorder": f"commin {__version__}",
            "core:extensions": [{"name": "commin", "version": __version__, "optional": True}],
            "commin:samples_per_symbol": pulse.sps,
            "commin:rolloff": pulse.rolloff,
            "commin:span": pulse.span,
            "commin:profile": self.modem.profile,
            "commin:waveform": self.modem.waveform,
        }
        capture = {"core:sample_start": 0} | ({} if self.frequency is None else {"core:frequency": self.frequency})
        notes = sorted(self.annotations, key=lambda note: int(note["core:sample_start"]))
        return {"global": about, "captures": [capture], "annotations": notes}


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
