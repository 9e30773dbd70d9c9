"""The walk of commin-fast begun from the picture of jscc-lpips, corrected towards DeepJSCC's y: LPIPS and PSNR.

usage: python benchmarks/sharper.py [--limit 32] [--starts 0.1,0.25] [--out FILE.json]
Pictures as in `starts.py`; ρ = 1/192, 1/48, 1/12 at −5, 0, 5 dB; each weight is the shipped one.
A row for jscc-lpips alone, for the shipped walk from y, and for the walk from jscc-lpips at the shipped start and at
``--starts``, samples as they are drawn: the cost in PSNR to DeepJSCC and LPIPS over DeepJSCC's.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from starts import pictures
from torch import Tensor

import commin
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr
from commin.randomness import image_generators
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import CommINFast, Correct, correction, restore_fast
from commin.receivers.commin_fusion import Bands
from commin.receivers.commin_rows import Rows
from commin.receivers.commin_settings import FastSettings, RowSettings

POINTS = (("1/192", -5.0), ("1/48", 0.0), ("1/12", 5.0))


def walk(receiver: CommINFast, arrival: Arrival, y: Tensor, start: float) -> Tensor:
    """From ``arrival.estimate`` at that start, corrected towards y (B, 3, H, W): one sample, (B, 3, H, W)."""
    points = tuple(point.plain().model_copy(update={"start": start}) for point in receiver.settings.points)
    settings: FastSettings = receiver.settings.model_copy(update={"points": points, "limit": len(y)})

    def correct(rows: Rows, chosen: RowSettings, bands: Bands) -> Correct:
        return correction(receiver.inn, y * 2 - 1, rows.snr_db, chosen, bands)

    drawn = image_generators(y, 0, "sharper")
    return restore_fast(receiver.prior, settings, correct, arrival, drawn, 1, 1.0, None)[:, 0]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--starts", default="0.1,0.25")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lpips, table = try_lpips(), []
    if lpips is None:
        raise SystemExit("commin zoo pull lpips-squeeze first")
    images = pictures(options.limit)
    for bcr, snr in POINTS:
        sharp = commin.load(bcr=bcr, receiver="jscc-lpips").transmit(images, snr)
        fast = commin.load(bcr=bcr, receiver="commin-fast")
        receiver, y = fast.receiver, sharp.estimate
        assert isinstance(receiver, CommINFast)
        shipped = float(receiver.settings.at(fast.bcr, torch.tensor([snr])).start)
        snrs = torch.full((len(images),), snr)
        from_y = Arrival(y, sharp.received.symbols, snrs, fast.bcr, fast.codec)
        from_sharp = replace(from_y, estimate=sharp.images)
        found = {"jscc-lpips": sharp.images, f"from y at {shipped:.2f}": walk(receiver, from_y, y, shipped)}
        for start in (shipped, *map(float, options.starts.split(","))):
            found[f"from jscc-lpips at {start:.2f}"] = walk(receiver, from_sharp, y, start)
        before = lpips(y, images).mean()
        for name, shown in found.items():
            cost = float((psnr(shown, images) - psnr(y, images)).mean())
            ratio = float(lpips(shown, images).mean() / before)
            table.append({"bcr": bcr, "snr_db": snr, "way": name, "psnr_db": cost, "lpips_ratio": ratio})
            print(f"{bcr} {snr:+g} dB  {name}: {cost:+.2f} dB, LPIPS × {ratio:.3f}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
