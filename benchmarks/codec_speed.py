"""How fast the codec is beside what the machine can do: images/s, share of the measured matrix-product peak, memory.

usage: python benchmarks/codec_speed.py [--precision bf16|float32] [--size 64] [--batch 64] [--paper] [--train]
"""

import argparse
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC
from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml


def seconds(call: Callable[[], object], least: float = 2.0) -> float:
    """Best time of one call, over at least that many seconds and three calls."""
    call()
    best, begin, count = float("inf"), time.perf_counter(), 0
    while time.perf_counter() - begin < least or count < 3:
        start = time.perf_counter()
        call()
        best, count = min(best, time.perf_counter() - start), count + 1
    return best


def peak_flops(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of a square matrix product."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / seconds(lambda: a @ b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=["bf16", "float32"], default="bf16")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--paper", action="store_true", help="the paper's network, 256 channels, ρ = 1/192")
    parser.add_argument("--train", action="store_true", help="one training step and its memory instead")
    parser.add_argument("--micro-batch", type=int, default=0)
    options = parser.parse_args()
    recipe = Path("recipes") / "faces64-codec.yaml"
    config = parse(CodecRecipe, read_yaml(recipe), recipe)
    if options.paper:
        link = config.link.model_copy(update={"reference_psnr_db": {"1/192": (20.0, 25.0)}})
        config = config.model_copy(update={"model": DeepJSCCConfig(image_size=options.size), "link": link})
    if options.train:
        loop = config.loop.model_copy(
            update={"batch": options.batch, "micro_batch": options.micro_batch, "precision": options.precision}
        )
        pixels = torch.randint(0, 256, (options.batch, 3, options.size, options.size), dtype=torch.uint8)
        run = Run(CodecTraining(config, pixels[:1]), loop, pixels, Path(), torch.device("cpu"))
        took = seconds(run.train_step, 0.0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"training step of {options.batch}, micro-batch {options.micro_batch or options.batch}: {took:.2f} s, "
              f"{options.batch / took:.1f} images/s, peak memory of the process {memory:.2f} GiB")  # fmt: skip
        return
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    codec = DeepJSCC(config.model).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    snr, bcr = torch.zeros(options.batch), config.model.bcrs[-1]
    context = torch.autocast("cpu", dtype) if dtype == torch.bfloat16 else nullcontext()
    peak = peak_flops(dtype)
    print(f"matrix product: {peak / 1e9:.0f} GFLOP/s in {options.precision}, {torch.get_num_threads()} threads")
    with torch.no_grad(), context:
        symbols = codec.encode(images, snr, bcr)
        size = (options.size, options.size)
        for name, call in (
            ("encode", lambda: codec.encode(images, snr, bcr)),
            ("decode", lambda: codec.decode(symbols, snr, size)),
        ):
            with FlopCounterMode(display=False) as counter:
                call()  # type: ignore[no-untyped-call]
            took = seconds(call)
            gflop = counter.get_total_flops() / options.batch / 1e9
            rate = options.batch / took
            print(f"{name}: {rate:.1f} images/s, {gflop:.2f} GFLOP an image, {rate * gflop:.0f} GFLOP/s, "
                  f"{rate * gflop * 1e11 / peak:.0f} % of the peak")  # fmt: skip


if __name__ == "__main__":
    main()
