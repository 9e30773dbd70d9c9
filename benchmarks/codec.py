"""The codec on a data set: PSNR at every ρ and SNR beside the uncoded (PCA) and Gaussian OPTA lines, LPIPS, SSIM.

usage: python benchmarks/codec.py --data FOLDER|ZIP [--model faces64|FILE] [--ratios 1/12,…] [--snrs=-5,0,…] [--limit N]
       [--refine N] [--out FILE.json]
PSNR is of the mean MSE, as the lines are; the mean of per-picture PSNR stands beside it. 95 % intervals are
bootstrapped over identities. A killed run goes on with --out.
"""

import argparse
import itertools
import json
import platform
from pathlib import Path
from typing import Any

import torch
from spaced import spaced

import commin
from commin.atomic import write_text
from commin.data.imageset import ImageSet, load_pixels, split_hash
from commin.evaluation.lines import covariance_eigenvalues, opta_mse, pca_mse
from commin.home import data_path, home
from commin.images import from_uint8
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import mse, psnr, ssim
from commin.randomness import generator
from commin.units import latent_channels, linear_to_db, parse_bcr
from commin.zoo.cards import sha256
from commin.zoo.load import codec_path

Row = dict[str, Any]


def interval(errors: torch.Tensor, identities: list[str], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the PSNR of the mean MSE, resampling identities."""
    names = sorted(set(identities))
    groups = [errors[[i for i, who in enumerate(identities) if who == name]] for name in names]
    sums, counts = torch.stack([g.sum() for g in groups]), torch.tensor([len(g) for g in groups])
    picks = torch.randint(len(names), (draws, len(names)), generator=generator("bootstrap"))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = (-10 * means.log10()).quantile(torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high


def point(
    link: commin.Link, images: torch.Tensor, snr: float, seed: int, refinement: int = 0
) -> dict[str, torch.Tensor]:
    """Per-picture figures of one (ρ, SNR)."""
    lpips = try_lpips()
    columns: dict[str, list[torch.Tensor]] = {"mse": [], "psnr": [], "ssim": [], "lpips": [], "snr": []}
    for part in images.split(32 if refinement else 64):
        result = link.transmit(part, snr, seed, refinement=refinement)
        columns["mse"].append(mse(result.images, part))
        columns["psnr"].append(psnr(result.images, part))
        columns["ssim"].append(ssim(result.images, part))
        columns["snr"].append(result.measured_snr_db)
        if lpips:
            with torch.no_grad():
                columns["lpips"].append(lpips(result.images, part))
    return {name: torch.cat(values) for name, values in columns.items() if values}


def summary(
    got: dict[str, torch.Tensor], bcr: str, snr: float, identities: list[str], lines: torch.Tensor | None
) -> Row:
    """The row of one (ρ, SNR) from its per-picture figures."""
    k = latent_channels(parse_bcr(bcr)) // 2 * 16
    ours = linear_to_db(1 / float(got["mse"].mean()))
    pca, opta = (linear_to_db(1 / f(lines, k, snr)) if lines is not None else None for f in (pca_mse, opta_mse))
    return {
        "bcr": bcr, "k": k, "snr_db": snr, "measured_snr_db": round(float(got["snr"].mean()), 3),
        "psnr_of_mean_mse_db": round(ours, 3),
        "interval_db": [round(v, 2) for v in interval(got["mse"], identities)],
        "pca_db": pca and round(pca, 3), "opta_db": opta and round(opta, 3),
        "share_of_gap": round((ours - pca) / (opta - pca), 3) if pca and opta else None,
        "mean_psnr_db": round(float(got["psnr"].mean()), 3), "ssim": round(float(got["ssim"].mean()), 4),
        "lpips_squeeze": round(float(got["lpips"].mean()), 4) if "lpips" in got else None,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="faces64")
    parser.add_argument("--ratios", default="1/192,1/48,1/12")
    parser.add_argument("--snrs", default="-5,0,5", help="in dB, as --snrs=-5,0")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, help="that many pictures of the split, evenly spaced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-lines", action="store_true", help="skip the PCA and OPTA lines (minutes the first time)")
    parser.add_argument("--refine", type=int, default=0, help="steps by which the transmitter refines its symbols")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    source = ImageSet(data_path(options.data))
    entries = source.split(options.split)
    entries = spaced(entries, options.limit or len(entries))
    images = from_uint8(load_pixels(source, entries, 64, "celeba", home() / "cache"))
    lines = None
    if not options.no_lines:
        train = load_pixels(source, source.split("train"), 64, "celeba", home() / "cache")
        lines = covariance_eigenvalues(train, home() / "cache")

    path = codec_path(options.model)
    about = {
        "data": source.path.name, "split": options.split, "split_sha256": split_hash(entries),
        "images": len(images), "seed": options.seed, "refinement": options.refine,
        "weights": {path.name: sha256(path)},
        "commin": commin.__version__,
        "torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }  # fmt: skip
    kept = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    points: list[Row] = kept["points"] if kept.get("about") == about else []
    alike = [row for row in points if (row["pca_db"] is None) == (lines is None)]
    known = {(row["bcr"], row["snr_db"]): row for row in alike}
    rows = []
    print("     ρ     k  SNR   PSNR          95 %    PCA   OPTA  share   mean   SSIM  LPIPS")
    for bcr, snr in itertools.product(options.ratios.split(","), map(float, options.snrs.split(","))):
        if (bcr, snr) not in known:
            got = point(commin.load(options.model, bcr=bcr), images, snr, options.seed, options.refine)
            known[bcr, snr] = summary(got, bcr, snr, [e.identity or e.file for e in entries], lines)
        rows.append(row := known[bcr, snr])
        low, high = row["interval_db"]
        print(
            f"{bcr:>6} {row['k']:5} {snr:4.0f} {row['psnr_of_mean_mse_db']:6.2f} {low:6.2f}–{high:.2f} "
            f"{row['pca_db'] or 0:6.2f} {row['opta_db'] or 0:6.2f} {row['share_of_gap'] or 0:6.2f} "
            f"{row['mean_psnr_db']:6.2f} {row['ssim']:6.3f} {row['lpips_squeeze'] or 0:6.3f}",
            flush=True,
        )
        if options.out:
            points = sorted(known.values(), key=lambda row: (row["k"], row["snr_db"]))
            write_text(options.out, json.dumps({"about": about, "points": points}, indent=1, ensure_ascii=False) + "\n")
    shares = [row["share_of_gap"] for row in rows if row["share_of_gap"] is not None]
    if shares:
        print(f"share of the gap from PCA to OPTA: least {min(shares):.2f}, mean {sum(shares) / len(shares):.2f}")


if __name__ == "__main__":
    main()
