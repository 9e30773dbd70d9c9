"""All figures of a folder of results, as files."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from commin.errors import UserError
from commin.evaluation import figures
from commin.evaluation.config import SweepConfig
from commin.evaluation.features import all_distances
from commin.evaluation.grid import picture_grid
from commin.evaluation.records import WHOLE_SET
from commin.evaluation.results import Results, read_results
from commin.evaluation.table import Row, summarise


def read_table(results: Path) -> tuple[Results, list[Row]]:
    """The records of a folder or file, and their summary. Raises UserError if there are none."""
    found = read_results(results)
    if not found:
        raise UserError(f"{results}: no records there yet")
    return found, summarise(found, all_distances(results))


def draw(results: Path, folder: Path) -> list[Path]:
    """Every figure that the records allow, PNG and PDF: one of quality and one of perception for each channel.

    Another of quality for each SNR that the encoder was told where it was not the true one, and one of mismatch for
    each channel and ρ where both ends were told an SNR.
    """
    found, rows = read_table(results)
    paths = []
    for channel in sorted({row.place.channel for row in rows if row.place.matched}):
        paths += figures.save(figures.quality_over_snr(rows, channel), folder, f"quality-{channel.replace(':', '-')}")
        if any(row.backbone for row in rows if row.place.channel == channel):
            name = f"perception-{channel.replace(':', '-')}"
            paths += figures.save(figures.perception(rows, channel), folder, name)
    off = {(p.channel, p.design_snr_db) for p in (r.place for r in rows) if p.told_snr_db is None and not p.matched}
    for channel, design in sorted(off):
        name = f"quality-{channel.replace(':', '-')}-made-for{design:+g}dB"
        paths += figures.save(figures.quality_over_snr(rows, channel, design), folder, name)
    for channel, bcr in sorted({(row.place.channel, row.place.bcr) for row in rows if row.place.both_told}):
        name = f"mismatch-{channel.replace(':', '-')}-{bcr.replace('/', '-')}"
        paths += figures.save(figures.mismatch_over_snr(rows, channel, bcr), folder, name)
    if any(row.pictures for row in rows if row.place.matched):
        paths += figures.save(figures.quality_over_time(rows, seconds(found)), folder, "time")
    return paths


def seconds(results: Results) -> dict[str, float]:
    """Mean seconds of decoding a picture for each system that makes pictures."""
    times: dict[str, list[float]] = {}
    for (system, _), samples in results.items():
        if samples.keys[0][0] != WHOLE_SET:
            times.setdefault(system, []).extend(samples.columns["seconds"])
    return {system: sum(values) / len(values) for system, values in times.items()}


def draw_grids(results: Path, photos: Sequence[Path], folder: Path, crop: str, device: str) -> list[Path]:
    """The picture grid of every photo and ρ, PNG and PDF; the sweep is read from ``sweep.json`` beside the records."""
    path = (results if results.is_dir() else results.parent) / "sweep.json"
    try:
        config = SweepConfig.model_validate(json.loads(path.read_text())["config"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValidationError):
        raise UserError(f"{path}: no sweep there to send photos with") from None
    paths = []
    for photo in photos:
        for bcr in config.bcr:
            grid = picture_grid(photo, config, bcr, crop, device)
            for suffix in ("png", "pdf"):
                paths.append(folder / f"grid-{photo.stem}-{bcr.replace('/', '-')}.{suffix}")
                grid.save(paths[-1])
    return paths
