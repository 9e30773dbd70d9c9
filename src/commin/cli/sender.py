"""One photo through every link at every SNR: pictures, a labelled panel, a line of figures and a record of each."""

import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from commin.cli.options import photo_box
from commin.cli.progress import CallBar
from commin.codec.deepjscc import DeepJSCC
from commin.codec.tiled import TiledCodec
from commin.errors import UserError
from commin.evaluation.panel import Cell, panel
from commin.evaluation.records import Record
from commin.evaluation.single import record_lines, single_record
from commin.images import frame, open_photo, save_picture, to_picture, to_tensor
from commin.link import Link, Sent, Transmission
from commin.metrics.pixels import psnr
from commin.receivers.expected_error import deviation
from commin.serve.pictures import MAP_TOP, heat
from commin.zoo.cards import find_card
from commin.zoo.load import weights_of
from commin.zoo.receivers import SAMPLERS


class Sender:
    """A photo's way through links by name, at points (SNR, design SNR) in dB."""

    def __init__(
        self,
        links: Mapping[str, Link],
        model: str,
        channel: str,
        points: Sequence[tuple[float, float]],
        seed: int,
        samples: int,
        refinement: int,
        bar: CallBar,
    ) -> None:
        self.links, self.model, self.channel, self.points = links, model, channel, points
        self.seed, self.samples, self.refinement, self.bar = seed, samples, refinement, bar

    def send(self, photo: Path, crop: str, folder: Path, stem: str) -> Iterator[Record]:
        """Transmit and yield each record once its pictures are written; ``STEM.png``, the panel, comes last."""
        image = self._framed(photo, crop)
        note = self._size_note(image)
        save_picture(to_picture(image), folder / f"{stem}.original.png")
        rows: list[list[Cell]] = []
        sendings = [self._sent(photo, image, snr, design) for snr, design in self.points]
        for system, link in self.links.items():
            weights = weights_of(self.model, link.bcr, system)
            original = Cell(image, "original", (f"{image.shape[-1]} x {image.shape[-2]}",))
            one, means, maps = [original], [_gap(image)], [_gap(image)]
            for (snr, design), (sent, took) in zip(self.points, sendings, strict=True):
                self.bar.label = f"{system}, {snr:g} dB"
                begin = time.perf_counter()
                try:
                    result = link.hear(sent, self._samples(system))
                except UserError as error:
                    raise UserError(f"{photo}: {system}: {error}") from None
                record = single_record(
                    image, result, link, name=str(photo), model=self.model, system=system, channel=self.channel,
                    snr_db=snr, design_snr_db=design, seed=self.seed, seconds=took + time.perf_counter() - begin,
                    weights=weights, note=note, refinement=self.refinement,
                )  # fmt: skip
                cells = _cells(system, snr, result, record, image)
                self._save(folder, f"{stem}.{system}.{snr:+g}dB", result)
                self._print(record, result, image)
                for row, cell in zip((one, means, maps), cells, strict=False):
                    row.append(cell)
                yield record
            rows += [one, means, maps] if self._samples(system) > 1 else [one]
        heading = f"{photo.name}   BCR {_ratio(record)}, k = {record.k} symbols, {self.channel}"
        save_picture(panel(rows, heading), folder / f"{stem}.png")
        print(f"picture: {folder / f'{stem}.png'}")

    def _sent(self, photo: Path, image: Tensor, snr_db: float, design_snr_db: float) -> tuple[Sent, float]:
        """The photo on its way, whoever hears it, and the seconds that its sending took."""
        begin = time.perf_counter()
        link = next(iter(self.links.values()))
        try:
            sent = link.send(image[None], snr_db, self.seed, design_snr_db, refinement=self.refinement)
        except UserError as error:
            raise UserError(f"{photo}: {error}") from None
        return sent, time.perf_counter() - begin

    def _samples(self, system: str) -> int:
        return self.samples if system in SAMPLERS else 1

    def _framed(self, photo: Path, crop: str) -> Tensor:
        picture = open_photo(photo)
        box = photo_box(picture, crop)
        side = self.codec.config.image_size
        if isinstance(self.codec, TiledCodec):
            size = (max(1, round(box.right - box.left)), max(1, round(box.bottom - box.top)))
        else:
            size = picture.size if crop == "none" else (side, side)
        print(f"{photo}: {picture.width}×{picture.height}, cropped to {box} ({crop}), sent as {size[0]}×{size[1]}")
        return to_tensor(frame(picture, box, size))

    @property
    def codec(self) -> DeepJSCC:
        """The codec that all links share."""
        return next(iter(self.links.values())).codec

    def _size_note(self, image: Tensor) -> str:
        """What to know of a picture that is not of the model's size; said, and kept in the record."""
        height, width = image.shape[-2:]
        side = self.codec.config.image_size
        if (height, width) == (side, side):
            return ""
        how, so = "one frame", "knows no others"
        if isinstance(self.codec, TiledCodec):
            tiles = self.codec.tiles(height, width)
            how = (
                f"{len(tiles)} tiles ({tiles.columns}×{tiles.rows}) of {side}×{side} pixels sharing {tiles.overlap}, "
                f"each a frame, over {tiles.padded[1]}×{tiles.padded[0]} pixels"
            )
            so = "sees one in every tile; where memory allows, --crop none is better and sends less"
        card = find_card(self.model, "codec")
        known = f" of {card.data['name']}" if card and "name" in card.data else ""
        note = f"{how}; {self.model} has learnt whole pictures{known} of {side}×{side} pixels and {so}"
        print(f"  {note}")
        return note

    @staticmethod
    def _save(folder: Path, name: str, result: Transmission) -> None:
        pictures = result.samples[0].cpu()
        if len(pictures) == 1:
            save_picture(to_picture(pictures[0]), folder / f"{name}.png")
            return
        for number, picture in enumerate(pictures, start=1):
            save_picture(to_picture(picture), folder / f"{name}.sample{number}.png")
        save_picture(to_picture(pictures.mean(0)), folder / f"{name}.mean.png")
        save_picture(to_picture(heat(deviation(pictures))), folder / f"{name}.spread.png")
        if result.expected_error is not None:
            save_picture(to_picture(heat(result.expected_error[0].cpu())), folder / f"{name}.error.png")

    def _print(self, record: Record, result: Transmission, image: Tensor) -> None:
        price = ""
        if record.system in SAMPLERS:
            middle = result.samples.mean(1) if result.samples.shape[1] > 1 else result.estimate
            loss = float(psnr(middle.cpu(), image[None])) - record.psnr_db
            price = f", {round(loss, 2) + 0.0:.2f} dB below the {'mean' if result.samples.shape[1] > 1 else 'estimate'}"
        design = f"{record.design_snr_db:g} design" + (
            f", {record.refinement} refining steps" if record.refinement else ""
        )
        print(
            f"  {record.system}: k = {record.k}, n = {record.n}, ρ = {_ratio(record)}, "
            f"SNR {record.snr_db:g} dB asked, {record.measured_snr_db:.2f} measured, {design}; "
            f"{', '.join(record_lines(record))}{price}"
        )


