"""Part ``tune`` of inverse.py: for each ρ the search of lowest LPIPS on validation pictures, over its SNRs."""

from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path

from inverse_bench import SNRS_DB, Bench, Row, Tasks, search_of
from inverse_rows import point_row

from commin.receivers.commin_table import write_settings
from commin.receivers.inverse_jscc import InverseSettings
from commin.stylegan2.ilo import IloConfig


def make_grid(ratios: str, steps: str, rates: str, weights: str) -> tuple[tuple[str, IloConfig], ...]:
    """Searches from options: ratios, phases by commas and several by semicolons, rates, weights of LPIPS over MSE's."""
    shares = [tuple(int(count) for count in part.split(",")) for part in steps.split(";")]
    by_rate, by_weight = ([float(part) for part in text.split(",")] for text in (rates, weights))
    return tuple(
        (bcr, search_of(share, rate, weight))
        for bcr, share, rate, weight in product(ratios.split(","), shares, by_rate, by_weight)
    )


def tune_tasks(bench: Bench) -> Tasks:
    """Every search of the grid."""
    return {
        f"{bcr}, steps {','.join(map(str, s.steps))}, rate {s.rates[0]:g}, LPIPS × {s.lpips:g}": partial(
            tune_row, bench, bcr, s
        )
        for bcr, s in bench.grid
    }


def tune_row(bench: Bench, bcr: str, search: IloConfig) -> Row:
    """Means over the SNRs."""
    rows = [point_row(bench, search, bcr, snr_db, "valid") for snr_db in SNRS_DB]
    names = ("psnr_db", "lpips", "deepjscc_psnr_db", "deepjscc_lpips", "lpips_ratio")
    mean = {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in names}
    return {"bcr": bcr, "calls": search.network_calls, **mean, "search": search.model_dump(mode="json")}


def write_best(rows: Mapping[str, Row], path: Path) -> None:
    """The search of lowest LPIPS at each ρ, as settings of inverse-jscc."""
    best: dict[str, Row] = {}
    for row in sorted(rows.values(), key=lambda row: row["lpips"]):
        best.setdefault(row["bcr"], row)
    write_settings(InverseSettings.model_validate({"ratios": {bcr: row["search"] for bcr, row in best.items()}}), path)
    for bcr, row in best.items():
        print(f"ρ = {bcr}: {row['lpips_ratio']} of DeepJSCC's LPIPS, PSNR {row['psnr_db']} dB, by {row['search']}")
    print(f"settings: {path}")
