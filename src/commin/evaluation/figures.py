"""The figures of a sweep, from its records alone: quality over SNR, rate-distortion-perception, quality against time.

matplotlib is an extra (``plot``) and imported when a figure is drawn. Colours are Okabe and Ito's, told apart by
markers too; sizes are a column (3.4 in) and a page (7 in) wide.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commin.errors import UserError
from commin.evaluation.bootstrap import Interval
from commin.evaluation.table import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
MARKERS = "osD^vP*X"
LINE_STYLES = {"plain": "-", "lpips": "--", "reference": ":"}

Value = Callable[[Row], Interval]


def matplotlib() -> Any:
    """The package's pyplot, drawing to files. Raises UserError where it is not installed."""
    try:
        importlib.import_module("matplotlib").use("agg")
    except ImportError:
        raise UserError("plot: matplotlib is not installed; pip install 'commin[plot]'") from None
    plot = importlib.import_module("matplotlib.pyplot")
    plot.rcParams.update(
        {
            "font.size": 8,
            "axes.titlesize": 8,
            "legend.fontsize": 7,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.5,
            "lines.linewidth": 1.2,
            "lines.markersize": 4,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "savefig.dpi": 200,
            "pdf.fonttype": 42,
            "figure.constrained_layout.use": True,
        }
    )
    return plot


