"""``commin fit -o settings.json``: the table of the fast receiver, on pictures whose transmission is known."""

from pathlib import Path
from typing import Annotated

import typer


def fit(
    out: Annotated[Path, typer.Option("-o", "--out", help="Settings to write; points it already holds are kept.")],
    model: Annotated[str, typer.Option(help="A model of the zoo.")] = "faces64",
    bcr: Annotated[str, typer.Option(help="ρ, several separated by commas.")] = "1/192,1/48,1/12",
    snr: Annotated[str, typer.Option(help="SNRs in dB, separated by commas.")] = "-5,0,5",
    walk: Annotated[Path | None, typer.Option(help="Steps, η, start and so on, as YAML; else the defaults.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="weights, fusion or none (the walk's own table); symbol for commin-symbol, zero for sing-zero."
        ),
    ] = "weights",
    whiten: Annotated[bool, typer.Option(help="Start noise that makes the estimate's error white.")] = False,
    drop: Annotated[float, typer.Option(help="PSNR in dB that naturalness may cost.")] = 0.9,
    data: Annotated[Path | None, typer.Option(help="Folder or zip; else COMMIN_DATA.")] = None,
    split: Annotated[str, typer.Option(help="Split to fit on; not one that codec, INN or prior saw.")] = "valid",
    limit: Annotated[int, typer.Option(min=1, help="Pictures to fit on.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Fit weights and naturalness of commin-fast, or of a receiver like it, for every ρ and SNR."""
    from pydantic import ValidationError

    from commin.cli.devices import torch_device
    from commin.cli.options import numbers
    from commin.data.imageset import ImageSet
    from commin.errors import UserError
    from commin.home import data_path
    from commin.receivers.commin_settings import FastSettings
    from commin.receivers.commin_table import read_settings, write_settings
    from commin.receivers.sing_zero import ZeroSettings
    from commin.zoo.fitting import Fitter

    if method not in ("fusion", "weights", "none", "symbol", "zero"):
        raise UserError(f"--method {method}: choose weights, fusion, none, symbol or zero")
    form = ZeroSettings if method == "zero" else FastSettings
    settings = read_settings(form, walk) if walk else form()
    done = read_settings(form, out).points if out.exists() else ()
    fitter = Fitter(model, ImageSet(data_path(data)), split, limit, seed, torch_device(device))
    for ratio in bcr.split(","):
        for decibels in numbers(snr, "--snr"):
            if any(point.bcr == ratio and point.snr_db == decibels for point in done):
                continue
            point = fitter.fit(ratio, decibels, settings, method, whiten, drop)
            done = (*done, point)
            try:
                write_settings(form.model_validate({**settings.model_dump(), "points": done}), out)
            except ValidationError:
                raise UserError(f"-o {out}: holds points of another method; give another file") from None
            print(f"ρ = {ratio}, {decibels:g} dB: start {point.start:.3f}, naturalness {point.naturalness:.3f}")
    print(f"settings: {out}")
