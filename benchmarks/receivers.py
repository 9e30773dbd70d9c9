"""CommIN taken apart: quality over network calls, ablations; the flow.

usage: python benchmarks/receivers.py --data FOLDER|ZIP [--only calls,ablations,tried,flow]
       [--split test] [--pictures N] [--out results/receivers.json]
Pictures are evenly spaced over the split, so that all people are among them; settings are chosen on ``valid``. A killed
run goes on: rows that --out holds are kept, as long as they were made with the same files and pictures. PSNR and
LPIPS-Squeeze are means over them, all on the same received symbols.
The nine-point comparison on the whole split is ``commin evaluate recipes/sweeps/faces64.yaml``.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from spaced import spaced
from torch import Tensor

import commin
from commin.atomic import write_text
from commin.data.imageset import ImageSet, load_pixels
from commin.home import data_path, home
from commin.images import from_uint8
from commin.link import Link
from commin.metrics.kid import paired_kernel_distance
from commin.metrics.lpips import load_backbone, load_lpips
from commin.metrics.pixels import psnr
from commin.receivers.base import Receiver
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_settings import FastSettings
from commin.receivers.commin_table import read_settings
from commin.receivers.pmrf import Pmrf, PmrfSettings
from commin.units import parse_bcr
from commin.zoo.cards import sha256
from commin.zoo.fitting import Fitter
from commin.zoo.load import codec_path
from commin.zoo.receivers import receiver_files

SNRS_DB = (-5.0, 0.0, 5.0)
BCR = "1/48"
BCRS = ("1/192", "1/48", "1/12")
CALLS = (1, 2, 4, 8, 13, 20)
"""The last among them; where there is one alone it is `one-step`, the last without a walk."""
DROPS_DB = {-5.0: 0.8, 0.0: 0.9, 5.0: 0.9}
"""What may be lost of PSNR on ``valid`` at ρ = 1/48, as in recipes/faces64-commin-fast.yaml."""
SHOWN = tuple((0.0, detail) for detail in (1.0, 1.1, 1.2, 1.3, 1.6))
"""f₀ and g; few calls may want a larger g than many."""
OWN_WEIGHTS = (0.0, 0.15, 0.3, 0.5)
FLOWS = ("pmrf", "pmrf-inn")
RECIPES = Path(__file__).parent.parent / "recipes"
Drawn = TypeVar("Drawn", FastSettings, PmrfSettings)
Row = dict[str, Any]
Tasks = Iterator[tuple[Row, Callable[[], Row]]]
"""What a row is called, and what works its figures out."""


def pictures(split: str, count: int, data: Path | None = None) -> Tensor:
    """Evenly spaced pictures of a split, (B, 3, 64, 64) in [0, 1]."""
    source = ImageSet(data_path(data))
    return from_uint8(load_pixels(source, spaced(source.split(split), count), 64, "celeba", home() / "cache"))


def fast(bcr: str = BCR) -> CommINFast:
    receiver = commin.load(bcr=bcr, receiver="commin-fast").receiver
    assert isinstance(receiver, CommINFast)
    return receiver


def weights(*systems: str) -> dict[str, str]:
    """Name and SHA-256 of all that systems, commin-fast unless others are named, are made from, at every ρ."""
    files = {path for system in systems or ("commin-fast",) for bcr in BCRS
             for path in receiver_files(system, "faces64", parse_bcr(bcr))}  # fmt: skip
    return {path.name: sha256(path) for path in sorted({codec_path("faces64"), *files})}


def other(receiver: CommINFast, settings: FastSettings, last_call: bool = True) -> CommINFast:
    """The receiver with other settings, perhaps without its last call."""
    return CommINFast(receiver.prior, receiver.inn, settings, finish=receiver.finish if last_call else None)


def kernel(receiver: Receiver, images: Tensor, snr_db: float, bcr: str) -> Row:
    """Kernel distance of a receiver's pictures to the originals over that of the estimates."""
    plain, backbone = commin.load(bcr=bcr), load_backbone("squeeze")
    link = Link(plain.codec, plain.bcr, plain.channel, receiver)
    parts = [(part, link.transmit(part, snr_db)) for part in images.split(32)]
    originals = torch.cat([backbone.pooled(part) for part, _ in parts])
    made = (torch.cat([backbone.pooled(getattr(r, name)) for _, r in parts]) for name in ("images", "estimate"))
    own, before = (paired_kernel_distance(features, originals) for features in made)
    return {"kernel_ratio": round(own / before, 3)}


