"""``commin plot RESULTS -o DIR``: the figures of a sweep, PNG and PDF."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = Path("examples/astronaut.png")


def plot(
    results: Annotated[Path, typer.Argument(help="Folder of commin evaluate, or a records file.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the figures.")] = Path("figures"),
    photo: Annotated[
        list[Path] | None, typer.Option(help="Photo for the picture grid; again for more. Else the example, if there.")
    ] = None,
    crop: Annotated[str, typer.Option(help="centre, top, celeba, stretch or L,T,R,B in pixels.")] = "centre",
    grid: Annotated[bool, typer.Option(help="Send the photos with the sweep's models.")] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Draw quality over SNR, distortion and perception, quality against time, and picture grids."""
    from commin.cli.options import output_folder
    from commin.evaluation.drawing import draw, draw_grids

    folder = output_folder(out)
    paths = draw(results, folder)
    photos = photo or ([EXAMPLE] if EXAMPLE.is_file() else [])
    if grid and photos:
        paths += draw_grids(results, photos, folder, crop, device)
    for path in paths:
        print(path)