def _cells(system: str, snr: float, result: Transmission, record: Record, image: Tensor) -> list[Cell]:
    """The first picture; where there are several also their mean and how wrong it likely is, or else their spread."""
    pictures = result.samples[0].cpu()
    first = Cell(pictures[0], f"{snr:g} dB, {system}", record_lines(record))
    if len(pictures) == 1:
        return [first]
    mean, apart = pictures.mean(0), deviation(pictures)
    title, shown = "spread of the samples", apart
    if result.expected_error is not None:
        title, shown = "expected error of the mean", result.expected_error[0].cpu()
    return [
        first,
        Cell(mean, f"mean of {len(pictures)}", (f"PSNR {float(psnr(mean[None], image[None])):.2f} dB",)),
        Cell(heat(shown), title, (f"mean {float(shown.mean()):.3f}, brightest {MAP_TOP:g}",)),
    ]


def _ratio(record: Record) -> str:
    """ρ = k/n as counted, and the codec's own where overlap and padding make it larger."""
    counted = record.k / record.n
    exact = abs(counted - float(Fraction(record.bcr))) < 1e-9
    return f"{record.bcr} ({counted:.5f})" if exact else f"{counted:.5f} (the codec's {record.bcr}, padded)"


def _gap(image: Tensor) -> Cell:
    return Cell(torch.ones_like(image), "")
