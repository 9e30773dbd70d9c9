"""One system of a sweep beside DeepJSCC: the README's table of CommIN, and the mean and worst LPIPS ratio.

usage: python benchmarks/versus.py results/faces64-commin [--system commin-fast]
Bold where the 95 % interval of the paired LPIPS difference to DeepJSCC leaves out 0.
"""

import argparse
import csv
import sys
from pathlib import Path

BASE = "deepjscc"


def rows(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """The rows of ``table.csv`` by (ρ, SNR, system)."""
    with (folder / "table.csv").open(newline="") as file:
        return {(row["bcr"], row["snr_db"], row["system"]): row for row in csv.DictReader(file)}


def ratio(row: dict[str, str], base: dict[str, str], name: str) -> float:
    return float(row[name]) / float(base[name]) if row[name] and base[name] else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", default="commin-fast")
    options = parser.parse_args()
    found, ratios = rows(options.folder), []
    name = "CommIN" if options.system == "commin-fast" else options.system
    print(f"| ρ | k | SNR dB | PSNR: DeepJSCC → {name} | LPIPS-Squeeze: DeepJSCC → {name} | ratio | retrieval's LPIPS "
          f"| below retrieval | KID: {name} ÷ DeepJSCC |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for (bcr, snr, system), row in sorted(found.items(), key=lambda item: (int(item[1]["k"]), float(item[0][1]))):
        if system != options.system:
            continue
        base, retrieval = found[bcr, snr, BASE], found.get((bcr, snr, "retrieval"))
        ratios.append(ratio(row, base, "lpips"))
        surely = float(row["lpips_gain_high"]) < 0
        lpips = f"**{float(row['lpips']):.3f}**" if surely else f"{float(row['lpips']):.3f}"
        beside = "– | –" if retrieval is None else (
            f"{float(retrieval['lpips']):.3f} | {100 * (1 - ratio(row, retrieval, 'lpips')):.0f} %"
        )  # fmt: skip
        print(f"| {bcr} | {row['k']} | {float(snr):g} | {float(base['psnr_db']):.2f} → {float(row['psnr_db']):.2f} "
              f"| {float(base['lpips']):.3f} → {lpips} | {ratios[-1]:.2f} | {beside} "
              f"| {ratio(row, base, 'kernel'):.2f} |")  # fmt: skip
    if not ratios:
        print(f"{options.folder}: holds no {options.system}", file=sys.stderr)
        return 2
    print(f"\nLPIPS ratio: mean {sum(ratios) / len(ratios):.2f}, worst {max(ratios):.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