def style(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Colour and marker of each system, by name: the same in every figure that is given the same table."""
    count = len(PALETTE)
    systems = sorted({row.system for row in rows})
    return {
        n: {"color": PALETTE[i % count], "marker": MARKERS[(i + i // count) % count]} for i, n in enumerate(systems)
    }


def psnr_of(row: Row) -> Interval:
    """Mean PSNR of the pictures; of a line, that of its mean squared error."""
    return row.psnr_db if row.pictures else Interval(row.psnr_of_mse_db, math.nan, math.nan)


def lpips_of(row: Row) -> Interval:
    """Mean LPIPS."""
    return row.lpips


def measures(rows: Sequence[Row]) -> list[tuple[str, Value]]:
    """Label and value of what there is to be shown: PSNR, and LPIPS named by its backbone where it was measured."""
    backbone = next((row.backbone for row in rows if row.backbone), "")
    found: list[tuple[str, Value]] = [("PSNR (dB)", psnr_of)]
    return [*found, (f"LPIPS ({backbone}) ↓", lpips_of)] if backbone else found


def quality_over_snr(rows: Sequence[Row], channel: str, design_snr_db: float | None = None) -> "Figure":
    """The paper's figure: PSNR and LPIPS over SNR, a panel for each ρ, bars 95 % intervals over identities.

    With ``design_snr_db`` of transmissions all made for that SNR; where it is not the true one a cliff shows.
    """
    chosen = [row for row in rows if row.place.channel == channel and row.place.made_for(design_snr_db)]
    made = "" if design_snr_db is None else f", made for {design_snr_db:g} dB"
    columns = [
        (f"ρ = {bcr}, k = {k}", [row for row in chosen if row.place.bcr == bcr]) for bcr, k in _bcrs(chosen).items()
    ]
    return _panels(columns, f"SNR (dB), {channel}{made}", style(rows))


def mismatch_over_snr(rows: Sequence[Row], channel: str, bcr: str) -> "Figure":
    """PSNR and LPIPS over the true SNR at one ρ, a panel for each SNR that both ends are told whatever the true one."""
    chosen = [row for row in rows if row.place.channel == channel and row.place.bcr == bcr and row.place.both_told]
    told = sorted({row.place.design_snr_db for row in chosen})
    columns = [(f"both ends told {snr:g} dB", [r for r in chosen if r.place.design_snr_db == snr]) for snr in told]
    return _panels(columns, f"true SNR (dB), {channel}, ρ = {bcr}", style(rows))


def _panels(columns: Sequence[tuple[str, Sequence[Row]]], below: str, looks: dict[str, dict[str, str]]) -> "Figure":
    """A row of panels for each measure, a column for each title and its rows, curves over SNR."""
    plot = matplotlib()
    rows = [row for _, part in columns for row in part]
    shown, systems = measures(rows), sorted({row.system for row in rows})
    width = PAGE if len(columns) > 1 else COLUMN
    figure, axes = plot.subplots(len(shown), len(columns), figsize=(width, 2.0 * len(shown) + 0.7), sharex=True,
                                 sharey="row", squeeze=False)  # fmt: skip
    for column, (title, part) in enumerate(columns):
        for line, (label, value) in enumerate(shown):
            axis = axes[line][column]
            for system in systems:
                _curve(axis, [row for row in part if row.system == system], value, looks[system], system)
            if column == 0:
                axis.set_ylabel(label)
            if line == 0:
                axis.set_title(title)
            if line == len(shown) - 1:
                axis.set_xlabel(below)
                snrs = sorted({row.place.snr_db for row in rows})
                if len(snrs) < 8:
                    axis.set_xticks(snrs)
    _legend(figure, axes, 4 if width == PAGE else 2)
    return figure


def _curve(axis: Any, points: Sequence[Row], value: Value, look: dict[str, str], label: str) -> None:
    points = [row for row in sorted(points, key=lambda row: row.place.snr_db) if not math.isnan(value(row).mean)]
    if not points:
        return
    snrs, values = [row.place.snr_db for row in points], [value(row) for row in points]
    bars = [[_bar(v.mean - v.low) for v in values], [_bar(v.high - v.mean) for v in values]]
    axis.errorbar(snrs, [v.mean for v in values], bars, label=label, capsize=2, elinewidth=0.8,
                  linestyle=LINE_STYLES[points[0].group], **look)  # fmt: skip


def _bar(length: float) -> float:
    return 0.0 if math.isnan(length) else max(0.0, length)


def perception(rows: Sequence[Row], channel: str) -> "Figure":
    """Rate, distortion and perception: LPIPS over PSNR, a panel for each ρ; the lowest SNR of each is ringed."""
    plot, looks = matplotlib(), style(rows)
    rows = [row for row in rows if row.place.channel == channel and row.place.matched and row.pictures]
    rows = [row for row in rows if not math.isnan(row.lpips.mean)]
    if not rows:
        raise UserError("plot: no LPIPS in these records, so no figure of distortion and perception")
    bcrs, systems = _bcrs(rows), sorted({row.system for row in rows})
    width = PAGE if len(bcrs) > 1 else COLUMN
    figure, axes = plot.subplots(1, len(bcrs), figsize=(width, 2.8), sharey=True, squeeze=False)
    for axis, (bcr, k) in zip(axes[0], bcrs.items(), strict=True):
        for system in systems:
            points = sorted(
                (row for row in rows if row.system == system and row.place.bcr == bcr), key=lambda r: r.place.snr_db
            )
            if points:
                x, y = [row.psnr_db.mean for row in points], [row.lpips.mean for row in points]
                axis.plot(x, y, label=system, linestyle=LINE_STYLES[points[0].group], **looks[system])
                axis.scatter(x[:1], y[:1], s=50, facecolors="none", edgecolors=looks[system]["color"])
        axis.set_title(f"ρ = {bcr}, k = {k}")
        axis.set_xlabel("PSNR (dB)")
    axes[0][0].set_ylabel(measures(rows)[1][0])
    _legend(figure, axes, 4 if width == PAGE else 2)
    return figure


def quality_over_time(rows: Sequence[Row], seconds: dict[str, float]) -> "Figure":
    """LPIPS and PSNR, means over all matched places, against ``seconds`` of decoding one picture."""
    plot, looks = matplotlib(), style(rows)
    rows = [row for row in rows if row.place.matched and row.pictures]
    shown, systems = measures(rows), sorted({row.system for row in rows})
    figure, axes = plot.subplots(1, len(shown), figsize=(PAGE if len(shown) > 1 else COLUMN, 2.8), squeeze=False)
    for axis, (label, value) in zip(axes[0], shown, strict=True):
        for system in systems:
            values = [value(row).mean for row in rows if row.system == system]
            axis.plot([seconds[system]], [sum(values) / len(values)], label=system, linestyle="", **looks[system])
        axis.set_xscale("log")
        axis.set_xlabel("seconds a picture")
        axis.set_ylabel(label)
    _legend(figure, axes, 4)
    return figure


def _bcrs(rows: Sequence[Row]) -> dict[str, int]:
    ordered = sorted(rows, key=lambda row: row.place.order)
    if not ordered:
        raise UserError("plot: no records to draw")
    return {row.place.bcr: row.k for row in ordered}


def _legend(figure: Any, axes: Any, columns: int) -> None:
    entries: dict[str, Any] = {}
    for axis in axes.flat:
        handles, labels = axis.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write ``NAME.png`` and ``NAME.pdf`` and close the figure."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    matplotlib().close(figure)
    return paths
