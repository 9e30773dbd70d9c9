"""What each stage at 256×256 costs: parameters, FLOPs and memory counted, hours on one GPU estimated from them.

Nothing is trained: tensors have shapes and no content. With ``--steps`` the stages run instead, for that many steps of
one picture at full size here, and their time and memory are printed; this takes up to 10 GiB and minutes.

usage: python benchmarks/speed_paper.py [--only codec …] [--peak 989] [--peak-float32 67] [--share 0.3] [--steps 2]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from commin.codec.deepjscc import DeepJSCC
from commin.codec.files import save_codec
from commin.training.codec import CodecRecipe
from commin.training.cost import training_cost
from commin.training.gan import GanRecipe
from commin.training.inn import InnRecipe
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml

RECIPES = Path("recipes") / "paper"
STAGES = ("codec", "inn-1-768", "inn-1-192", "prior", "gan")


def read(stage: str, folder: Path) -> Any:
    """The recipe of a stage; the INN's codec is one of random weights, of the size of the recipe."""
    path = RECIPES / f"{stage}.yaml"
    content = read_yaml(path)
    if content["kind"] == "inn":
        codec = folder / "codec.safetensors"
        if not codec.exists():
            recipe = parse(CodecRecipe, read_yaml(RECIPES / "codec.yaml"), RECIPES)
            save_codec(DeepJSCC(recipe.model), codec)
        content["codec"] = str(codec)
    return parse(KINDS[content["kind"]].recipe, content, path)


def count(recipe: Any, options: argparse.Namespace) -> None:
    if isinstance(recipe, GanRecipe):  # shifts by drawn numbers have no FLOPs, but cannot go without them
        recipe = recipe.model_copy(update={"gan": recipe.gan.model_copy(update={"changes": ()})})
    size, loop = recipe.data.size, recipe.loop
    trainable = KINDS[recipe.kind].make(recipe, torch.zeros(1, 3, size, size, dtype=torch.uint8))
    low = None if loop.precision == "float32" else torch.bfloat16
    steps = 16 if isinstance(recipe, GanRecipe) else 1
    cost = training_cost(trainable, size, batch=4 if steps > 1 else 1, steps=steps, precision=low)
    peak = (options.peak_float32 if isinstance(recipe, InnRecipe) else options.peak) * 1e12
    batch = loop.micro_batch or loop.batch
    print(
        f"| {recipe.name} | {cost.parameters / 1e6:.1f} M | {cost.flops / 1e9:,.0f} | {cost.state / 2**30:.1f} | "
        f"{cost.activations / 2**30:.2f} | {batch} | {cost.memory(batch) / 2**30:.0f} | {loop.images / 1e6:g} M | "
        f"{cost.hours(loop.images, peak, options.share):.1f} |",
        flush=True,
    )


def run(recipe: Any, steps: int) -> None:
    size = recipe.data.size
    loop = recipe.loop.model_copy(update={"batch": 1, "micro_batch": 0, "precision": "float32"})
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    trained = Run(KINDS[recipe.kind].make(recipe, pixels[:1]), loop, pixels, Path(), torch.device("cpu"))
    begin = time.monotonic()
    losses = [trained.train_step() for _ in range(steps)]
    seconds = (time.monotonic() - begin) / steps
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{recipe.name}: {seconds:.1f} s a step of one picture, peak {memory:.1f} GiB, loss {losses[-1]:.3g}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=STAGES, default=STAGES)
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of the GPU in bf16, dense (H100 SXM)")
    parser.add_argument("--peak-float32", type=float, default=67.0, help="TFLOP/s of the GPU in float32 (the INN)")
    parser.add_argument("--share", type=float, default=0.3, help="share of the peak that a training gets")
    parser.add_argument("--steps", type=int, default=0, help="run so many steps here instead of counting")
    options = parser.parse_args()
    if not options.steps:
        print(f"{options.share:.0%} of {options.peak:g} TFLOP/s in bf16, of {options.peak_float32:g} in float32 (INN)")
        print("| stage | parameters | GFLOP/image | state GiB | GiB/image | images at once | GiB in all | images | h |")
        print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for stage in options.only:
            recipe = read(stage, Path(folder))
            run(recipe, options.steps) if options.steps else count(recipe, options)


if __name__ == "__main__":
    main()
