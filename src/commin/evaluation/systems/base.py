"""What a sweep compares: receivers, schemes with a transmitter of their own, and lines that have no pictures."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from commin.atomic import replacing
from commin.channels.base import Channel, Received
from commin.channels.equalizer import Equalizer
from commin.data.imageset import Entry, ImageSet, load_pixels, split_hash
from commin.errors import UserError
from commin.link import Link
from commin.receivers.base import Receiver
from commin.units import parse_bcr


@dataclass(frozen=True)
class Place:
    """Where a system was measured: a `Point` without its seed."""

    bcr: str
    channel: str
    snr_db: float
    design_snr_db: float
    told_snr_db: float | None

    def __str__(self) -> str:
        off = "" if self.design_snr_db == self.snr_db else f", design {self.design_snr_db:g} dB"
        told = "" if self.told_snr_db is None else f", told {self.told_snr_db:g} dB"
        return f"ρ = {self.bcr}, {self.channel}, {self.snr_db:g} dB{off}{told}"

    @property
    def order(self) -> tuple[object, ...]:
        """By which places are sorted."""
        told = -math.inf if self.told_snr_db is None else self.told_snr_db
        return (parse_bcr(self.bcr), self.channel, self.snr_db, self.design_snr_db, told)

    @property
    def matched(self) -> bool:
        """Whether encoder and receiver knew the true SNR."""
        return self.made_for(None)

    @property
    def both_told(self) -> bool:
        """Whether encoder and receiver were told the same SNR, whatever the true one."""
        return self.design_snr_db == self.told_snr_db

    def made_for(self, design_snr_db: float | None) -> bool:
        """Whether the encoder was told this SNR, the true one for None, and the receiver the true one."""
        wanted = self.snr_db if design_snr_db is None else design_snr_db
        return self.design_snr_db == wanted and self.told_snr_db is None


@dataclass(frozen=True)
class Point:
    """Where pictures are sent: ρ, channel, SNRs in dB (true, the encoder's, the receiver's; None for true), seed."""

    bcr: str
    channel: str
    snr_db: float
    design_snr_db: float
    told_snr_db: float | None
    seed: int

    @property
    def place(self) -> Place:
        """The point without its seed."""
        return Place(self.bcr, self.channel, self.snr_db, self.design_snr_db, self.told_snr_db)


def place_of(content: Mapping[str, Any]) -> Place:
    """The place that a record, or anything else with these fields, speaks of."""
    names = ("bcr", "channel", "snr_db", "design_snr_db", "told_snr_db")
    return Place(*(content[name] for name in names))


@dataclass(frozen=True)
class Sent:
    """What a scheme made of pictures.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        measured_snr_db: in dB, (B,).
        lost: bool (B,), where a block failed or nothing fitted, so that a picture stands there that knows nothing of
            the one sent; None where that cannot be.
        notes: a word on each picture, or nothing.
    """

    images: Tensor
    measured_snr_db: Tensor
    lost: Tensor | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way:
    """What lies between a scheme's two ends.

    Attributes:
        channel: what symbols go through.
        point: its true SNR, and those that the ends are told.
        generators: one for each picture.
        equalizer: for channels with gains.
    """

    channel: Channel
    point: Point
    generators: Sequence[torch.Generator]
    equalizer: Equalizer = "mmse"

    def carry(self, symbols: Tensor) -> Received:
        """Symbols complex64 (B, k), mean |z|² = 1 in each row, through the channel at the point's SNR."""
        return self.channel(symbols, torch.full((len(symbols),), self.point.snr_db), self.generators)


@runtime_checkable
class Scheme(Protocol):
    """A system with a transmitter of its own; k, channel, SNRs and seeds are those of every other system."""

    name: str
    network_calls: int

    def send(self, images: Tensor, way: Way) -> Sent:
        """Send pictures (B, 3, H, W) and restore them; row i random by way.generators[i] alone."""
        ...


