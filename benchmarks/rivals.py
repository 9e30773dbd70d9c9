"""ζ of the guided rivals, for each ρ and SNR: the one of highest PSNR on validation pictures, written as settings.

usage: python benchmarks/rivals.py RECEIVER [--data FOLDER|ZIP] [--bcr 1/192,1/48,1/12] [--snr=-5,0,5] [--zeta 1]
       [--factor 4] [--start SHARE] [--steps 100] [--pictures 16] -o settings.json
RECEIVER is sing-inn, diffcom or diffcom-hifi. From --zeta, then from what was best at the point before, ζ goes up or
down by the factor as long as the PSNR rises. Their start is as published, for a walk from nearer to the estimate has
the higher PSNR whatever it does for the eye; LPIPS is printed and chooses nothing. Points that the file holds are kept.
    commin zoo add settings.json --model faces64 --kind RECEIVER
adds what was found. ``commin fit`` fits the others, and what is shown of these.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import commin
from commin.data.imageset import ImageSet, load_pixels
from commin.home import data_path, home
from commin.images import from_uint8
from commin.link import Link
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr
from commin.receivers.base import Receiver
from commin.receivers.commin_table import read_settings, write_settings
from commin.receivers.diffcom import DiffCom, DiffComSettings, HiFiSettings
from commin.receivers.guided import GuidedPoint, GuidedSettings
from commin.receivers.sing_inn import SingINN, SingINNSettings

FORMS: dict[str, type[GuidedSettings]] = {
    "sing-inn": SingINNSettings,
    "diffcom": DiffComSettings,
    "diffcom-hifi": HiFiSettings,
}


def receiver(settings: GuidedSettings, bcr: str) -> Receiver:
    """The receiver of these settings with the zoo's prior and INN."""
    if isinstance(settings, SingINNSettings):
        found = commin.load(bcr=bcr, receiver="sing-inn").receiver
        assert isinstance(found, SingINN)
        return SingINN(found.prior, found.inn, settings)
    found = commin.load(bcr=bcr, receiver="diffcom").receiver
    assert isinstance(found, DiffCom)
    assert isinstance(settings, DiffComSettings)
    return DiffCom(found.prior, settings)


def score(settings: GuidedSettings, bcr: str, snr_db: float, images: Tensor) -> dict[str, Any]:
    """Means over the pictures, the estimate's beside them, and seconds a picture."""
    plain, lpips = commin.load(bcr=bcr), try_lpips()
    link = Link(plain.codec, plain.bcr, plain.channel, receiver(settings, bcr))
    begin = time.perf_counter()
    result = link.transmit(images, snr_db, seed=1)
    row: dict[str, Any] = {"seconds": round((time.perf_counter() - begin) / len(images), 2)}
    for name, pictures in (("", result.images), ("deepjscc_", result.estimate)):
        row[f"{name}psnr_db"] = round(float(psnr(pictures, images).mean()), 3)
        if lpips:
            with torch.no_grad():
                row[f"{name}lpips"] = round(float(lpips(pictures, images).mean()), 4)
    return row


def climb(height: Callable[[float], float], start: float, factor: float) -> float:
    """Of …, start/factor, start, start·factor, … the nearest to ``start`` that is higher than both beside it."""
    best, top = start, height(start)
    for step in (factor, 1 / factor):
        while (found := height(best * step)) > top:
            best, top = best * step, found
        if best != start:
            break
    return best


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("receiver", choices=list(FORMS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bcr", default="1/192,1/48,1/12")
    parser.add_argument("--snr", type=numbers, default=[-5.0, 0.0, 5.0])
    parser.add_argument("--zeta", type=float, default=1.0)
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--start", type=float)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    form = FORMS[options.receiver]
    base = form.model_validate({"steps": options.steps})
    start = options.start or base.points[0].start
    source = ImageSet(data_path(options.data))
    entries = source.split("valid", options.pictures)
    images = from_uint8(load_pixels(source, entries, 64, "celeba", home() / "cache"))
    done = read_settings(form, options.out).points if options.out.exists() else ()
    best = done[-1].zeta if done else options.zeta
    for bcr in options.bcr.split(","):
        for snr_db in options.snr:
            if any((point.bcr, point.snr_db) == (bcr, snr_db) for point in done):
                continue

            def height(zeta: float, bcr: str = bcr, snr_db: float = snr_db) -> float:
                point = GuidedPoint(bcr=bcr, snr_db=snr_db, zeta=zeta, start=start)
                row = score(base.model_copy(update={"points": (point,)}), bcr, snr_db, images)
                print(json.dumps({**point.model_dump(), **row}), flush=True)
                return float(row["psnr_db"])

            best = climb(height, best, options.factor)
            done = (*done, GuidedPoint(bcr=bcr, snr_db=snr_db, zeta=best, start=start))
            write_settings(base.model_copy(update={"points": done}), options.out)
    print(f"settings: {options.out}")


if __name__ == "__main__":
    main()
