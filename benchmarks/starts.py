"""Where the walk of commin-fast should start, how far it should trust y, and which detail it should show how strongly:
LPIPS over a grid, for each ρ and SNR.

usage: python benchmarks/starts.py [--starts 0.35,0.5,0.65] [--weights 0.15,0.3,0.45] [--noises 2]
       [--cutoffs 0,0.15] [--details 1,1.2] [--limit 32] [--out FILE.json]
Pictures of the ``valid`` split, not the first 64, which ``commin fit`` takes. One weight for all steps; ``--noises``
are in units of E‖y − c(x)‖², for ``--doubled`` steps. A row holds what one sample costs in PSNR and its LPIPS over
DeepJSCC's, then the same at the naturalness that costs ``--drop`` dB, with the kernel distance over DeepJSCC's; last
the row with the lowest LPIPS there.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from commin.data.imageset import ImageSet, load_pixels
from commin.evaluation.features import reference
from commin.evaluation.systems.base import TrainSplit
from commin.home import data_path, home
from commin.images import from_uint8
from commin.inn.degradation import misfit
from commin.link import Link
from commin.metrics.kid import kernel_distance, own_kernel
from commin.metrics.lpips import load_backbone, load_lpips
from commin.metrics.pixels import psnr
from commin.precision import fast_dtype
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.shown import fit_naturalness, with_detail
from commin.units import parse_bcr
from commin.zoo.load import load
from commin.zoo.receivers import Parts

SKIPPED = 64
"""Validation pictures that are left to ``commin fit``."""

CPU = torch.device("cpu")

Row = dict[str, Any]


def pictures(limit: int) -> Tensor:
    """Validation pictures after the skipped ones, (B, 3, 64, 64) in [0, 1]."""
    source = ImageSet(data_path(None))
    entries = source.split("valid", SKIPPED + limit)[SKIPPED:]
    return from_uint8(load_pixels(source, entries, 64, "celeba", home() / "cache"))


def kernel_to_train() -> Callable[[Tensor], float]:
    """Kernel distance of pictures (B, 3, 64, 64) in [0, 1] to the train split."""
    backbone = load_backbone("squeeze")
    real = reference(TrainSplit(ImageSet(data_path(None)), 64, "celeba", home() / "cache"), backbone)
    own = own_kernel(real)
    return lambda images: kernel_distance(torch.cat([backbone.pooled(each) for each in images.split(64)]), real, own)


def grid(*lists: str) -> Iterator[tuple[float, ...]]:
    """All combinations of comma-separated numbers."""
    return itertools.product(*(map(float, each.split(",")) for each in lists))


def line(row: Row) -> str:
    """A row as text."""
    return "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="faces64")
    parser.add_argument("--bcr", default="1/192,1/48,1/12")
    parser.add_argument("--snr", default="-5,0,5")
    parser.add_argument("--starts", default="0.35,0.5,0.65")
    parser.add_argument("--weights", default="0.15,0.3,0.45")
    parser.add_argument("--noises", default="2")
    parser.add_argument("--cutoffs", default="0,0.1,0.15,0.2")
    parser.add_argument("--details", default="1,1.1,1.2,1.3")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--doubled", type=int, default=0)
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("--drop", type=float, default=0.8)
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lpips, kernel, rows = load_lpips(), kernel_to_train(), list[Row]()
    images = pictures(options.limit)
    for bcr in options.bcr.split(","):
        parts, plain = Parts(options.model, parse_bcr(bcr), CPU), load(options.model, bcr)
        prior, inn = parts.prior(fast_dtype(CPU)), parts.inn(fast_dtype(CPU))
        for snr in map(float, options.snr.split(",")):
            sent = plain.transmit(images, snr, 0)
            y, before, far = sent.images, lpips(sent.images, images).mean(), kernel(sent.images)
            with torch.no_grad():
                wrong = 4 * float(misfit(inn.coarse(images, torch.full((len(images),), snr)), y).mean())
            found: list[Row] = []
            for start, weight, part in grid(options.starts, options.weights, options.noises):
                noise = round(part * wrong, 5)
                point = FastPoint(bcr=bcr, snr_db=snr, start=start, weights=(weight,), noise=noise)
                settings = FastSettings(steps=options.steps, doubled=options.doubled, eta=options.eta, points=(point,))
                link = Link(plain.codec, plain.bcr, plain.channel, CommINFast(prior, inn, settings))
                walked = link.transmit(images, snr, 0).images
                for cutoff, detail in grid(options.cutoffs, options.details):
                    row: Row = {"bcr": bcr, "snr_db": snr, "start": start, "weight": weight, "noise": noise}
                    row |= {"cutoff": cutoff, "detail": detail}
                    sample = with_detail(y, walked, torch.tensor(cutoff), torch.tensor(detail))
                    shares = {"one": 1.0, "blended": fit_naturalness(y, sample, images, options.drop)}
                    for name, share in shares.items():
                        blend = torch.lerp(y, sample, share)
                        row[f"{name} naturalness"] = share
                        row[f"{name} psnr_db"] = float((psnr(blend, images) - psnr(y, images)).mean())
                        row[f"{name} ratio"] = float(lpips(blend, images).mean() / before)
                    row["kid"] = kernel(blend) / far
                    found.append(row)
                    print(line(row), flush=True)
            print("best:", line(min(found, key=lambda row: row["blended ratio"])), flush=True)
            rows += found
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
