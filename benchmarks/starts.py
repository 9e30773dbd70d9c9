"""Where the walk of commin-fast should start and how far it should trust y: LPIPS over a grid, for each ρ and SNR.

usage: python benchmarks/starts.py [--starts 0.35,0.5,0.65] [--weights 0.15,0.3,0.45] [--limit 32] [--out FILE.json]
Pictures of the ``valid`` split, not the first 64, which ``commin fit`` takes. One weight for all steps. A row holds
what one sample costs in PSNR and its LPIPS over DeepJSCC's, then the same at the naturalness that costs ``--drop`` dB.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from commin.data.imageset import ImageSet, load_pixels
from commin.home import data_path, home
from commin.images import from_uint8
from commin.link import Link
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr
from commin.precision import fast_dtype
from commin.randomness import image_generators
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_fit import Examples, fit_naturalness
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.units import parse_bcr
from commin.zoo.load import load
from commin.zoo.receivers import Parts

SKIPPED = 64
"""Validation pictures that are left to ``commin fit``."""

CPU = torch.device("cpu")


def pictures(limit: int) -> Tensor:
    """Validation pictures after the skipped ones, (B, 3, 64, 64) in [0, 1]."""
    source = ImageSet(data_path(None))
    entries = source.split("valid", SKIPPED + limit)[SKIPPED:]
    return from_uint8(load_pixels(source, entries, 64, "celeba", home() / "cache"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="faces64")
    parser.add_argument("--bcr", default="1/192,1/48,1/12")
    parser.add_argument("--snr", default="-5,0,5")
    parser.add_argument("--starts", default="0.35,0.5,0.65")
    parser.add_argument("--weights", default="0.15,0.3,0.45")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("--drop", type=float, default=0.8)
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lpips, rows = try_lpips(), []
    if lpips is None:
        raise SystemExit("commin zoo pull lpips-squeeze first")
    images = pictures(options.limit)
    for bcr in options.bcr.split(","):
        parts, plain = Parts(options.model, parse_bcr(bcr), CPU), load(options.model, bcr)
        prior, inn = parts.prior(fast_dtype(CPU)), parts.inn(fast_dtype(CPU))
        for snr in map(float, options.snr.split(",")):
            sent = plain.transmit(images, snr, 0)
            y, before = sent.images, lpips(sent.images, images).mean()
            drawn = image_generators(images, 0, "fit")
            examples = Examples(images, y, plain.bcr, snr, drawn, sent.received.symbols)
            for start in map(float, options.starts.split(",")):
                for weight in map(float, options.weights.split(",")):
                    point = FastPoint(bcr=bcr, snr_db=snr, start=start, weights=(weight,), naturalness=1.0)
                    settings = FastSettings(steps=options.steps, eta=options.eta, points=(point,))
                    link = Link(plain.codec, plain.bcr, plain.channel, CommINFast(prior, inn, settings))
                    sample = link.transmit(images, snr, 0).images
                    row: dict[str, str | float] = {"bcr": bcr, "snr_db": snr, "start": start, "weight": weight}
                    for name, share in (("one", 1.0), ("blended", fit_naturalness(examples, sample, options.drop))):
                        shown = torch.lerp(y, sample, share)
                        row[f"{name} naturalness"] = share
                        row[f"{name} psnr_db"] = float((psnr(shown, images) - psnr(y, images)).mean())
                        row[f"{name} ratio"] = float(lpips(shown, images).mean() / before)
                    rows.append(row)
                    cells = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
                    print("  ".join(cells), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
