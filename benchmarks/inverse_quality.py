"""Part ``quality`` of inverse.py: how far generated pictures are from real ones, beside the diffusion prior's."""

from collections.abc import Callable, Iterator

import torch
from inverse_bench import MODEL, Bench, Row, Tasks
from torch import Tensor

from commin.data.imageset import load_pixels
from commin.diffusion.prior import load_prior
from commin.evaluation.features import REFERENCE, reference
from commin.evaluation.systems import TrainSplit
from commin.home import home
from commin.images import from_uint8
from commin.metrics.kid import frechet_distance, kernel_distance
from commin.metrics.lpips import load_backbone
from commin.randomness import generator as seeded
from commin.training.prior import samples
from commin.zoo.fetch import find

PART = 20


def quality_tasks(bench: Bench) -> Tasks:
    """Equal numbers of the train split's next pictures, of the generator's and the prior's, beside its first 5,000.

    The Fréchet distance of so few is too large, for all three alike.
    """

    def row(parts: Callable[[Bench], Iterator[Tensor]]) -> Row:
        backbone = load_backbone("squeeze")
        real = reference(TrainSplit(bench.source, 64, "celeba", home() / "cache"), backbone)
        with torch.no_grad():
            features = torch.cat([backbone.pooled(part) for part in parts(bench)])
        distances = {"kernel": kernel_distance(features, real), "frechet": frechet_distance(features, real)}
        return {"pictures": len(features), "reference": REFERENCE, **{k: round(v, 1) for k, v in distances.items()}}

    sets = {"real, train split": real_parts, "generator": generated_parts, "prior": prior_parts}
    return {name: lambda parts=parts: row(parts) for name, parts in sets.items()}  # type: ignore[misc]


def real_parts(bench: Bench) -> Iterator[Tensor]:
    others = bench.source.split("train", REFERENCE + bench.pictures)[REFERENCE:]
    yield from from_uint8(load_pixels(bench.source, others, 64, "celeba", home() / "cache")).split(PART)


def generated_parts(bench: Bench) -> Iterator[Tensor]:
    latents = torch.randn(bench.pictures, bench.generator.config.style_dim, generator=seeded(bench.seed, "quality"))
    for part in latents.split(PART):
        yield bench.generator(part).clamp(0, 1)


def prior_parts(bench: Bench) -> Iterator[Tensor]:
    prior = load_prior(find(f"{MODEL}-prior"))
    for begin in range(0, bench.pictures, PART):
        yield samples(prior, bench.seed, range(begin, min(begin + PART, bench.pictures)), torch.device("cpu"))