def score(receiver: Receiver, images: Tensor, snr_db: float, bcr: str = BCR, seed: int = 0) -> Row:
    """Mean PSNR and LPIPS of a receiver, those of the estimates, and seconds a picture."""
    plain = commin.load(bcr=bcr)
    link, lpips = Link(plain.codec, plain.bcr, plain.channel, receiver), load_lpips()
    sums, seconds = torch.zeros(4, dtype=torch.float64), 0.0
    for part in images.split(32):
        begin = time.perf_counter()
        result = link.transmit(part, snr_db, seed)
        seconds += time.perf_counter() - begin
        with torch.no_grad():
            figures = [f(r, part).sum() for r in (result.images, result.estimate) for f in (psnr, lpips)]
        sums += torch.stack(figures).double()
    own_psnr, own_lpips, psnr_y, lpips_y = (sums / len(images)).tolist()
    return {
        "psnr_db": round(own_psnr, 3), "lpips": round(own_lpips, 4),
        "deepjscc_psnr_db": round(psnr_y, 3), "deepjscc_lpips": round(lpips_y, 4),
        "lpips_ratio": round(own_lpips / lpips_y, 3), "seconds": round(seconds / len(images), 4),
    }  # fmt: skip


def calls_rows(images: Tensor) -> Tasks:
    """Quality over the number of network calls; what is shown is fitted to each on 32 of ``valid``.

    Where there are fewer than shipped, so is w: itself or half of it.
    """
    receiver, fitter = fast(), Fitter("faces64", ImageSet(data_path(None)), "valid", 32, 1, torch.device("cpu"))

    def fitted(settings: FastSettings, snr: float) -> CommINFast:
        point = fitter.fit("commin-fast", BCR, snr, settings, "none", False, DROPS_DB[snr], SHOWN)
        whole = FastSettings.model_validate({**settings.model_dump(), "points": (point,)})
        return other(receiver, whole)

    def work(calls: int, snr: float) -> Row:
        if calls == 1:
            return score(commin.load(bcr=BCR, receiver="one-step").receiver, images, snr)
        settings = with_calls(receiver.settings, calls - 1)
        ways = [fitted(settings, snr)]
        if settings.calls < receiver.settings.calls:
            (weight,) = ways[0].settings.points[0].weights
            ways.append(fitted(weighed(settings, weight / 2), snr))
        best = min(ways, key=lambda way: score(way, fitter.images, snr, seed=1)["lpips"]) if ways[1:] else ways[0]
        chosen = best.settings.points[0].model_dump(include={"weights", "finished"})
        return {**chosen, **score(best, images, snr)}

    for calls in CALLS:
        for snr in SNRS_DB:
            yield {"calls": calls, "snr_db": snr}, partial(work, calls, snr)


def ablation_rows(images: Tensor) -> Tasks:
    """The receiver without its parts, with its last call and without, at a point of each ρ; samples as drawn.

    Without the INN x0 is drawn to y itself, and without the second call of each step through the INN, by the weight
    among `OWN_WEIGHTS` that is best on 24 of ``valid``.
    """

    def work(system: str, last_call: bool, bcr: str, snr: float) -> Row:
        receiver = fast(bcr)
        settings = as_drawn(receiver.settings)
        if system == "one call":
            settings = with_calls(settings, 1)
        if system == "prior alone":
            settings = without_second(weighed(settings, 0.0))
        chosen = {}
        if system == "without the INN":
            receiver.inn = None
        if system in ("without the INN", "without the second call"):
            ways = {w: other(receiver, without_second(weighed(settings, w)), last_call) for w in OWN_WEIGHTS}
            valid = pictures("valid", 24)
            best = min(ways, key=lambda w: score(ways[w], valid, snr, bcr)["lpips"])
            settings, chosen = ways[best].settings, {"weight": best}
        way = other(receiver, settings, last_call)
        return {**chosen, **score(way, images, snr, bcr), **kernel(way, images, snr, bcr)}

    for last_call in (True, False):
        for system in ("whole", "without the second call", "without the INN", "one call", "prior alone"):
            for bcr, snr in (("1/192", -5.0), ("1/48", 0.0), ("1/12", 5.0)):
                called = {"system": system, "last_call": last_call, "bcr": bcr, "snr_db": snr}
                yield called, partial(work, system, last_call, bcr, snr)


def as_drawn(settings: Drawn) -> Drawn:
    """The same walk with its samples shown as they are drawn."""
    return settings.model_copy(update={"points": tuple(point.plain() for point in settings.points)})


def weighed(settings: FastSettings, weight: float) -> FastSettings:
    """The same walk with one weight everywhere, no gains."""
    changes = {"inn_gains": (), "direct_gains": (), "weights": (weight,)}
    points = tuple(point.model_copy(update=changes) for point in settings.points)
    return settings.model_copy(update={"points": points})


