"""How fast the codec is beside what the machine can do: images/s, share of the measured matrix-product peak, memory.

usage: python benchmarks/codec_speed.py [--precision bf16|float32] [--size 64] [--batch 64] [--paper] [--train]
       [--micro-batch N] [--out FILE.json]
A row goes to --out beside those that are there; each training row wants a process of its own, for the memory.
"""

import argparse
import json
import platform
import resource
from contextlib import nullcontext
from pathlib import Path

import torch
from speed import best_seconds, cpu_name
from torch.utils.flop_counter import FlopCounterMode

from commin.atomic import write_text
from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC
from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml


def peak_flops(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of a square matrix product."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / best_seconds(lambda: a @ b, 2.0)


def keep(path: Path | None, name: str, row: dict[str, float]) -> None:
    """Print a row and add it to those of the file."""
    row = {key: round(value, 3) for key, value in row.items()}
    print(f"{name}: {', '.join(f'{key} {value:g}' for key, value in row.items())}", flush=True)
    if path:
        rows = json.loads(path.read_text()) if path.exists() else {}
        machine = {"machine": platform.machine(), "cpu": cpu_name(), "torch": torch.__version__}
        rows[name] = row | machine
        write_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=["bf16", "float32"], default="bf16")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--paper", action="store_true", help="the paper's network, 256 channels, ρ = 1/192")
    parser.add_argument("--train", action="store_true", help="one training step and its memory instead")
    parser.add_argument("--micro-batch", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    which = f"{'paper' if options.paper else 'faces64'} {options.size}×{options.size}, {options.precision}"
    which += f", batch {options.batch}, {torch.get_num_threads()} threads"
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
        took = best_seconds(run.train_step, 0.0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        name = f"train {which}, micro-batch {options.micro_batch or options.batch}"
        keep(options.out, name, {"seconds": took, "images_per_second": options.batch / took, "peak_gib": memory})
        return
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    codec = DeepJSCC(config.model).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    snr, bcr = torch.zeros(options.batch), config.model.bcrs[-1]
    context = torch.autocast("cpu", dtype) if dtype == torch.bfloat16 else nullcontext()
    peak = peak_flops(dtype)
    with torch.no_grad(), context:
        symbols = codec.encode(images, snr, bcr)
        size = (options.size, options.size)
        for name, call in (
            ("encode", lambda: codec.encode(images, snr, bcr)),
            ("decode", lambda: codec.decode(symbols, snr, size)),
        ):
            with FlopCounterMode(display=False) as counter:
                call()  # type: ignore[no-untyped-call]
            took = best_seconds(call, 2.0)
            gflop = counter.get_total_flops() / options.batch / 1e9
            rate = options.batch / took
            keep(options.out, f"{name} {which}", {
                "images_per_second": rate, "gflop_an_image": gflop, "gflop_per_second": rate * gflop,
                "peak_gflop_per_second": peak / 1e9, "share_of_peak": rate * gflop * 1e9 / peak,
            })  # fmt: skip


if __name__ == "__main__":
    main()
