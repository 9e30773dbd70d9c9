"""``commin transmit PHOTO...``: photos over a noisy channel and back, with pictures, figures and a record."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from commin.channels.equalizer import Equalizer
    from commin.evaluation.records import Record


def transmit(
    photos: Annotated[list[Path], typer.Argument(help="Photos: JPEG, PNG, WebP, AVIF, …", show_default=False)],
    bcr: Annotated[str, typer.Option(help="Bandwidth compression ratio ρ = k/n.")] = "1/48",
    snr: Annotated[str, typer.Option(help="SNR per complex symbol in dB; several separated by commas.")] = "0",
    design_snr: Annotated[float | None, typer.Option(help="SNR the transmitter assumes; else the true one.")] = None,
    channel: Annotated[
        str, typer.Option(help="awgn, rayleigh-block, rayleigh-fast, rician-block, rician-fast or package:Class.")
    ] = "awgn",
    equalizer: Annotated[str, typer.Option(help="mmse or zf, for channels with gains.")] = "mmse",
    receiver: Annotated[
        str | None,
        typer.Option(
            help="deepjscc, commin-fast, commin-symbol, commin-late, commin, sing-zero, sing-inn, diffcom, "
            "diffcom-hifi, jscc-lpips, pmrf, pmrf-inn, one-step or inverse-jscc; several separated by commas.",
            show_default="deepjscc,commin-fast where the model has both",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Restored pictures for each photo, their mean and spread.")] = 1,
    refine: Annotated[
        int,
        typer.Option(min=0, help="Steps by which the transmitter refines each photo's symbols; 30 is a good number."),
    ] = 0,
    naturalness: Annotated[
        float | None,
        typer.Option(help="Of receivers that draw: 0 is the estimate (or the samples' mean), 1 a sample."),
    ] = None,
    model: Annotated[str, typer.Option(help="A model of the zoo or a codec file.")] = "faces64",
    crop: Annotated[
        str | None,
        typer.Option(
            help="centre, face, top, celeba, stretch, none or pixels L,T,R,B.",
            show_default="centre; none with --tile",
        ),
    ] = None,
    tile: Annotated[
        bool, typer.Option("--tile", help="Keep the photo's size; send it in tiles of the model's, with overlap.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")] = Path("out"),
) -> None:
    """Send photos over a noisy channel and show what arrives."""
    from commin.cli.devices import torch_device
    from commin.cli.options import numbers, output_folder, warn_of_loss
    from commin.cli.progress import CallBar
    from commin.cli.sender import Sender
    from commin.codec.tiled import TiledCodec
    from commin.errors import UserError
    from commin.evaluation.records import write_json
    from commin.zoo.load import default_receivers, load
    from commin.zoo.receivers import NATURALNESS, receiver_names

    if equalizer not in ("mmse", "zf"):
        raise UserError(f"--equalizer {equalizer}: choose mmse or zf")
    snrs = numbers(snr, "--snr")
    designs = snrs if design_snr is None else numbers(str(design_snr), "--design-snr") * len(snrs)
    folder = output_folder(out)
    target = torch_device(device)
    undo: Equalizer = "zf" if equalizer == "zf" else "mmse"
    names = default_receivers(model, bcr) if receiver is None else receiver_names(receiver)
    if tile and "inverse-jscc" in names:
        raise UserError("--tile: inverse-jscc makes pictures of its generator's size alone; choose another receiver")
    bar = CallBar()
    links = {
        name: load(model, bcr, name, channel, target, undo, naturalness if name in NATURALNESS else None, bar)
        for name in names
    }
    if naturalness is not None and not set(names) & set(NATURALNESS):
        raise UserError(f"--naturalness: none of {', '.join(names)} has it; it is for {', '.join(NATURALNESS)}")
    warn_of_loss(names)
    if tile:
        for link in links.values():
            link.codec = TiledCodec(link.codec)
    framing = crop or ("none" if tile else "centre")
    low, high = next(iter(links.values())).codec.config.snr_range_db
    outside = [value for value in {*snrs, *designs} if not low <= value <= high]
    if outside:
        _say(f"warning: {', '.join(f'{v:g}' for v in sorted(outside))} dB is outside the trained {low:g}..{high:g} dB")

    records: list[Record] = []
    failed = 0
    taken: Counter[str] = Counter()
    for photo in photos:
        try:
            stem = f"{photo.stem}-{taken[photo.stem]}" if taken[photo.stem] else photo.stem
            points = list(zip(snrs, designs, strict=True))
            sender = Sender(links, model, channel, points, seed, samples, refine, bar)
            for record in sender.send(photo, framing, folder, stem):
                records.append(record)
                write_json(records, folder / "transmit.json")
            taken[photo.stem] += 1
        except UserError as error:
            failed += 1
            _say(f"commin: {error}")
        except OSError as error:
            failed += 1
            _say(f"commin: {photo}: results cannot be written to {folder} ({error.strerror})")
    if records:
        print(f"record: {folder / 'transmit.json'}")
    if failed:
        _say(f"commin: {failed} of {len(photos)} photos could not be sent")
        raise typer.Exit(2)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
