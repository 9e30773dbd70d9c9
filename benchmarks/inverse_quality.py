"""Part ``quality`` of inverse.py: how far generated pictures are from real ones, beside the diffusion prior's."""

from collections.abc import Callable, Iterator

import torch
from inverse_bench import MODEL, Bench, Row, Tasks
from torch import Tensor

from commin.diffusion.prior import load_prior
from commin.evaluation.features import REFERENCE, reference
from commin.evaluation.systems import TrainSplit
from commin.home import home
from commin.metrics.kid import kernel_distance
from commin.metrics.lpips import load_backbone
from commin.randomness import generator as seeded
from commin.training.prior import samples
from commin.zoo.fetch import find

PART = 20


def quality_tasks(bench: Bench) -> Tasks:
    """Equal numbers of test pictures, of the generator's and of the prior's, each beside the train split's first."""

    def row(parts: Callable[[Bench], Iterator[Tensor]]) -> Row:
        backbone = load_backbone("squeeze")
        real = reference(TrainSplit(bench.source, 64, "celeba", home() / "cache"), backbone)
        with torch.no_grad():
            features = torch.cat([backbone.pooled(part) for part in parts(bench)])
        return {"pictures": len(features), "reference": REFERENCE, "kernel": round(kernel_distance(features, real), 4)}

    sets = {"real, test split": real_parts, "generator": generated_parts, "prior": prior_parts}
    return {name: lambda parts=parts: row(parts) for name, parts in sets.items()}  # type: ignore[misc]


def real_parts(bench: Bench) -> Iterator[Tensor]:
    yield from bench.faces("test")[0].split(PART)


def generated_parts(bench: Bench) -> Iterator[Tensor]:
    latents = torch.randn(bench.pictures, bench.generator.config.style_dim, generator=seeded(bench.seed, "quality"))
    for part in latents.split(PART):
        yield bench.generator(part).clamp(0, 1)


def prior_parts(bench: Bench) -> Iterator[Tensor]:
    prior = load_prior(find(f"{MODEL}-prior"))
    for begin in range(0, bench.pictures, PART):
        yield samples(prior, bench.seed, range(begin, min(begin + PART, bench.pictures)), torch.device("cpu"))
