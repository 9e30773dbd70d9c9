"""``commin data prepare``: any photos made into a data set to train on."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Data sets: prepare.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    pass


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="Folder, zip or tar of photos, with or without a manifest.csv.")],
    out: Annotated[Path, typer.Argument(help="Where the data set goes, a folder.")],
    size: Annotated[int, typer.Option(min=16, help="Height and width in pixels.")] = 256,
    crop: Annotated[
        str, typer.Option(help="What to keep: centre, top, celeba, stretch, or L,T,R,B in pixels.")
    ] = "centre",
    valid: Annotated[float, typer.Option(min=0, help="Pictures for validation: a number, or below 1 a share.")] = 0.05,
    test: Annotated[float, typer.Option(min=0, help="Pictures for the test, likewise.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the split, where the source has none.")] = 0,
    min_side: Annotated[int, typer.Option(min=0, help="Leave out photos whose crop has fewer pixels a side.")] = 0,
) -> None:
    """Check, crop and resize photos, split them, and list them with checksums. Stopped, the same command goes on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from commin.data.imageset import ImageSet
    from commin.data.prepare import Settings
    from commin.data.prepare import prepare as make
    from commin.images import crop_box

    crop_box(999_999, 999_999, crop)  # a wrong name or box is an error of its own, not one of every photo
    photos = ImageSet(source)
    columns = (TextColumn("prepare"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        task = bar.add_task("", total=len(photos.entries))
        settings = Settings(size, crop, valid, test, seed, min_side)
        summary = make(photos, out, settings, lambda done: bar.update(task, completed=done))
    for made in summary.bad:
        print(f"left out {made.source}: {made.problem}", file=sys.stderr)
    for name, count in summary.counts.items():
        print(f"{name or 'all':6} {count:7,} pictures  sha256 {summary.hashes[name]}")
    if summary.bad:
        print(f"{len(summary.bad)} of {len(photos.entries):,} photos left out; {out / 'bad.csv'} says why")
