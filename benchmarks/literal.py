"""The paper's algorithm 1 and its late start beside commin-fast, on the same symbols: PSNR, LPIPS-Squeeze, seconds.

usage: python benchmarks/literal.py scan|compare [--data FOLDER|ZIP] [--bcr 1/48] [--snr=-5,0,5]
       [--groups 0,1,2,3] --out results/literal.jsonl
* scan: ζ of commin and commin-late on 4 pictures of ``valid``: from the paper's, up or down by a factor of 2 as long as
  LPIPS falls. What is lowest is what compare takes.
* compare: 20 test pictures in groups of five, samples as they are drawn, of commin-fast as it walks and in eight
  calls, and also as its settings show them.
Pictures are evenly spaced over their split, so that all people are among them. A line of --out is a result: what it
holds already is not worked out again, and several processes may write to it, each with SNRs or groups of its own.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from receivers import Row, as_drawn, fast, other, pictures, score, weights, with_calls
from rivals import climb, numbers
from torch import Tensor

import commin
from commin.home import data_path
from commin.receivers.base import Receiver
from commin.receivers.commin import CommIN, CommINConfig
from commin.receivers.commin_late import CommINLate, CommINLateConfig

GUIDED = ("commin-late", "commin")
GROUP = 5
SPLITS = {"scan": ("valid", 4), "compare": ("test", 20)}
"""Of which split each part takes how many pictures: fixed, so that rows of one file are of the same ones."""
PAPER = CommINConfig().zeta
"""SNR in dB to the paper's ζ, from where the scan begins."""


def guided(system: str, bcr: str, zeta: float) -> Receiver:
    """The receiver with one ζ at every SNR, and nothing kept on disk: its seconds are those of a whole walk."""
    found = commin.load(bcr=bcr, receiver=system).receiver
    assert isinstance(found, CommIN | CommINLate)
    if isinstance(found, CommIN):
        return CommIN(found.prior, found.inn, CommINConfig(zeta={0: zeta}))
    return CommINLate(found.prior, found.inn, CommINLateConfig(zeta={0: zeta}))


class Results:
    """The lines of a file, made with these weights; the settings of commin-fast matter to none but itself."""

    def __init__(self, path: Path, about: Row) -> None:
        self.path, self.about = path, about

    def rows(self) -> list[Row]:
        """Those that are there now."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [row for row in map(json.loads, lines) if row["about"] == self.about_of(row["system"])]

    def about_of(self, system: str) -> Row:
        """What a row of a system was made with."""
        weights: dict[str, str] = self.about["weights"]
        apart = "commin-fast.json" if system in GUIDED else ""
        return self.about | {"weights": {k: v for k, v in weights.items() if not apart or not k.endswith(apart)}}

    def score(self, called: Row, receiver: Receiver, images: Tensor) -> Row:
        """The figures of what is so called, worked out unless the file holds them."""
        for row in self.rows():
            if called.items() <= row.items():
                return row
        figures = score(receiver, images, called["snr_db"], called["bcr"])
        row = called | {"calls": receiver.network_calls, "pictures": len(images)} | figures
        print(json.dumps(row, ensure_ascii=False), flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row | {"about": self.about_of(row["system"])}, ensure_ascii=False) + "\n")
        return row


def scan(results: Results, bcr: str, snr_db: float, images: Tensor) -> None:
    for system in GUIDED:

        def height(zeta: float, system: str = system) -> float:
            called = {"part": "scan", "system": system, "bcr": bcr, "snr_db": snr_db, "zeta": zeta}
            return -float(results.score(called, guided(system, bcr, zeta), images)["lpips"])

        best = climb(height, PAPER[snr_db], 2.0)
        print(f"{system}, {snr_db:+g} dB: ζ = {best:g}", flush=True)


def compare(results: Results, bcr: str, snr_db: float, group: int, images: Tensor) -> None:
    shown = fast(bcr)
    drawn = as_drawn(shown.settings)
    ways = {"": shown.settings, " as drawn": drawn, ", 8 calls as drawn": with_calls(drawn, 8)}
    called = {"part": "compare", "bcr": bcr, "snr_db": snr_db, "group": group}
    for name, settings in ways.items():  # samples as drawn are the walk's, as those of the other two
        receiver = other(shown, settings, last_call=not name)
        results.score(called | {"system": f"commin-fast{name}"}, receiver, images)
    for system in GUIDED:
        known = [row for row in results.rows() if row["part"] == "scan" and row["system"] == system
                 and (row["bcr"], row["snr_db"]) == (bcr, snr_db)]  # fmt: skip
        if not known:
            raise SystemExit(f"{results.path}: ζ of {system} at {snr_db:+g} dB is not scanned; run scan first")
        zeta = min(known, key=lambda row: row["lpips"])["zeta"]
        results.score(called | {"system": system, "zeta": zeta}, guided(system, bcr, zeta), images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=list(SPLITS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bcr", default="1/48")
    parser.add_argument("--snr", type=numbers, default=list(PAPER))
    parser.add_argument("--groups", type=numbers, default=[0, 1, 2, 3])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if set(options.snr) - PAPER.keys():
        parser.error(f"--snr: choose among {', '.join(f'{snr:g}' for snr in PAPER)}, for which the paper has a ζ")
    images = pictures(*SPLITS[options.part], options.data)
    about = {
        "data": data_path(options.data).name, "commin": commin.__version__, "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads", "weights": weights(),
    }  # fmt: skip
    results = Results(options.out, about)
    for snr_db in options.snr:
        if options.part == "scan":
            scan(results, options.bcr, snr_db, images)
            continue
        for group in map(int, options.groups):
            part = images[group * GROUP : (group + 1) * GROUP]
            if len(part):
                compare(results, options.bcr, snr_db, group, part)


if __name__ == "__main__":
    main()
