"""One system of a sweep beside DeepJSCC, point by point, or all of them in a line each: the README's tables.

usage: python benchmarks/versus.py results/faces64 [--system commin-fast | --all | --against OTHER]
What stands beside a system's figures is that of the same pictures, where it had fewer of them; but KID, an unbiased
estimate, is over all that each had. Bold where the 95 % interval of the paired LPIPS difference leaves out 0.
--against sets every system beside itself in another folder: PSNR more, and LPIPS over LPIPS.
"""

import argparse
import csv
import math
import sys
from pathlib import Path

from commin.evaluation.drawing import seconds
from commin.evaluation.results import read_results

BASE = "deepjscc"


def rows(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """The rows of ``table.csv`` by (ρ, SNR, system)."""
    with (folder / "table.csv").open(newline="") as file:
        return {(row["bcr"], row["snr_db"], row["system"]): row for row in csv.DictReader(file)}


def number(row: dict[str, str], name: str) -> float:
    return float(row[name] or "nan")


def beside(row: dict[str, str], name: str, difference: str) -> float:
    """The mean that a paired difference was taken to."""
    return number(row, name) - number(row, difference)


def summary(folder: Path) -> int:
    """A line for each system: means over the points, by LPIPS."""
    print("| system | network calls | pictures | PSNR − DeepJSCC's | LPIPS ÷ DeepJSCC's (points) | KID ÷ DeepJSCC's "
          "| s a picture |\n|---|---|---|---|---|---|---|")  # fmt: skip
    lines, found, times = [], rows(folder), seconds(read_results(folder))
    for name in dict.fromkeys(system for _, _, system in found):
        mine = {key: row for key, row in found.items() if key[2] == name and not math.isnan(number(row, "lpips_gain"))}
        if not mine:
            continue
        ratios = [number(row, "lpips") / beside(row, "lpips", "lpips_gain") for row in mine.values()]
        cost = sum(number(row, "psnr_gain") for row in mine.values()) / len(mine)
        ratio, row = sum(ratios) / len(mine), next(iter(mine.values()))
        bases = [found[*key[:2], BASE] for key in mine]
        kernel = sum(number(a, "kernel") / number(b, "kernel") for a, b in zip(mine.values(), bases, strict=True))
        shown = f"{kernel / len(mine):.2f}" if row["pictures"] == bases[0]["pictures"] else "–"  # of equal N alone
        lines.append((ratio, f"| `{name}` | {row['network_calls']} | {row['pictures']} | {cost:+.2f} dB | {ratio:.2f} "
                             f"({min(ratios):.2f}–{max(ratios):.2f}) | {shown} | {times[name]:.2g} |"))  # fmt: skip
    print("\n".join(line for _, line in sorted(lines)))
    return 0 if lines else 2


def against(folder: Path, other: Path) -> int:
    """PSNR more and LPIPS over that of the other folder, for each system at each point on equal pictures."""
    found, before = rows(folder), rows(other)
    names = list(dict.fromkeys(system for _, _, system in found))
    print(f"| ρ | SNR dB | {' | '.join(f'`{name}`' for name in names)} |\n|---|---|{'---|' * len(names)}")
    for bcr, snr in dict.fromkeys(key[:2] for key in found):
        cells = []
        for name in names:
            one, two = found.get((bcr, snr, name)), before.get((bcr, snr, name))
            if one is None or two is None or one["pictures"] != two["pictures"]:
                print(f"{name} at {bcr}, {snr} dB: not on as many pictures in both folders", file=sys.stderr)
                return 2
            gain, ratio = number(one, "psnr_db") - number(two, "psnr_db"), number(one, "lpips") / number(two, "lpips")
            cells.append(f"{gain:+.2f} dB, {ratio:.2f}")
        print(f"| {bcr} | {float(snr):g} | {' | '.join(cells)} |")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", default="commin-fast")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    if options.against:
        return against(options.folder, options.against)
    if options.all:
        return summary(options.folder)
    found, ratios = rows(options.folder), []
    name = "CommIN" if options.system == "commin-fast" else options.system
    print(f"| ρ | k | SNR dB | PSNR: DeepJSCC → {name} | LPIPS-Squeeze: DeepJSCC → {name} | ratio | retrieval's LPIPS "
          f"| below retrieval | KID: {name} ÷ DeepJSCC |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for (bcr, snr, system), row in sorted(found.items(), key=lambda item: (int(item[1]["k"]), float(item[0][1]))):
        if system != options.system:
            continue
        psnr, lpips, kernel = (number(row, key) for key in ("psnr_db", "lpips", "kernel"))
        before, retrieval = (beside(row, "lpips", key) for key in ("lpips_gain", "beyond_retrieval"))
        ratios.append(lpips / before)
        shown = f"**{lpips:.3f}**" if number(row, "lpips_gain_high") < 0 else f"{lpips:.3f}"
        other = "– | –" if math.isnan(retrieval) else f"{retrieval:.3f} | {100 * (1 - lpips / retrieval):.0f} %"
        print(f"| {bcr} | {row['k']} | {float(snr):g} | {beside(row, 'psnr_db', 'psnr_gain'):.2f} → {psnr:.2f} "
              f"| {before:.3f} → {shown} | {ratios[-1]:.2f} | {other} "
              f"| {kernel / number(found[bcr, snr, BASE], 'kernel'):.2f} |")  # fmt: skip
    if not ratios:
        print(f"{options.folder}: holds no {options.system}", file=sys.stderr)
        return 2
    print(f"\nLPIPS ratio: mean {sum(ratios) / len(ratios):.2f}, worst {max(ratios):.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
