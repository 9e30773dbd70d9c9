"""How far the map of --samples can be believed: the expected error of each pixel beside its error.

usage: python benchmarks/honesty.py [--pictures 46] [--samples 4] [--out results/honesty.json]
Test pictures evenly spaced over the split, seed 0, commin-fast as it is shown. Pixels are put in ten groups of as many
by what the map says of them. Of each: root mean squares of what it says, of the spread of the samples, and of the
error of their mean, in units of white. ``spread_share`` is the samples' variance over the squared error of their mean,
1 + 1/S times it as for draws of the exact posterior, whose share is 1.
"""

import argparse
import json
from pathlib import Path

import torch
from receivers import BCRS, SNRS_DB, Row, pictures, weights
from torch import Tensor

import commin
from commin.atomic import write_text
from commin.receivers.expected_error import deviation

GROUPS = 10


def figures(images: Tensor, bcr: str, snr_db: float, samples: int) -> Row:
    """What the map says and what is, over the groups, lowest first."""
    link = commin.load(bcr=bcr, receiver="commin-fast")
    said, apart, error = [], [], []
    for part in images.split(16):
        result = link.transmit(part, snr_db, samples=samples)
        assert result.expected_error is not None
        said.append(result.expected_error)
        apart.append(deviation(result.samples))
        error.append((result.samples.mean(1) - part).square().mean(1).sqrt())
    order = torch.cat(said).flatten().argsort()

    def groups(values: list[Tensor]) -> list[float]:
        return [round(float(g.square().mean().sqrt()), 4) for g in torch.cat(values).flatten()[order].chunk(GROUPS)]

    share = float(torch.cat(apart).square().mean() / torch.cat(error).square().mean()) * (1 + 1 / samples)
    return {"spread_share": round(share, 3), "said": groups(said), "spread": groups(apart), "error": groups(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pictures", type=int, default=46)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images, rows = pictures("test", options.pictures, options.data), []
    about = {"pictures": len(images), "samples": options.samples, "commin": commin.__version__, "weights": weights()}
    for bcr in BCRS:
        for snr_db in SNRS_DB:
            rows.append({"bcr": bcr, "snr_db": snr_db, **figures(images, bcr, snr_db, options.samples)})
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if options.out:
        write_text(options.out, json.dumps({"about": about, "rows": rows}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
