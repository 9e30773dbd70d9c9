"""``commin fit -o settings.json``: the table of a receiver, on pictures whose transmission is known."""

from pathlib import Path
from typing import Annotated

import typer

SHOWN = ("start", "zeta", "naturalness", "cutoff", "detail")
"""What is printed of a point."""


def fit(
    out: Annotated[Path, typer.Option("-o", "--out", help="Settings to write; points it already holds are kept.")],
    model: Annotated[str, typer.Option(help="A model of the zoo.")] = "faces64",
    bcr: Annotated[str, typer.Option(help="ρ, several separated by commas.")] = "1/192,1/48,1/12",
    snr: Annotated[str, typer.Option(help="SNRs in dB, separated by commas.")] = "-5,0,5",
    receiver: Annotated[str, typer.Option(help="Whose table.")] = "commin-fast",
    walk: Annotated[
        Path | None, typer.Option(help="Steps, η, start, ζ, …, as YAML or JSON; else the defaults.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="weights, fusion (commin-fast alone) or none: the walk's own weights, what is shown alone."),
    ] = "weights",
    whiten: Annotated[
        bool, typer.Option(help="Start noise of commin-fast that makes the estimate's error white.")
    ] = False,
    drop: Annotated[float, typer.Option(help="PSNR in dB that what is shown may cost.")] = 0.9,
    cutoffs: Annotated[str, typer.Option(help="f₀ to choose from by LPIPS, in 0..1.")] = "0",
    details: Annotated[str, typer.Option(help="g to choose from by LPIPS, in 0..2.")] = "1",
    samples: Annotated[
        int, typer.Option(min=1, help="Of each picture; with several, the expected error of their mean is fitted too.")
    ] = 4,
    data: Annotated[Path | None, typer.Option(help="Folder or zip; else COMMIN_DATA.")] = None,
    split: Annotated[str, typer.Option(help="Split to fit on; not one that codec, INN or prior saw.")] = "valid",
    limit: Annotated[int, typer.Option(min=1, help="Pictures to fit on.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Fit what a receiver of its kind has (weights, gains) and what is shown of its samples, for every ρ and SNR."""
    from itertools import product

    from pydantic import ValidationError

    from commin.cli.devices import torch_device
    from commin.cli.options import numbers, shares
    from commin.data.imageset import ImageSet
    from commin.errors import UserError
    from commin.home import data_path
    from commin.receivers.commin_table import read_settings, write_settings
    from commin.receivers.shown import ShownPoint
    from commin.zoo.fitting import FORMS, Fitter

    if receiver not in FORMS:
        raise UserError(f"--receiver {receiver}: nothing to fit; choose {', '.join(FORMS)}")
    if method not in ("fusion", "weights", "none"):
        raise UserError(f"--method {method}: choose weights, fusion or none")
    if (method == "fusion" or whiten) and receiver != "commin-fast":
        raise UserError(f"--method fusion, --whiten: for commin-fast alone, not {receiver}")
    choices = list(product(shares(cutoffs, "--cutoffs", 1), shares(details, "--details", 2)))
    form = FORMS[receiver]
    settings = read_settings(form, walk) if walk else form()
    done: tuple[ShownPoint, ...] = read_settings(form, out).points if out.exists() else ()
    fitter = Fitter(model, ImageSet(data_path(data)), split, limit, seed, torch_device(device))
    for ratio in bcr.split(","):
        for decibels in numbers(snr, "--snr"):
            if any(point.bcr == ratio and point.snr_db == decibels for point in done):
                continue
            point = fitter.fit(receiver, ratio, decibels, settings, method, whiten, drop, choices, samples)
            done = (*done, point)
            try:
                write_settings(form.model_validate({**settings.model_dump(), "points": done}), out)
            except ValidationError:
                raise UserError(f"-o {out}: holds points of another method; give another file") from None
            shown = ", ".join(f"{name} {value:g}" for name, value in point.model_dump().items() if name in SHOWN)
            print(f"ρ = {ratio}, {decibels:g} dB: {shown}")
    print(f"settings: {out}")
