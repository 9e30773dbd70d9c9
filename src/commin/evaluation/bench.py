"""One task of a sweep: pictures sent once over the link at one point, then every system on what arrived."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

import commin
from commin.channels import channel as make_channel
from commin.codec.files import load_codec
from commin.data.imageset import ImageSet, split_hash
from commin.errors import UserError
from commin.evaluation.chunk import Pictures, first_line
from commin.evaluation.config import SweepConfig
from commin.evaluation.fid import load_inception
from commin.evaluation.records import WHOLE_SET, Record
from commin.evaluation.systems import (
    RESTORED,
    SYSTEMS,
    Fit,
    Line,
    Point,
    Scheme,
    System,
    TrainSplit,
    Way,
    group,
    make_system,
)
from commin.evaluation.tap import Tap
from commin.home import home
from commin.link import Link, Transmission
from commin.randomness import image_generators
from commin.receivers.base import Arrival, Receiver
from commin.units import parse_bcr
from commin.zoo.cards import cards, find_card, sha256
from commin.zoo.fetch import MissingFileError, find
from commin.zoo.load import codec_path, load
from commin.zoo.receivers import kinds_of


@dataclass(frozen=True)
class Task:
    """Systems to be run at a point on pictures, given by their numbers in the split; none for set-level lines."""

    point: Point
    pictures: tuple[int, ...]
    systems: tuple[str, ...]


@dataclass
class Outcome:
    """What one system made of a task: records, features (B, C) of ``digests`` to be kept, what failed, by reason."""

    system: str
    point: Point
    records: list[Record] = field(default_factory=list)
    features: Tensor | None = None
    inception: Tensor | None = None
    digests: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """What a worker needs to make a `Bench` of its own."""

    config: SweepConfig
    data: Path
    device: str = "cpu"
    train_data: Path | None = None


@dataclass(frozen=True)
class _Arrived:
    """One transmission, what its receivers are handed, and the seconds that decoding took."""

    transmission: Transmission
    arrival: Arrival
    seconds: float


class Bench:
    """Models, pictures and systems of a sweep, each made when first needed."""

    def __init__(self, spec: Spec) -> None:
        self.config, self.device = spec.config, torch.device(spec.device)
        self.source = ImageSet(spec.data)
        path = codec_path(self.config.model)
        self.weights = {path.name: sha256(path)}
        self.size = self.config.size or load_codec(path).config.image_size
        card = find_card(self.config.model, "codec")
        framing = card.crop if card and card.crop else "centre"
        self.crop = self.config.crop or framing
        trained = (ImageSet(spec.train_data), framing) if spec.train_data else (self.source, self.crop)
        self.train = TrainSplit(trained[0], self.size, trained[1], home() / "cache")
        self.pictures = Pictures(self.source, self.config.split, self.size, self.crop)
        self.split_hash = split_hash(self.pictures.entries)
        self.inception = load_inception(self.device) if self.config.fid else None
        self._links: dict[tuple[str, str], Link] = {}
        self._systems: dict[tuple[object, ...], System | UserError] = {}
        self._files: dict[tuple[str, str], dict[str, str]] = {}
        self._sent: tuple[Point, tuple[int, ...], _Arrived] | None = None

    def link(self, point: Point) -> Link:
        """The link at a point, its channel and receiver a tap. Raises UserError if there are no weights for ρ."""
        key = (point.bcr, point.channel)
        if key not in self._links:
            tap = Tap(make_channel(point.channel))
            ratio = parse_bcr(point.bcr)
            codec = load(self.config.model, ratio, device=self.device).codec
            self._links[key] = Link(codec, ratio, tap, tap, self.config.equalizer)
        return self._links[key]

    def system(self, name: str, point: Point) -> System:
        """A system for a point, whatever its seed. Raises UserError, the same again each time, if it cannot be made."""
        key = (name, point.place if name in SYSTEMS else point.bcr)
        if key not in self._systems:
            try:
                settings = self.config.settings.get(name, {})
                fit = Fit(
                    lambda: self.link(point), point, self.symbols(point), self.train, self.weights, settings,
                    self.config.model, self.device,
                )  # fmt: skip
                self._systems[key] = make_system(name, self.config.model, fit)
            except UserError as error:
                self._systems[key] = error
            except (ValueError, OSError, RuntimeError) as error:
                self._systems[key] = UserError(f"{name}: {first_line(error)}")
        found = self._systems[key]
        if isinstance(found, UserError):
            raise found
        return found

    @torch.no_grad()
    def run(self, task: Task) -> Iterator[Outcome]:
        """The outcome of each system of a task; what fails is counted there and stops nothing else."""
        count = max(1, len(task.pictures))
        for name in task.systems:
            outcome = Outcome(name, task.point)
            try:
                system = self.system(name, task.point)
                if task.pictures:
                    self._run(system, task, outcome)
                elif isinstance(system, Line):
                    outcome.records.append(self._line_record(system, task.point))
                else:
                    raise UserError(f"{name}: makes pictures and was given none")
            except UserError as error:
                outcome.skipped[str(error)] = count
            except (ValueError, RuntimeError) as error:
                outcome.skipped[f"{name}: {first_line(error)}"] = count
            yield outcome

    def _run(self, system: System, task: Task, outcome: Outcome) -> None:
        chunk = self.pictures.chunk(task.pictures)
        outcome.skipped.update(chunk.unreadable)
        if not chunk.entries:
            return
        point, images = task.point, chunk.images
        lost: Tensor | None = None
        notes: tuple[str, ...] = ()
        begin = time.perf_counter()
        if isinstance(system, Scheme):
            generators = image_generators(images, point.seed, "channel")
            way = Way(make_channel(point.channel), point, generators, self.config.equalizer)
            sent = system.send(images, way)
            restored, measured, seconds = sent.images, sent.measured_snr_db, 0.0
            lost, notes = sent.lost, sent.notes
        else:
            arrived = self.transmission(task)
            begin = time.perf_counter()
            generators = image_generators(images, point.seed, "receiver")
            restored = cast("Receiver", system).restore(arrived.arrival, generators, 1)[:, 0]
            measured, seconds = arrived.transmission.measured_snr_db, arrived.seconds
        seconds = (seconds + time.perf_counter() - begin) / len(images)
        calls = cast("Receiver | Scheme", system).network_calls
        columns, outcome.features = self.pictures.measure(restored.cpu(), chunk)
        outcome.digests = chunk.digests
        for index, entry in enumerate(chunk.entries):
            outcome.records.append(
                self._record(
                    outcome.system, system, point, image=entry.file, digest=chunk.digests[index],
                    identity=entry.identity or entry.file, n=images[index].numel(), seconds=round(seconds, 5),
                    network_calls=calls, measured_snr_db=round(float(measured[index]), 4),
                    lost=lost is not None and bool(lost[index]), note=notes[index] if notes else "",
                    **{name: values[index] for name, values in columns.items()},
                )
            )  # fmt: skip
        if self.inception is not None:
            outcome.inception = self.inception(restored)

    def transmission(self, task: Task) -> _Arrived:
        """What arrives, the same for every system of a point and chunk."""
        if self._sent is None or self._sent[:2] != (task.point, task.pictures):
            point, link = task.point, self.link(task.point)
            tap = cast("Tap", link.receiver)
            images = self.pictures.chunk(task.pictures).images
            sent = link.transmit(
                images, point.snr_db, point.seed, point.design_snr_db, point.told_snr_db,
                refinement=self.config.refinement,
            )  # fmt: skip
            self._sent = (point, task.pictures, _Arrived(sent, tap.arrival, tap.seconds))
        return self._sent[2]

    def _record(
        self,
        name: str,
        system: System,
        point: Point,
        *,
        image: str,
        digest: str,
        identity: str,
        n: int,
        measured_snr_db: float,
        psnr_db: float,
        seconds: float,
        network_calls: int,
        ssim: float | None = None,
        lpips: float | None = None,
        lost: bool = False,
        note: str = "",
    ) -> Record:
        settings = [f"{key}={value:g}" for key, value in self.config.settings.get(name, {}).items()]
        return Record(
            image=image, digest=digest, identity=identity, model=self.config.model, system=name,
            group=group(name, system), channel=point.channel, bcr=point.bcr, k=self.symbols(point), n=n,
            snr_db=point.snr_db, design_snr_db=point.design_snr_db, told_snr_db=point.told_snr_db,
            measured_snr_db=measured_snr_db, seed=point.seed, psnr_db=psnr_db, ssim=ssim, lpips=lpips,
            lpips_backbone="squeeze" if lpips is not None else None, seconds=seconds, network_calls=network_calls,
            versions={"commin": commin.__version__, "torch": torch.__version__},
            weights=self.weights | self.files_of(name, point.bcr), split=self.config.split,
            split_hash=self.split_hash, lost=lost, note=", ".join([*settings, *([note] if note else [])]),
            loss=getattr(system, "loss_name", ""),
            refinement=0 if isinstance(system, Scheme) else self.config.refinement,
        )  # fmt: skip

    def _line_record(self, system: Line, point: Point) -> Record:
        return self._record(
            system.name, system, point, image=WHOLE_SET, digest="", identity="", n=3 * self.size**2,
            measured_snr_db=point.snr_db, psnr_db=round(system.psnr_db(self.symbols(point)), 5), seconds=0.0,
            network_calls=0,
        )  # fmt: skip

    def symbols(self, point: Point) -> int:
        """k of the sweep's pictures at a point's ρ, exact: ρ·n of pictures padded to whole latent positions."""
        padded = -(-self.size // 16) * 16
        return int(parse_bcr(point.bcr) * 3 * padded**2)

    def files_of(self, system: str, bcr: str) -> dict[str, str]:
        """SHA-256 of the files beside the codec that a system works with at ρ, as far as they are here."""
        if (system, bcr) not in self._files:
            kinds = ("prior",) if system in RESTORED else kinds_of(system)
            found = self._files[system, bcr] = {}
            for card in cards().values():
                if card.model == self.config.model and card.kind in kinds and card.bcr in (None, bcr):
                    with suppress(MissingFileError):
                        found[card.name] = sha256(find(card.name))
        return self._files[system, bcr]
