"""``commin report RESULTS -o report.html``: tables, figures and pictures of a sweep as one self-contained page."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[Path, typer.Argument(help="Folder of commin evaluate, or a records file.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="The page.")] = Path("report.html"),
    photo: Annotated[list[Path] | None, typer.Option(help="Photo for a picture grid; again for more.")] = None,
    crop: Annotated[str, typer.Option(help="centre, top, celeba, stretch or L,T,R,B in pixels.")] = "centre",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Write one HTML page that can be mailed."""
    from tempfile import TemporaryDirectory

    from commin.errors import UserError
    from commin.evaluation.drawing import draw, draw_grids, read_table
    from commin.evaluation.features import ORIGINALS, read_distances
    from commin.evaluation.report import page

    rows = read_table(results)[1]
    with TemporaryDirectory() as folder:
        paths = draw(results, Path(folder))
        if photo:
            paths += draw_grids(results, photo, Path(folder), crop, device)
        pictures = [path for path in paths if path.suffix == ".png"]
        html = page(f"CommIN: {results.name}", rows, pictures, read_distances(results).get((ORIGINALS, None)))
    try:
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror})") from None
    print(out)
