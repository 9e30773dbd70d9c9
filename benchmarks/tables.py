"""The tables of the README and of docs/ from what results/ holds, so that no figure is copied by hand.

usage: python benchmarks/tables.py [--write]
The rows of a table under a line ``<!-- table: NAME -->`` are those of ``TABLES[NAME]``; a first cell that begins with a
system's name keeps what the page says after it. Without --write the pages that differ are named, with exit code 1.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from versus import against, line, points, signed, summary, table

from commin.units import parse_bcr

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARK = re.compile(r"(<!-- table: (\S+) -->\n\|.*\n\|[-|]+\n)((?:\|.*\n)*)")
SNRS_DB = (-5.0, 0.0, 5.0)
BCRS = ("1/192", "1/48", "1/12")
CORNERS = (("1/192", -5.0), ("1/48", 0.0), ("1/12", 5.0))
SYSTEMS = ("deepjscc", "commin-fast", "jscc-lpips")
Cells = list[list[str]]


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def short(value: float) -> str:
    """LPIPS without its leading 0."""
    return f"{value:.3f}".removeprefix("0")


def both(row: dict[str, Any]) -> str:
    return f"{row['psnr_db']:.2f}, {short(row['lpips'])}"


def codec() -> Cells:
    """The codec at nine points, and with its symbols refined."""
    refined = {(row["bcr"], row["snr_db"]): row for row in read("codec_refined.json")["points"]}
    lines = []
    for row in read("codec.json")["points"]:
        more = refined[row["bcr"], row["snr_db"]]
        low, high = row["interval_db"]
        lines.append([
            row["bcr"], str(row["k"]), signed(f"{row['snr_db']:g}"), f"{row['psnr_of_mean_mse_db']:.2f}",
            f"{low:.2f}–{high:.2f}", f"{row['pca_db']:.2f}", f"{row['opta_db']:.2f}",
            f"{100 * row['share_of_gap']:.0f} %", f"{more['psnr_of_mean_mse_db']:.2f}",
            f"{100 * more['share_of_gap']:.0f} %", f"{row['mean_psnr_db']:.2f}",
            f"{row['ssim']:.3f}", f"{row['lpips_squeeze']:.3f}",
        ])  # fmt: skip
    return lines


def parts() -> Cells:
    """commin-fast with a part less."""
    rows = read("receivers.json")["ablations"]["rows"]
    found = {(row["last_call"], row["system"], row["bcr"], row["snr_db"]): row for row in rows}
    whole = [found[True, "whole", *point] for point in CORNERS]
    plain = [f"{row['deepjscc_psnr_db']:.2f}, {short(row['deepjscc_lpips'])}" for row in whole]
    names = {"whole": "its walk", "without the second call": "one call a step", "without the INN": "without the INN",
             "prior alone": "the prior alone", "one call": "one call"}  # fmt: skip
    lines = [
        [f"{label}{', last call' if last else ''}", *(with_kernel(found[last, name, *point]) for point in CORNERS)]
        for last in (True, False) for name, label in names.items()
    ]  # fmt: skip
    return [["DeepJSCC", *plain], ["`commin-fast`", *lines[0][1:]], *lines[1:]]


def with_kernel(row: dict[str, Any]) -> str:
    """PSNR, LPIPS, and KID to the originals over DeepJSCC's."""
    return f"{both(row)}, {row['kernel_ratio']:.2f}"


def calls() -> Cells:
    """Quality over the number of calls."""
    found = {(row["calls"], row["snr_db"]): row for row in read("receivers.json")["calls"]["rows"]}
    return [[str(count), *(both(found[count, snr]) for snr in SNRS_DB)] for count in dict.fromkeys(c for c, _ in found)]


def inn() -> Cells:
    """The INN's misfit beyond its floor, in percent of y's error."""
    rows = sorted(read("inn.json")["rows"], key=lambda row: parse_bcr(row["config"]["bcr"]))
    return [[row["config"]["bcr"], *(f"{row[f'excess % {snr:+g}']:.1f}" for snr in SNRS_DB)] for row in rows]