def without_second(settings: FastSettings) -> FastSettings:
    """The same walk with one call a step."""
    return settings.model_copy(update={"doubled": 0})


def with_calls(settings: FastSettings, calls: int) -> FastSettings:
    """The same walk in so many calls of the network, about the same share of them second calls."""
    doubled = round(calls * settings.doubled / settings.calls)
    return settings.model_copy(update={"steps": calls - doubled, "doubled": doubled})


def tried_rows(images: Tensor) -> Tasks:
    """Ways of correcting x0 and of walking, each fitted on 48 validation pictures at 0 dB: samples, and as fitted."""
    walk = read_settings(FastSettings, RECIPES / "faces64-commin-fast.yaml")
    fitter = Fitter("faces64", ImageSet(data_path(None)), "valid", 48, 1, torch.device("cpu"))
    prior, inn = fast().prior, fast().inn
    ways: dict[str, tuple[str, dict[str, Any], bool]] = {
        "Bayesian weights": ("weights", {}, False), "calibrated fusion": ("fusion", {}, False),
        "calibrated fusion, whitened start": ("fusion", {}, True),
        "weights, start 0.5": ("weights", {"start": 0.5}, False),
        "weights, start 0.7": ("weights", {"start": 0.7}, False), "weights, eta 0": ("weights", {"eta": 0.0}, False),
        "weights, eta 1": ("weights", {"eta": 1.0}, False), "weights, second order": ("weights", {"order": 2}, False),
        "weights, even in log-SNR": ("weights", {"spacing": "logsnr"}, False),
    }  # fmt: skip

    @cache
    def fitted(name: str) -> FastSettings:
        method, changes, whiten = ways[name]
        points = tuple(p.model_copy(update={"start": changes.get("start", p.start)}) for p in walk.points)
        rest = {key: value for key, value in changes.items() if key != "start"}
        settings = walk.model_copy(update={"points": points, **rest})
        point = fitter.fit("commin-fast", BCR, 0.0, settings, method, whiten, 0.75)
        return settings.model_copy(update={"points": (point,)})

    def work(name: str, naturalness: float | None) -> Row:
        return score(CommINFast(prior, inn, fitted(name), naturalness), images, 0.0)

    for name in ways:
        yield {"way": name, "blended": False}, partial(work, name, 1.0)
        yield {"way": name, "blended": True}, partial(work, name, None)


def flow_rows(images: Tensor) -> Tasks:
    """Quality of the flows over their steps, Euler (order 1) and Heun (2), and at every ρ; samples as drawn."""

    def work(system: str, bcr: str, steps: int, order: int, snr: float) -> Row:
        receiver = commin.load(bcr=bcr, receiver=system).receiver
        assert isinstance(receiver, Pmrf)
        settings = as_drawn(receiver.settings).model_copy(update={"steps": steps, "order": order})
        return score(Pmrf(receiver.flow, receiver.inn, settings), images, snr, bcr)

    ways = [(BCR, *way) for way in ((4, 1), (8, 1), (16, 1), (2, 2), (5, 2), (8, 2))]
    ways += [(bcr, 5, 2) for bcr in BCRS if bcr != BCR]
    for system in FLOWS:
        for bcr, steps, order in ways:
            for snr in SNRS_DB:
                called = {"system": system, "bcr": bcr, "steps": steps, "order": order, "snr_db": snr}
                yield called, partial(work, system, bcr, steps, order, snr)


PARTS: dict[str, tuple[Callable[[Tensor], Tasks], int]] = {
    "calls": (calls_rows, 96), "ablations": (ablation_rows, 46), "tried": (tried_rows, 96), "flow": (flow_rows, 46),
}  # fmt: skip
"""What makes a part's rows, and of how many pictures unless ``--pictures`` says."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="calls,ablations")
    parser.add_argument("--split", default="test")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kept: dict[str, Any] = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name in options.only.split(","):
        part, count = PARTS[name]
        images = pictures(options.split, options.pictures or count, options.data)
        about = {
            "data": data_path(options.data).name, "split": options.split, "pictures": len(images), "seed": 0,
            "commin": commin.__version__, "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "weights": weights(*(FLOWS if name == "flow" else ())),
        }  # fmt: skip
        if kept.get(name, {}).get("about") != about:
            kept[name] = {"about": about, "rows": []}
        rows: list[Row] = kept[name]["rows"]
        for called, work in part(images):
            if any(called.items() <= row.items() for row in rows):
                continue
            row = called | work()
            rows.append(row)
            print(f"{name}: " + ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                                          for key, value in row.items()), flush=True)  # fmt: skip
            if options.out:
                write_text(options.out, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
