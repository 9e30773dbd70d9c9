"""``commin transmit PHOTO...``: photos over a noisy channel and back, with pictures, figures and a record."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from commin.channels.equalizer import Equalizer
    from commin.evaluation.records import Record
    from commin.link import Link


def transmit(
    photos: Annotated[list[Path], typer.Argument(help="Photos: JPEG, PNG, WebP, AVIF, …", show_default=False)],
    bcr: Annotated[str, typer.Option(help="Bandwidth compression ratio ρ = k/n.")] = "1/48",
    snr: Annotated[str, typer.Option(help="SNR per complex symbol in dB; several separated by commas.")] = "0",
    design_snr: Annotated[float | None, typer.Option(help="SNR the transmitter assumes; else the true one.")] = None,
    channel: Annotated[
        str, typer.Option(help="awgn, rayleigh-block, rayleigh-fast, rician-block, rician-fast or package:Class.")
    ] = "awgn",
    equalizer: Annotated[str, typer.Option(help="mmse or zf, for channels with gains.")] = "mmse",
    receiver: Annotated[str, typer.Option(help="Receivers, separated by commas.")] = "deepjscc",
    model: Annotated[str, typer.Option(help="A model of the zoo or a codec file.")] = "faces64",
    crop: Annotated[str, typer.Option(help="centre, top, celeba, stretch, none or L,T,R,B in pixels.")] = "centre",
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")] = Path("out"),
) -> None:
    """Send photos over a noisy channel and show what arrives."""
    from commin.cli.devices import torch_device
    from commin.cli.options import numbers, output_folder
    from commin.errors import UserError
    from commin.evaluation.records import write_json
    from commin.zoo.load import load

    if equalizer not in ("mmse", "zf"):
        raise UserError(f"--equalizer {equalizer}: choose mmse or zf")
    snrs = numbers(snr, "--snr")
    designs = snrs if design_snr is None else numbers(str(design_snr), "--design-snr") * len(snrs)
    folder = output_folder(out)
    target = torch_device(device)
    undo: Equalizer = "zf" if equalizer == "zf" else "mmse"
    links = {name: load(model, bcr, name, channel, target, undo) for name in receiver.split(",")}
    low, high = next(iter(links.values())).codec.config.snr_range_db
    outside = [value for value in {*snrs, *designs} if not low <= value <= high]
    if outside:
        _say(f"warning: {', '.join(f'{v:g}' for v in sorted(outside))} dB is outside the trained {low:g}..{high:g} dB")

    records: list[Record] = []
    failed = 0
    taken: Counter[str] = Counter()
    for photo in photos:
        try:
            sender = _Sender(links, model, channel, list(zip(snrs, designs, strict=True)), seed)
            stem = f"{photo.stem}-{taken[photo.stem]}" if taken[photo.stem] else photo.stem
            records += sender.send(photo, crop, folder, stem)
            taken[photo.stem] += 1
        except UserError as error:
            failed += 1
            _say(f"commin: {error}")
        except OSError as error:
            failed += 1
            _say(f"commin: {photo}: results cannot be written to {folder} ({error.strerror})")
        if records:
            write_json(records, folder / "transmit.json")
    if records:
        print(f"record: {folder / 'transmit.json'}")
    if failed:
        _say(f"commin: {failed} of {len(photos)} photos could not be sent")
        raise typer.Exit(2)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


class _Sender:
    """One photo through every link at every SNR."""

    def __init__(
        self, links: "dict[str, Link]", model: str, channel: str, points: list[tuple[float, float]], seed: int
    ) -> None:
        self.links, self.model, self.channel, self.points, self.seed = links, model, channel, points, seed

    def send(self, photo: Path, crop: str, folder: Path, stem: str) -> "list[Record]":
        """Transmit, print, and write ``STEM.png`` (the panel) and each restored picture; returns the records."""
        from commin.evaluation.panel import Cell, panel
        from commin.images import save_picture, to_picture

        image = self._framed(photo, crop)
        save_picture(to_picture(image), folder / f"{stem}.original.png")
        rows: list[list[Cell]] = []
        records = []
        for system, link in self.links.items():
            cells = [Cell(image, "original", (f"{image.shape[-1]} x {image.shape[-2]}",))]
            for snr, design in self.points:
                restored, record = self._transmit(link, system, image, photo, snr, design)
                save_picture(to_picture(restored), folder / f"{stem}.{system}.{snr:+g}dB.png")
                cells.append(Cell(restored, f"{snr:g} dB, {system}", _lines(record)))
                records.append(record)
            rows.append(cells)
        first = records[0]
        heading = f"{photo.name}   BCR {first.bcr}, k = {first.k} symbols, {self.channel}"
        save_picture(panel(rows, heading), folder / f"{stem}.png")
        print(f"picture: {folder / f'{stem}.png'}")
        return records

    def _framed(self, photo: Path, crop: str) -> "Tensor":
        from commin.images import crop_box, frame, open_photo, to_tensor

        picture = open_photo(photo)
        box = crop_box(*picture.size, crop)
        side = next(iter(self.links.values())).codec.config.image_size
        size = picture.size if crop == "none" else (side, side)
        print(f"{photo}: {picture.width}×{picture.height}, cropped to {box} ({crop}), sent as {size[0]}×{size[1]}")
        return to_tensor(frame(picture, box, size))

    def _transmit(
        self, link: "Link", system: str, image: "Tensor", photo: Path, snr: float, design: float
    ) -> "tuple[Tensor, Record]":
        import time

        from commin.evaluation.records import Record
        from commin.metrics.lpips import try_lpips
        from commin.metrics.pixels import psnr
        from commin.randomness import pixel_digest

        begin = time.perf_counter()
        result = link.transmit(image[None], snr, self.seed, design)
        seconds = time.perf_counter() - begin
        restored = result.images.cpu()
        lpips = try_lpips() if min(image.shape[-2:]) >= 32 else None
        record = Record(
            image=str(photo), digest=pixel_digest(image), model=self.model, system=system, channel=self.channel,
            bcr=str(link.bcr), k=result.use.symbols, n=result.use.samples, snr_db=snr, design_snr_db=design,
            measured_snr_db=round(float(result.measured_snr_db), 4), seed=self.seed,
            psnr_db=round(float(psnr(restored, image[None])), 4),
            lpips=round(float(lpips(restored, image[None])), 5) if lpips else None,
            lpips_backbone=lpips.backbone.name if lpips else None, seconds=round(seconds, 4),
            network_calls=link.receiver.network_calls, versions=_versions(), weights=_weights(self.model),
        )  # fmt: skip
        print(
            f"  {system}: k = {record.k}, n = {record.n}, ρ = {record.bcr} ({result.use.bcr:.5f}), "
            f"SNR {snr:g} dB asked, {record.measured_snr_db:.2f} measured, {design:g} design; "
            f"{', '.join(_lines(record))}"
        )
        return restored[0], record


def _lines(record: "Record") -> tuple[str, str]:
    lpips = "n/a" if record.lpips is None else f"{record.lpips:.3f} ({record.lpips_backbone})"
    return f"PSNR {record.psnr_db:.2f} dB", f"LPIPS {lpips}"


def _versions() -> dict[str, str]:
    import torch

    import commin

    return {"commin": commin.__version__, "torch": torch.__version__}


def _weights(model: str) -> dict[str, str]:
    from commin.zoo.cards import sha256
    from commin.zoo.load import codec_path

    path = codec_path(model)
    return {path.name: sha256(path)}
