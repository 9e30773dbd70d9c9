"""The summary of a sweep: one row for each system and place, intervals over identities, k beside ρ, classes apart.

Nothing in it depends on the machine, the order of the work or an interruption: decode times are in the figures.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from commin.atomic import write_text
from commin.evaluation.bootstrap import Interval, interval, paired
from commin.evaluation.records import WHOLE_SET
from commin.evaluation.results import Results, Samples, pair
from commin.evaluation.systems.base import Place
from commin.units import linear_to_db

GROUPS = ("plain", "lpips", "reference")
"""Classes in the order of the table: those that never saw LPIPS, those whose loss did, reference systems."""

MISSING = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Row:
    """One system at one place.

    Attributes:
        pictures, identities: how many, seeds counted.
        psnr_db: mean of the pictures' PSNR; ``psnr_of_mse_db`` that of the mean squared error, which lines give.
        lpips: with ``backbone``; NaN where it was not to be had.
        lpips_gain, psnr_gain: paired differences to ``deepjscc``; below 0 is better for LPIPS.
        beyond_retrieval: the LPIPS difference to ``retrieval``: only what is below 0 counts as restoration.
        lost: share of the pictures of which nothing arrived.
        kernel: squared kernel distance on SqueezeNet features to the train split's pictures.
        kernel_to_originals: the same to the originals of these pictures, no picture meeting its own.
        fid: Fréchet distance on Inception features, where the sweep asked for it and has pictures enough.
    """

    system: str
    group: str
    place: Place
    k: int
    n: int
    pictures: int
    identities: int
    network_calls: int
    psnr_db: Interval
    psnr_of_mse_db: float
    measured_snr_db: float
    ssim: float
    lpips: Interval
    backbone: str
    psnr_gain: Interval = MISSING
    lpips_gain: Interval = MISSING
    beyond_retrieval: Interval = MISSING
    lost: float = 0.0
    kernel: float = math.nan
    kernel_to_originals: float = math.nan
    fid: float = math.nan


Distances = dict[tuple[str, Place | None], float]
"""Of a system at a place, or of the originals."""


def summarise(results: Results, distances: Mapping[str, Distances] | None = None) -> list[Row]:
    """The table's rows, by ρ, channel, SNRs, class and name; ``distances`` by the names of `Row`'s."""

    def measured(name: str, key: tuple[str, Place]) -> float:
        return (distances or {}).get(name, {}).get(key, math.nan)

    rows = [
        replace(
            _row(*key, samples, results),
            kernel=measured("kernel", key), kernel_to_originals=measured("kernel_to_originals", key),
            fid=measured("fid", key),
        )
        for key, samples in results.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row.place.order, GROUPS.index(row.group), row.system))


def _row(system: str, place: Place, samples: Samples, results: Results) -> Row:
    whole = samples.keys[0][0] == WHOLE_SET
    psnr, lpips = samples.column("psnr_db"), samples.column("lpips")
    return Row(
        system, samples.group if samples.group in GROUPS else GROUPS[0], place, samples.k, samples.n,
        0 if whole else len(psnr), 0 if whole else len(set(samples.identities)), samples.network_calls,
        MISSING if whole else interval(psnr, samples.identities), linear_to_db(1 / float(samples.mse.mean())),
        float(samples.column("measured_snr_db").mean()), float(samples.column("ssim").mean()),
        MISSING if lpips.isnan().any() else interval(lpips, samples.identities), samples.backbone,
        _difference(results, system, "deepjscc", place, "psnr_db"),
        _difference(results, system, "deepjscc", place, "lpips"),
        _difference(results, system, "retrieval", place, "lpips"), float(samples.column("lost").mean()),
    )  # fmt: skip


def _difference(results: Results, system: str, other: str, place: Place, column: str) -> Interval:
    if system == other or (other, place) not in results:
        return MISSING
    a, b, identities = pair(results[system, place], results[other, place], column)
    return paired(a, b, identities) if identities else MISSING


def write_csv(rows: list[Row], path: Path) -> None:
    """The table with every figure, whole or not at all."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for index, row in enumerate(rows):
        cells: dict[str, object] = {}
        for name, value in asdict(row).items():
            if name == "place":
                cells |= value
            elif isinstance(value, dict):
                cells |= {f"{name}{'' if part == 'mean' else f'_{part}'}": _digits(v) for part, v in value.items()}
            else:
                cells[name] = _digits(value) if isinstance(value, float) else value
        if index == 0:
            writer.writerow(cells)
        writer.writerow(cells.values())
    write_text(path, buffer.getvalue())


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


HEADER = ("ρ", "k", "channel", "SNR dB", "system", "class", "N", "PSNR dB [95 %]", "of MSE", "SSIM", "LPIPS [95 %]",
          "LPIPS − deepjscc", "LPIPS − retrieval", "lost", "kernel", "to originals", "FID")  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, one cell for each of `HEADER`, N as pictures/identities."""
    place = row.place
    off = "" if place.design_snr_db == place.snr_db else f" (design {place.design_snr_db:g})"
    told = "" if place.told_snr_db is None else f" (told {place.told_snr_db:g})"
    return (
        place.bcr, str(row.k), place.channel, f"{place.snr_db:g}{off}{told}", row.system, row.group,
        f"{row.pictures}/{row.identities}" if row.pictures else "set", _text(row.psnr_db, 2),
        f"{row.psnr_of_mse_db:.2f}", "" if math.isnan(row.ssim) else f"{row.ssim:.3f}", _text(row.lpips, 3),
        _text(row.lpips_gain, 3), _text(row.beyond_retrieval, 3), f"{row.lost:.0%}" if row.lost else "",
        *("" if math.isnan(value) else f"{value:.4g}" for value in (row.kernel, row.kernel_to_originals)),
        "" if math.isnan(row.fid) else f"{row.fid:.1f}",
    )  # fmt: skip


def _text(value: Interval, digits: int) -> str:
    if math.isnan(value.mean):
        return ""
    if math.isnan(value.low):
        return f"{value.mean:.{digits}f}"
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def as_text(rows: list[Row]) -> str:
    """The table in plain text, columns aligned."""
    lines = [HEADER, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
