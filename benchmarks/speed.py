"""How fast everything is beside what this machine can do and beside the plain version; one JSON for comparisons.

Of each part: seconds a picture as the package runs it, and plain (float32, contiguous); GFLOP a picture; its share of
the measured matrix-product peak of its precision; and its share of what both peaks allow,

    Σ over its operations of max(FLOP / product peak, bytes read and written / copy peak),  over the seconds it took.

The sum takes the operations as PyTorch runs them, one by one and from memory: more than 1 is possible where the cache
holds what one leaves for the next. ``gain`` is plain / used: where a change makes it fall, that is a regression,
whatever the machine.

usage: python benchmarks/speed.py [-o results/speed.json] [--only codec,networks,receivers,training] [--batch 32]
       [--seconds 2]
Receivers with many network calls (commin, commin-late, sing-inn, diffcom, inverse-jscc) are timed for a few of them and
multiplied; a training step is one batch of the recipe's micro-batch (at most --batch), random pictures. No data, no
downloads.
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from speed_part import BCR, RECIPES, SIZE, Call, Part, contiguous
from speed_receivers import receiver_parts
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

import commin
from commin.atomic import write_text
from commin.precision import fast_dtype
from commin.receivers.commin_fast import CommINFast
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml


def best_seconds(call: Call, least: float) -> float:
    """The quickest of at least two calls after one to warm up, over at least that many seconds."""
    call()
    best, begin, count = math.inf, time.perf_counter(), 0
    while count < 2 or time.perf_counter() - begin < least:
        start = time.perf_counter()
        call()
        best, count = min(best, time.perf_counter() - start), count + 1
    return best


class Roofline(TorchDispatchMode):
    """Sums FLOPs, and the seconds that the peaks allow, over all operations run inside."""

    def __init__(self, peaks: dict[str, float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peaks, self.flops, self.products, self.seconds = peaks, 0, 0.0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = {id(x): x for x in tree_flatten((args, kwargs, out))[0] if isinstance(x, Tensor)}.values()
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **(kwargs or {}), out_val=out) if count else 0
            low = any(x.dtype == torch.bfloat16 for x in tensors)
            data = sum(x.numel() * x.element_size() for x in tensors)
            product = flops / self.peaks["bf16" if low else "float32"]
            self.flops += flops
            self.products += product
            self.seconds += max(product, data / self.peaks["copy"])
        return out


def measure_peaks(least: float) -> dict[str, float]:
    """FLOP/s of a product of 2048×2048 matrices by dtype, and bytes/s, read and written, of a copy of 256 MiB.

    Of bf16 only where the machine is quick at it; elsewhere nothing runs in it, and one product takes a minute.
    """
    found, kinds = {}, {"float32": torch.float32}
    if fast_dtype(torch.device("cpu")) == torch.bfloat16:
        kinds["bf16"] = torch.bfloat16
    for name, dtype in kinds.items():
        a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        found[name] = 2 * 2048**3 / best_seconds(lambda a=a, b=b: a @ b, least)  # type: ignore[misc]
    source = torch.zeros(1 << 26)
    target = torch.empty_like(source)
    return {**found, "copy": 2 * 2**28 / best_seconds(lambda: target.copy_(source), least)}


def codec_parts(images: Tensor) -> Iterator[Part]:
    """The codec in the link as it is used, and by autocast in bfloat16 with channels last where that is quick."""
    codec = commin.load(bcr=BCR).codec
    plain = contiguous(codec)
    last = deepcopy(codec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    snr, bcr = torch.zeros(len(images)), Fraction(BCR)
    symbols = plain.encode(images, snr, bcr)
    turned = images.contiguous(memory_format=torch.channels_last)

    def in_low(call: Call) -> Call:
        def run() -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return call()

        return run

    encode, decode = (lambda: plain.encode(images, snr, bcr)), (lambda: plain.decode(symbols, snr))
    yield Part("encode", len(images), lambda: codec.encode(images, snr, bcr), encode)
    yield Part("decode", len(images), lambda: codec.decode(symbols, snr), decode)
    if fast_dtype(torch.device("cpu")) == torch.float32:
        return
    yield Part("encode-bf16", len(images), in_low(lambda: last.encode(turned, snr, bcr)), encode)
    yield Part("decode-bf16", len(images), in_low(lambda: last.decode(symbols, snr)), decode)


def network_parts(images: Tensor) -> Iterator[Part]:
    """The INN, there and back, and one call of the U-Net."""
    receiver = commin.load(bcr=BCR, receiver="commin-fast").receiver
    assert isinstance(receiver, CommINFast)
    inn, prior = receiver.inn, receiver.prior
    assert inn is not None
    plain_inn, plain_prior = contiguous(inn), contiguous(prior)
    snr, t, x, y = torch.zeros(len(images)), torch.full((len(images),), 500), images * 2 - 1, images.flip(0)
    yield Part(
        "inn", len(images), lambda: inn.replace(images, y, 1.0, snr), lambda: plain_inn.replace(images, y, 1.0, snr)
    )
    yield Part("unet", len(images), lambda: prior.denoise(x, t), lambda: plain_prior.denoise(x, t))


def training_parts(images: Tensor) -> Iterator[Part]:
    """A step of each model as its recipe says, and in float32 and plain layout."""
    for kind, name in (("codec", "codec"), ("inn", "inn-1-48"), ("prior", "prior"), ("gan", "gan")):
        path = RECIPES / f"faces64-{name}.yaml"
        content = read_yaml(path)
        if kind == "prior":
            content = {**{key: value for key, value in content.items() if key != "init"}, "model": {}}
        recipe: Any = parse(KINDS[kind].recipe, content, path)
        batch = min(recipe.loop.micro_batch or recipe.loop.batch, len(images))
        pixels = (images * 255).byte()
        calls = []
        for changes in ({}, {"precision": "float32", "channels_last": False}):
            loop = recipe.loop.model_copy(update={"batch": batch, "micro_batch": 0, **changes})
            trainable = KINDS[kind].make(recipe.model_copy(update={"loop": loop}), pixels[:4])
            run = Run(trainable, loop, pixels, Path(), torch.device("cpu"))
            rows = run.ahead.rows(1)  # step 1: not one of the generator's with penalties, which are some of 8 or 16
            run.ahead.rows = lambda step, rows=rows: rows  # type: ignore[method-assign, misc]
            calls.append(lambda run=run: again(run))
        yield Part(f"train-{kind}", batch, calls[0], calls[1])


def again(run: Run) -> None:
    """Step 1 once more, on the same rows."""
    run.step = 1
    run.train_step()


GROUPS: dict[str, Callable[[Tensor], Iterator[Part]]] = {
    "codec": codec_parts, "networks": network_parts, "receivers": receiver_parts, "training": training_parts
}  # fmt: skip


def figures(part: Part, peaks: dict[str, float], least: float) -> dict[str, Any]:
    grad = nullcontext() if part.name.startswith("train-") else torch.no_grad()
    with grad:
        used, plain = best_seconds(part.used, least), best_seconds(part.plain, least)
        with Roofline(peaks) as counter:
            part.used()
    return {
        "part": part.name, "images": part.images, "calls": part.calls,
        "seconds": used * part.times / part.images, "plain_seconds": plain * part.times / part.images,
        "gain": plain / used, "gflop": counter.flops * part.times / part.images / 1e9,
        "share_of_product": counter.products / used, "share_of_peaks": counter.seconds / used,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--only", default=",".join(GROUPS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each call is repeated at least")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - GROUPS.keys():
        parser.error(f"--only {', '.join(unknown)}: choose among {', '.join(GROUPS)}")
    peaks = measure_peaks(options.seconds)
    about = {
        "machine": platform.machine(), "cpu": cpu_name(), "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0], "torch": torch.__version__, "commin": commin.__version__,
        "batch": options.batch, "bcr": BCR, "size": SIZE, "copy_gb_per_s": peaks["copy"] / 1e9,
        "product_gflop_per_s": {key: peak / 1e9 for key, peak in peaks.items() if key != "copy"},
    }  # fmt: skip
    print(json.dumps(about, ensure_ascii=False), flush=True)
    images = torch.rand(options.batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    rows: list[dict[str, Any]] = []
    for group in options.only.split(","):
        for part in GROUPS[group](images):
            rows.append(figures(part, peaks, options.seconds))
            print(
                "{part}: {seconds:.4g} s a picture, plain {plain_seconds:.4g} (× {gain:.2f}), {gflop:.4g} GFLOP, "
                "{share_of_product:.0%} of the product peak, {share_of_peaks:.0%} of both".format(**rows[-1]),
                flush=True,
            )
            if options.out:
                write_text(options.out, json.dumps({"about": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


def cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
