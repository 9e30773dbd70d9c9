"""One photo through every link at every SNR: pictures, a labelled panel, a line of figures and a record of each."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import commin
from commin.cli.options import photo_box
from commin.cli.progress import CallBar
from commin.evaluation.panel import Cell, panel
from commin.evaluation.records import Record
from commin.images import frame, open_photo, save_picture, to_picture, to_tensor
from commin.link import Link, Transmission
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr
from commin.randomness import pixel_digest
from commin.zoo.cards import sha256
from commin.zoo.load import codec_path
from commin.zoo.receivers import SAMPLERS, receiver_files

SPREAD_WHITE = 0.25
"""Standard deviation that a spread map shows as white."""


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
        bar: CallBar,
    ) -> None:
        self.links, self.model, self.channel, self.points = links, model, channel, points
        self.seed, self.samples, self.bar = seed, samples, bar

    def send(self, photo: Path, crop: str, folder: Path, stem: str) -> Iterator[Record]:
        """Transmit and yield each record once its pictures are written; ``STEM.png``, the panel, comes last."""
        image = self._framed(photo, crop)
        save_picture(to_picture(image), folder / f"{stem}.original.png")
        rows: list[list[Cell]] = []
        for system, link in self.links.items():
            original = Cell(image, "original", (f"{image.shape[-1]} x {image.shape[-2]}",))
            one, mean, spread = [original], [_gap(image)], [_gap(image)]
            for snr, design in self.points:
                self.bar.label = f"{system}, {snr:g} dB"
                begin = time.perf_counter()
                result = link.transmit(image[None], snr, self.seed, design, samples=self._samples(system))
                record = self._record(link, system, image, photo, (snr, design), result, time.perf_counter() - begin)
                pictures = result.samples[0].cpu()
                cells = _cells(system, snr, pictures, record, image)
                self._save(folder, f"{stem}.{system}.{snr:+g}dB", pictures, cells)
                self._print(record, result, image)
                for row, cell in zip((one, mean, spread), cells, strict=False):
                    row.append(cell)
                yield record
            rows += [one, mean, spread] if self._samples(system) > 1 else [one]
        heading = f"{photo.name}   BCR {record.bcr}, k = {record.k} symbols, {self.channel}"
        save_picture(panel(rows, heading), folder / f"{stem}.png")
        print(f"picture: {folder / f'{stem}.png'}")

    def _samples(self, system: str) -> int:
        return self.samples if system in SAMPLERS else 1

    def _framed(self, photo: Path, crop: str) -> Tensor:
        picture = open_photo(photo)
        box = photo_box(picture, crop)
        side = next(iter(self.links.values())).codec.config.image_size
        size = picture.size if crop == "none" else (side, side)
        print(f"{photo}: {picture.width}×{picture.height}, cropped to {box} ({crop}), sent as {size[0]}×{size[1]}")
        return to_tensor(frame(picture, box, size))

    @staticmethod
    def _save(folder: Path, name: str, pictures: Tensor, cells: Sequence[Cell]) -> None:
        if len(pictures) == 1:
            save_picture(to_picture(pictures[0]), folder / f"{name}.png")
            return
        for number, picture in enumerate(pictures, start=1):
            save_picture(to_picture(picture), folder / f"{name}.sample{number}.png")
        save_picture(to_picture(cells[1].image), folder / f"{name}.mean.png")
        save_picture(to_picture(cells[2].image), folder / f"{name}.spread.png")

    def _record(
        self,
        link: Link,
        system: str,
        image: Tensor,
        photo: Path,
        point: tuple[float, float],
        result: Transmission,
        seconds: float,
    ) -> Record:
        restored = result.images.cpu()
        lpips = try_lpips() if min(image.shape[-2:]) >= 32 else None
        files = [codec_path(self.model), *receiver_files(system, self.model, link.bcr)]
        return Record(
            image=str(photo), digest=pixel_digest(image), model=self.model, system=system, channel=self.channel,
            bcr=str(link.bcr), k=result.use.symbols, n=result.use.samples, snr_db=point[0], design_snr_db=point[1],
            measured_snr_db=round(float(result.measured_snr_db), 4), seed=self.seed,
            psnr_db=round(float(psnr(restored, image[None])), 4),
            lpips=round(float(lpips(restored, image[None])), 5) if lpips else None,
            lpips_backbone=lpips.backbone.name if lpips else None, seconds=round(seconds, 4),
            network_calls=link.receiver.network_calls,
            versions={"commin": commin.__version__, "torch": torch.__version__},
            weights={path.name: sha256(path) for path in files},
        )  # fmt: skip

    def _print(self, record: Record, result: Transmission, image: Tensor) -> None:
        price = ""
        if record.system in SAMPLERS:
            middle = result.samples.mean(1) if result.samples.shape[1] > 1 else result.estimate
            loss = float(psnr(middle.cpu(), image[None])) - record.psnr_db
            price = f", {loss:.2f} dB below the {'mean' if result.samples.shape[1] > 1 else 'estimate'}"
        print(
            f"  {record.system}: k = {record.k}, n = {record.n}, ρ = {record.bcr} ({result.use.bcr:.5f}), "
            f"SNR {record.snr_db:g} dB asked, {record.measured_snr_db:.2f} measured, {record.design_snr_db:g} design; "
            f"{', '.join(_lines(record))}{price}"
        )


def _cells(system: str, snr: float, pictures: Tensor, record: Record, image: Tensor) -> list[Cell]:
    """The first picture; where there are several also their mean, and their standard deviation over colours."""
    first = Cell(pictures[0], f"{snr:g} dB, {system}", _lines(record))
    if len(pictures) == 1:
        return [first]
    mean = pictures.mean(0)
    deviation = pictures.var(0, correction=1).mean(0).sqrt()
    grey = (deviation / SPREAD_WHITE).clamp(0, 1).expand(3, -1, -1)
    return [
        first,
        Cell(mean, f"mean of {len(pictures)}", (f"PSNR {float(psnr(mean[None], image[None])):.2f} dB",)),
        Cell(grey, "spread: what is imagined", (f"std, white = {SPREAD_WHITE:g}, mean {float(deviation.mean()):.3f}",)),
    ]


def _gap(image: Tensor) -> Cell:
    return Cell(torch.ones_like(image), "")


def _lines(record: Record) -> tuple[str, str]:
    lpips = "n/a" if record.lpips is None else f"{record.lpips:.3f} ({record.lpips_backbone})"
    return f"PSNR {record.psnr_db:.2f} dB", f"LPIPS {lpips}"
