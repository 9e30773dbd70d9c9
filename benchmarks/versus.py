"""One system of a sweep beside DeepJSCC, point by point, or all of them in a line each: the README's tables.

usage: python benchmarks/versus.py results/faces64 [--system commin-fast | --all | --against OTHER]
What stands beside a system's figures is that of the same pictures, where it had fewer of them; but KID, an unbiased
estimate, is over all that each had, to the originals of these pictures, no picture meeting its own, and to the train
split; in brackets there that of the originals themselves, other people than the train split's: no receiver should come
below it. Bold where the 95 % interval of the paired LPIPS difference leaves out 0.
--against sets every system beside itself in another folder: PSNR more, and LPIPS over LPIPS.
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from commin.evaluation.drawing import seconds
from commin.evaluation.features import ORIGINALS, read_distances
from commin.evaluation.results import read_results
from commin.units import parse_bcr

BASE = "deepjscc"


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of ``table.csv``."""
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rows(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """The same by (ρ, SNR, system)."""
    return {(row["bcr"], row["snr_db"], row["system"]): row for row in table(folder)}


def number(row: dict[str, str], name: str) -> float:
    return float(row[name] or "nan")


def over(row: dict[str, str], base: dict[str, str], name: str) -> float:
    """A figure of one row over that of another; NaN where a table of before lacks it."""
    return number(row, name) / number(base, name) if name in row else math.nan


def beside(row: dict[str, str], name: str, difference: str) -> float:
    """The mean that a paired difference was taken to."""
    return number(row, name) - number(row, difference)


def signed(text: str) -> str:
    """With minus signs for hyphens."""
    return text.replace("-", "−")


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def summary(folder: Path) -> list[list[str]]:
    """Cells for each system: means over the points, by LPIPS."""
    lines, found, times = [], rows(folder), seconds(read_results(folder))
    for name in dict.fromkeys(system for _, _, system in found):
        mine = {key: row for key, row in found.items() if key[2] == name and not math.isnan(number(row, "lpips_gain"))}
        if not mine:
            continue
        ratios = [number(row, "lpips") / beside(row, "lpips", "lpips_gain") for row in mine.values()]
        cost = sum(number(row, "psnr_gain") for row in mine.values()) / len(mine)
        ratio, row = sum(ratios) / len(mine), next(iter(mine.values()))
        kernel = sum(over(a, found[*key[:2], BASE], "kernel_to_originals") for key, a in mine.items()) / len(mine)
        shown = "–" if math.isnan(kernel) else f"{kernel:.2f}"
        lines.append((ratio, [
            f"`{name}`", row["network_calls"], row["pictures"], signed(f"{cost:+.2f} dB"),
            f"{ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f})", shown, f"{times[name]:#.2g}".rstrip("."),
        ]))  # fmt: skip
    return [cells for _, cells in sorted(lines)]


def against(folder: Path, other: Path) -> list[list[str]]:
    """PSNR more and LPIPS over that of the other folder, for each system at each point on equal pictures."""
    found, before = rows(folder), rows(other)
    names, lines = sorted({system for _, _, system in found}), []
    for bcr, snr in sorted({key[:2] for key in found}, key=lambda point: (parse_bcr(point[0]), float(point[1]))):
        lines.append([bcr, signed(f"{float(snr):g}")])
        for name in names:
            one, two = found.get((bcr, snr, name)), before.get((bcr, snr, name))
            if one is None or two is None or one["pictures"] != two["pictures"]:
                print(f"{name} at {bcr}, {snr} dB: not on as many pictures in both folders", file=sys.stderr)
                raise SystemExit(2)
            gain, ratio = number(one, "psnr_db") - number(two, "psnr_db"), number(one, "lpips") / number(two, "lpips")
            lines[-1].append(signed(f"{gain:+.2f} dB, {ratio:.2f}"))
    return lines


def points(folder: Path, name: str) -> list[list[str]]:
    """Cells for each point of one system: PSNR, LPIPS, its ratio, retrieval's, KID."""
    found, lines = rows(folder), []
    real = read_distances(folder).get((ORIGINALS, None), math.nan)
    for (bcr, snr, system), row in sorted(found.items(), key=lambda item: (int(item[1]["k"]), float(item[0][1]))):
        if system != name:
            continue
        psnr, lpips = (number(row, key) for key in ("psnr_db", "lpips"))
        before, retrieval = (beside(row, "lpips", key) for key in ("lpips_gain", "beyond_retrieval"))
        base = found[bcr, snr, BASE]
        shown = f"**{lpips:.3f}**" if number(row, "lpips_gain_high") < 0 else f"{lpips:.3f}"
        lines.append([
            bcr, row["k"], signed(f"{float(snr):g}"), f"{beside(row, 'psnr_db', 'psnr_gain'):.2f} → {psnr:.2f}",
            f"{before:.3f} → {shown}", f"{lpips / before:.2f}",
            *(("–", "–") if math.isnan(retrieval) else (f"{retrieval:.3f}", f"{100 * (1 - lpips / retrieval):.0f} %")),
            f"{over(row, base, 'kernel_to_originals'):.2f}".replace("nan", "–"),
            f"{over(row, base, 'kernel'):.2f} ({real / number(base, 'kernel'):.2f})",
        ])  # fmt: skip
    return lines


def heads(folder: Path, name: str, other: Path | None, every: bool) -> list[str]:
    """What stands over the columns."""
    if other:
        return ["ρ", "SNR dB", *(f"`{system}`" for system in sorted({key[2] for key in rows(folder)}))]
    if every:
        return ["system", "network calls", "pictures", "PSNR − DeepJSCC's", "LPIPS ÷ DeepJSCC's (points)",
                "KID to the originals ÷ DeepJSCC's", "s a picture"]  # fmt: skip
    shown = "CommIN" if name == "commin-fast" else name
    return ["ρ", "k", "SNR dB", f"PSNR: DeepJSCC → {shown}", f"LPIPS-Squeeze: DeepJSCC → {shown}", "ratio",
            "retrieval's LPIPS", "below retrieval", f"KID to the originals: {shown} ÷ DeepJSCC",
            f"to the train split: {shown} (originals) ÷ DeepJSCC"]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", default="commin-fast")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    folder, other = options.folder, options.against
    cells = against(folder, other) if other else summary(folder) if options.all else points(folder, options.system)
    if not cells:
        print(f"{folder}: holds no {options.system}", file=sys.stderr)
        return 2
    names = heads(folder, options.system, other, options.all)
    print(line(names), line(["---"] * len(names)).replace(" ", ""), *map(line, cells), sep="\n")
    if not options.all and not other:
        found = rows(folder)
        mine = [row for key, row in found.items() if key[2] == options.system]
        ratios = [number(row, "lpips") / beside(row, "lpips", "lpips_gain") for row in mine]
        print(f"\nLPIPS ratio: mean {mean(ratios):.2f}, worst {max(ratios):.2f}")
        bases = [found[row["bcr"], row["snr_db"], BASE] for row in mine]
        real = read_distances(folder).get((ORIGINALS, None), math.nan)
        for name, place in (("kernel_to_originals", "originals"), ("kernel", "train split")):
            kernels = [over(*pair, name) for pair in zip(mine, bases, strict=True)]
            if not any(map(math.isnan, kernels)):
                print(f"KID to the {place} ÷ DeepJSCC's: mean {mean(kernels):.2f}, worst {max(kernels):.2f}")
        own = mean([real / number(base, "kernel") for base in bases])
        print(f"the originals' own to the train split ÷ DeepJSCC's: {own:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
