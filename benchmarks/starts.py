"""Where the walk of commin-fast should start: for each ρ, SNR and start, weights and naturalness fitted, then LPIPS.

usage: python benchmarks/starts.py [--starts 0.25,0.35,0.5,0.65] [--scales 1] [--limit 64] [--out results/starts.json]
Pictures of the ``valid`` split: the first ``--limit`` to fit on (squared errors alone), as many more to look at.
``--scales`` multiplies the fitted weights: y has a say in x0 already, as the walk starts from it.
"""

import argparse
import json
from pathlib import Path

import torch

from commin.data.imageset import ImageSet, load_pixels
from commin.home import data_path, home
from commin.images import from_uint8
from commin.link import Link
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_table import read_settings
from commin.units import parse_bcr
from commin.zoo.fitting import Fitter
from commin.zoo.load import load
from commin.zoo.receivers import Parts, fast_dtype

SNRS_DB = (-5.0, 0.0, 5.0)
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="faces64")
    parser.add_argument("--walk", type=Path, default=Path("recipes/faces64-commin-fast.yaml"))
    parser.add_argument("--bcr", default="1/192,1/48,1/12")
    parser.add_argument("--starts", default="0.25,0.35,0.5,0.65")
    parser.add_argument("--scales", default="1")
    parser.add_argument("--drop", type=float, default=0.75)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    source, lpips, rows = ImageSet(data_path(None)), try_lpips(), []
    if lpips is None:
        raise SystemExit("commin zoo pull lpips-squeeze first")
    pixels = load_pixels(
        source, source.split("valid", 2 * options.limit)[options.limit :], 64, "celeba", home() / "cache"
    )
    images, base = from_uint8(pixels), read_settings(FastSettings, options.walk)
    fitter = Fitter(options.model, source, "valid", options.limit, 1, CPU)
    for bcr in options.bcr.split(","):
        parts, plain = Parts(options.model, parse_bcr(bcr), CPU), load(options.model, bcr)
        prior, inn = parts.prior(fast_dtype(CPU)), parts.inn(fast_dtype(CPU))
        for snr in SNRS_DB:
            estimate = plain.transmit(images, snr, 0).images
            before = float(lpips(estimate, images).mean())
            for start in map(float, options.starts.split(",")):
                begun = base.model_copy(update={"points": (FastPoint(bcr=bcr, snr_db=snr, start=start),)})
                fitted = fitter.fit(bcr, snr, begun, "weights", False, options.drop)
                for scale in map(float, options.scales.split(",")):
                    point = fitted.model_copy(update={"weights": tuple(scale * w for w in fitted.weights)})
                    if scale != 1:
                        told = begun.model_copy(update={"points": (point,)})
                        point = fitter.fit(bcr, snr, told, "none", False, options.drop)
                    settings = base.model_copy(update={"points": (point,)})
                    link = Link(plain.codec, plain.bcr, plain.channel, CommINFast(prior, inn, settings))
                    restored = link.transmit(images, snr, 0).images
                    after = float(lpips(restored, images).mean())
                    rows.append({
                        "bcr": bcr, "snr_db": snr, "start": start, "scale": scale, "naturalness": point.naturalness,
                        "psnr_db": float((psnr(restored, images) - psnr(estimate, images)).mean()),
                        "lpips": after, "ratio": after / before,
                    })  # fmt: skip
                    cells = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items())
                    print("  ".join(cells), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
