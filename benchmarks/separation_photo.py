"""One photo through the systems of a sweep at its size: what separate coding looks like beside DeepJSCC.

usage: python benchmarks/separation_photo.py PHOTO SWEEP.yaml --data FOLDER|ZIP [--bcr 1/48] [--crop top] -o PICTURE.png

The data set is what the separate systems choose modulation, code rate and known headers on. Prints PSNR, LPIPS and what
was sent for each picture.
"""

import argparse
from pathlib import Path
from typing import cast

import torch

from commin.channels import channel
from commin.evaluation.bench import Bench, Spec
from commin.evaluation.config import read_sweep
from commin.evaluation.panel import Cell, panel
from commin.evaluation.systems import Point, Scheme, Way
from commin.images import crop_box, frame, open_photo, save_picture, to_tensor
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr
from commin.randomness import image_generators
from commin.receivers.base import Receiver
from commin.zoo.load import load


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bcr", default="1/48")
    parser.add_argument("--crop", default="top")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    config = read_sweep(options.sweep)
    bench, lpips, link = Bench(Spec(config, options.data)), try_lpips(), load(config.model, options.bcr)
    photo = open_photo(options.photo)
    image = to_tensor(frame(photo, crop_box(*photo.size, options.crop), (bench.size, bench.size)))[None]
    rows = []
    for name in config.systems:
        row = [Cell(image[0], name, ("original",))]
        for snr_db in config.snr_db:
            point = Point(options.bcr, "awgn", snr_db, snr_db, None, 0)
            system, note = bench.system(name, point), ""
            if isinstance(system, Scheme):
                way = Way(channel("awgn"), point, image_generators(image, 0, "channel"))
                sent = system.send(image, way)
                restored, note = sent.images, sent.notes[0]
            else:
                link.receiver = cast("Receiver", system)
                restored = link.transmit(image, snr_db).images
            lines = [f"PSNR {float(psnr(restored, image)):.1f} dB"]
            lines += [f"LPIPS {float(lpips(restored, image)):.3f}"] if lpips else []
            print(f"{name}, {snr_db:g} dB: {', '.join([*lines, note])}", flush=True)
            row.append(Cell(restored[0], f"{snr_db:g} dB", (*lines, note.split(",")[0])))
        rows.append(row)
    symbols = bench.symbols(Point(options.bcr, "awgn", 0.0, 0.0, None, 0))
    save_picture(panel(rows, f"ρ = {options.bcr}, k = {symbols}, awgn, {bench.size} pixels a side"), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