def inns() -> Cells:
    """INNs of one link, equally many pictures each."""
    lines = []
    for row in read("inn_kinds.json")["rows"]:
        low, high = row["config"]["snr_range_db"]
        told = "told the SNR" if low < high else signed(f"{low:g} dB alone")
        share = (row.get(f"excess % {snr:+g}") for snr in SNRS_DB)
        split, patch = {"copy": "copies", "dct": "4×4 DCT"}[row["config"]["split"]], row["config"]["patch"]
        kind, excess = f"{split}, {told}, {patch}×{patch} planes", ("–" if x is None else f"{x:.1f}" for x in share)
        lines.append([kind, f"{row['gflop']:.2f}", *excess])
    return lines


def flow() -> Cells:
    """The flows over their steps, at ρ = 1/48."""
    found = {(row["system"], row["order"], row["steps"], row["snr_db"]): row
             for row in read("receivers.json")["flow"]["rows"] if row["bcr"] == "1/48"}  # fmt: skip
    return [[f"{steps} of {('Euler', 'Heun')[order - 1]}, `{system}`", str(order * steps),
             *(both(found[system, order, steps, snr]) for snr in SNRS_DB)]
            for system, order, steps in dict.fromkeys(key[:3] for key in found)]  # fmt: skip


def flow_inn() -> Cells:
    """What the INN adds to the flow of five steps of Heun."""
    found = {(row["system"], row["bcr"], row["snr_db"]): row
             for row in read("receivers.json")["flow"]["rows"] if (row["order"], row["steps"]) == (2, 5)}  # fmt: skip
    return [[bcr, *(" → ".join(both(found[system, bcr, snr]) for system in ("pmrf", "pmrf-inn")) for snr in SNRS_DB)]
            for bcr in BCRS]  # fmt: skip


def literal() -> Cells:
    """Algorithm 1 of the paper and its late start beside commin-fast, the mean over groups of equal size."""
    rows = map(json.loads, (RESULTS / "literal.jsonl").read_text().splitlines())
    found = {(row["system"], row["snr_db"], row["group"]): row for row in rows if row["part"] == "compare"}

    def mean(system: str, snr_db: float, key: str) -> float:
        values = [row[key] for (name, snr, _), row in found.items() if (name, snr) == (system, snr_db)]
        return float(sum(values) / len(values))

    def figures(system: str, before: str = "") -> list[str]:
        return [both({key: mean(system, snr, before + key) for key in ("psnr_db", "lpips")}) for snr in SNRS_DB]

    names = {
        "commin": "`commin`", "commin-late": "`commin-late`", "commin-fast as drawn": "`commin-fast` as drawn",
        "commin-fast, 8 calls as drawn": "`commin-fast`, 8 calls as drawn", "commin-fast": "`commin-fast`",
    }  # fmt: skip
    lines = [["DeepJSCC", "", *figures("commin", "deepjscc_"), ""]]
    for system, label in names.items():
        seconds = sum(mean(system, snr, "seconds") for snr in SNRS_DB) / len(SNRS_DB)
        lines.append([label, f"{mean(system, 0.0, 'calls'):.0f}", *figures(system), f"{seconds:.2g}"])
    return lines


def ideals() -> Cells:
    """commin-fast with parts that know what the sender knows."""
    found = {(row["way"], row["bcr"], row["snr_db"]): row for row in read("ideals.json")["rows"]}
    names = {
        "as it is": "`commin-fast` as it is", "exact INN": "exact INN: the codec itself in the place of c",
        "no noise": "no noise on the symbols", "exact INN, no noise": "both",
        "true start": "begun at the noised true picture, not at the noised y",
        "agreed": "what LPIPS itself makes of 16 samples, by its gradient",
        "true detail": "the detail d of the true picture: f⁻¹(y, d), no walk",
    }  # fmt: skip
    shown = "{psnr_db:.2f}, {lpips_ratio:.2f}"
    return [[label, *(shown.format(**found[name, *point]) for point in CORNERS)] for name, label in names.items()]


