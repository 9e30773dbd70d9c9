"""How noisy a prior's gradient is by how the levels t of a batch are drawn (``loss.times``), all else alike.

usage: python benchmarks/gradient_noise.py RECIPE.yaml [--batch 32] [--batches 10] [--out results/gradient_noise.json]

Noise is Σ‖g_i − ḡ‖²/(N − 1), of gradients g_i of the loss on N batches of the train split, at the weights that the
recipe begins from. By ``stratified`` and ``weighted`` the gradient is the same in the mean, so less noise is more
learnt from as many pictures.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import get_args

import torch

from commin.atomic import write_text
from commin.data.imageset import ImageSet, load_pixels
from commin.home import data_path, home
from commin.images import from_uint8
from commin.randomness import generator
from commin.training.prior import PriorLoss, PriorRecipe, PriorTraining
from commin.training.recipe import parse, read_yaml
from commin.winograd import quicken

SEED = 0


def gradients(recipe: PriorRecipe, pixels: torch.Tensor, batch: int, batches: int) -> torch.Tensor:
    """(N, parameters), of the same pictures whatever the recipe's times."""
    training = PriorTraining(recipe, pixels[:1])
    training.prior.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quicken(training.prior)
    rows = []
    for number in range(batches):
        rng = generator(SEED, "gradient noise", number)
        images = from_uint8(pixels[torch.randperm(len(pixels), generator=rng)[:batch]])
        training.prior.zero_grad(set_to_none=True)
        training.loss("prior", training.draw(images, rng), 0).backward()
        rows.append(torch.cat([p.grad.flatten() for p in training.prior.parameters() if p.grad is not None]))
    return torch.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    content = read_yaml(args.recipe)
    source = ImageSet(data_path(None))
    data = parse(PriorRecipe, content, args.recipe).data
    pixels = load_pixels(source, source.split("train", None), data.size, data.crop, home() / "cache")
    rows = []
    for times in get_args(PriorLoss.model_fields["times"].annotation):
        recipe = parse(PriorRecipe, content | {"loss": {**content.get("loss", {}), "times": times}}, args.recipe)
        noise = float(gradients(recipe, pixels, args.batch, args.batches).var(0).sum())
        rows.append({"times": times, "noise": noise})
        print(f"{times:12} {noise:.3e}", flush=True)
    about = {"recipe": args.recipe.name, "batch": args.batch, "batches": args.batches, "seed": SEED}
    if args.out:
        write_text(args.out, json.dumps({**about, "machine": platform.machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