@runtime_checkable
class Line(Protocol):
    """A reference line: a figure for the whole set, no pictures."""

    name: str

    def psnr_db(self, symbols: int) -> float:
        """PSNR in dB of the mean squared error with k symbols."""
        ...


System = Receiver | Scheme | Line
"""Every receiver of `commin.zoo.receivers.RECEIVERS` is a system as it is."""


class TrainSplit:
    """The pictures that reference systems are fitted to: a set's train split, in one framing and size."""

    def __init__(self, source: ImageSet, size: int, crop: str, cache: Path) -> None:
        self.source, self.size, self.crop, self.cache = source, size, crop, cache
        self._pools: dict[int, Tensor] = {}

    @property
    def entries(self) -> list[Entry]:
        """Its entries. Raises UserError for a set that has no train split apart from the others."""
        if {entry.split for entry in self.source.entries} == {""}:
            raise UserError(f"{self.source.path}: no manifest.csv, so no train split to fit a reference system to")
        return self.source.split("train")

    @property
    def key(self) -> str:
        """What it depends on, as one word."""
        text = f"{self.source.path.name}|{split_hash(self.entries)}|{self.size}|{self.crop}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def pixels(self) -> Tensor:
        """All pictures, uint8 (N, 3, H, W)."""
        return load_pixels(self.source, self.entries, self.size, self.crop, self.cache)

    def tuning(self, limit: int) -> Tensor:
        """The first pictures of the ``valid`` split, uint8 (≤ limit, 3, H, W), to choose settings on; else train's."""
        valid = [entry for entry in self.source.entries if entry.split == "valid"][:limit]
        return load_pixels(self.source, valid, self.size, self.crop, self.cache) if valid else self.pool(limit)

    def pool(self, limit: int) -> Tensor:
        """The first pictures, uint8 (≤ limit, 3, H, W), kept in memory."""
        if limit not in self._pools:
            self._pools[limit] = load_pixels(self.source, self.entries[:limit], self.size, self.crop, self.cache)
        return self._pools[limit]


class Settings(BaseModel):
    """A reference system's settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Fit:
    """All that a reference system may be fitted to.

    Attributes:
        find_link: codec, ρ and channel of the sweep, with the plain receiver; raises UserError where ρ has no weights,
            which does not matter to systems without a codec.
        point: where it will be used.
        symbols: k of a picture there.
        train: the train split.
        weights: SHA-256 of the codec's file.
        settings: this system's own settings in the sweep file.
        model: the sweep's model, for systems that use its prior.
        device: where networks run.
    """

    find_link: Callable[[], Link]
    point: Point
    symbols: int
    train: TrainSplit
    weights: Mapping[str, str]
    settings: Mapping[str, float] = field(default_factory=dict)
    model: str = "faces64"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def link(self) -> Link:
        """The link, made when first asked for."""
        return self.find_link()

    def parse(self, name: str, model: type[S]) -> S:
        """The settings, checked. Raises UserError naming the keys that exist."""
        try:
            return model.model_validate(dict(self.settings))
        except ValidationError as error:
            keys = ", ".join(model.model_fields) or "none"
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise UserError(f"settings.{name}.{where}: {error.errors()[0]['msg']}; the keys are {keys}") from None

    def stored(self, name: str, suffix: str, *key: object) -> Path:
        """The cache file of something fitted on the train split and on whatever else ``key`` says."""
        text = "|".join(map(str, (self.train.key, *key)))
        return self.train.cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}{suffix}"


def awgn_alone(name: str, fit: Fit) -> None:
    """Raise UserError, naming the system, unless the channel is awgn."""
    if fit.point.channel != "awgn":
        raise UserError(f"{name}: for the channel awgn alone, not for {fit.point.channel}")


def kept_tensors(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors at ``path``; made and written there the first time."""
    if not path.is_file():
        with replacing(path) as temporary:
            save_file(make(), temporary)
    return load_file(path)