def honesty() -> Cells:
    """What the map of --samples says, and what is, in the least and the most doubtful tenth of all pixels."""
    lines = []
    for row in read("honesty.json")["rows"]:
        ends = (f"{row['said'][end]:.3f}, {row['error'][end]:.3f}, {row['spread'][end]:.3f}" for end in (0, -1))
        worst = max(abs(said / error - 1) for said, error in zip(row["said"], row["error"], strict=True))
        lines.append(
            [row["bcr"], signed(f"{row['snr_db']:g}"), *ends, f"{100 * worst:.0f} %", f"{row['spread_share']:.2f}"]
        )
    return lines


def inverse() -> Cells:
    """InverseJSCC beside DeepJSCC."""
    lines = []
    for row in read("inverse.json")["points"]["rows"].values():
        gain, low, high = row["lpips_gain"]
        lines.append([
            row["bcr"], signed(f"{row['snr_db']:g}"), signed(f"{row['psnr_gain'][0]:+.2f} dB"),
            f"{row['deepjscc_lpips']:.3f} → {row['lpips']:.3f}", signed(f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"),
            f"{row['lpips_ratio']:.2f}",
        ])  # fmt: skip
    return lines


def mismatch() -> Cells:
    """True, design and told SNR, five or ten decibels apart."""
    keys = ("snr_db", "design_snr_db", "told_snr_db", "system")
    found = {tuple(row[key] for key in keys): row for row in table(RESULTS / "faces64-mismatch")}
    lines = []
    for true, wrong in ((-5.0, 5.0), (5.0, -5.0)):
        ways = {"the truth": (true, true), "the encoder": (wrong, true), "the receiver": (true, wrong)}
        for who, (design, told) in (ways | {"both": (wrong, wrong)}).items():
            cells = (found[f"{true}", f"{design}", f"{told}", system] for system in SYSTEMS)
            lines.append([
                signed(f"{true:g} dB"), who if design == told == true else signed(f"{who} {wrong:g} dB"),
                *(f"{float(row['psnr_db']):.1f}, {short(float(row['lpips']))}" for row in cells),
            ])  # fmt: skip
    return lines


TABLES: dict[str, Callable[[], Cells]] = {
    "codec": codec, "parts": parts, "calls": calls, "inn": inn, "inns": inns, "flow": flow, "flow_inn": flow_inn,
    "ideals": ideals, "honesty": honesty, "literal": literal, "inverse": inverse, "mismatch": mismatch,
    "faces64": lambda: points(RESULTS / "faces64", "commin-fast"),
    "walk": lambda: [cells[:-1] for cells in points(RESULTS / "faces64-walk", "commin-fast")],
    "ffhq": lambda: [cells[:-1] for cells in points(RESULTS / "faces64-ffhq", "commin-fast")],
    "one_step": lambda: [cells[:-1] for cells in points(RESULTS / "faces64", "one-step")],
    "rivals": lambda: summary(RESULTS / "faces64-rivals"),
    "refined": lambda: against(RESULTS / "faces64-refined", RESULTS / "faces64-rivals"),
}  # fmt: skip


def renewed(text: str) -> str:
    """A page with its tables made anew."""

    def made_anew(found: re.Match[str]) -> str:
        spans = (re.match(r"\| (`[^`]+`)(.*?) \|", row) for row in found[3].splitlines())
        notes = {span[1]: span[2] for span in spans if span}
        made = (line([cells[0] + notes.get(cells[0], ""), *cells[1:]]) for cells in TABLES[found[2]]())
        return found[1] + "".join(f"{row}\n" for row in made)

    return MARK.sub(made_anew, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    write, old = parser.parse_args().write, 0
    for page in PAGES:
        text = page.read_text()
        if (new := renewed(text)) != text:
            old += 1
            print(f"{page.relative_to(ROOT)}: {'written' if write else 'differs from results/'}")
            if write:
                page.write_text(new)
    return 0 if write else min(old, 1)


if __name__ == "__main__":
    raise SystemExit(main())
