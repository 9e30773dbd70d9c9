"""Training a StyleGAN2 generator against a discriminator.

Discriminator: softplus(D(G(z))) + softplus(−D(x)), and every ``r1_every`` steps γ/2·E‖∇_x D(x)‖². Generator:
softplus(−D(G(z))), and every ``path_every`` steps the path length penalty E(‖J_wᵀ n‖ − a)², n ~ N(0, I) over the
pixels, a the running mean of ‖J_wᵀ n‖. Lazy penalties are multiplied by their interval. D sees every picture augmented.
With a ``feature_width`` each head on a trained network's features adds the same losses, the mean over its positions.

Sources: Karras et al., arXiv:1912.04958; Mescheder et al., arXiv:1801.04406 (R1); Zhao et al., arXiv:2006.10738.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import torch
from PIL import Image
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from commin.errors import UserError
from commin.images import from_uint8, grid
from commin.metrics.kid import kernel_distance
from commin.metrics.lpips import load_backbone
from commin.randomness import generator as seeded
from commin.stylegan2.augment import NUMBERS, Change, augment
from commin.stylegan2.discriminator import Discriminator, DiscriminatorConfig
from commin.stylegan2.feature_heads import NETWORK
from commin.stylegan2.files import load_discriminator, load_generator, save_discriminator, save_generator
from commin.stylegan2.generator import Generator, GeneratorConfig
from commin.training import ranks
from commin.training.gan_features import find_features
from commin.training.paths import RecipePath
from commin.training.recipe import Recipe, Strict

VALIDATION_BATCH = 50


class GanConfig(Strict):
    """Losses.

    Attributes:
        r1: γ of the gradient penalty, for pictures in [−1, 1]; r1_every: steps from one to the next.
        path: weight of the path length penalty; path_every: steps from one to the next; path_decay: how fast the
            running mean follows. It is taken over the first half of the rows.
        mixing: probability that a picture has the styles of two latents, changing over at a random layer.
        changes: what differentiable augmentation does.
    """

    r1: float = Field(0.1, ge=0)
    r1_every: int = Field(16, gt=0)
    path: float = Field(2.0, ge=0)
    path_every: int = Field(4, gt=0)
    path_decay: float = Field(0.01, gt=0, le=1)
    mixing: float = Field(0.9, ge=0, le=1)
    changes: tuple[Change, ...] = ("colour", "translation", "cutout")


class GanRecipe(Recipe):
    """Recipe of kind ``gan``.

    Attributes:
        init, init_discriminator: files of the two networks to go on with, as a run exports them; new networks without.
            Averaged weights for the one, neither the optimizers' state nor the encoder: to go on bit for bit take the
            run folder.
        model, discriminator: sizes of both, those of the files where there are files.
    """

    kind: Literal["gan"]
    init: RecipePath | None = None
    init_discriminator: RecipePath | None = None
    model: GeneratorConfig
    discriminator: DiscriminatorConfig
    gan: GanConfig = GanConfig()

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        made, judged = self.model.size, self.discriminator.size
        if not made == judged == self.data.size:
            raise ValueError(
                f"data.size is {self.data.size}, but by their widths the generator makes {made} pixels a side and the "
                f"discriminator takes {judged}"
            )
        return self


class GeneratorPhase(nn.Module):
    """The generator and the running mean of its path lengths: the state of a run.

    A new generator's mean begins with 0 as in the paper's code; that of one from a file, which has lengths of its own,
    with the first that are measured, as from 0 the penalty would pull them down until the mean had caught up.
    """

    path_length: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.register_buffer("path_length", torch.zeros(()))


class GanTraining:
    """Each step updates the discriminator, then the generator, on latents of their own."""

    averaged: tuple[str, ...] = ("generator",)

    def __init__(self, recipe: GanRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        self.features_name, self.features = find_features(recipe.model.size)
        self.discriminator = _judge(recipe)
        self.backbone = load_backbone(NETWORK) if recipe.discriminator.feature_width else None
        self.generator = GeneratorPhase(_maker(recipe))
        self.phases: Mapping[str, nn.Module] = {"discriminator": self.discriminator, "generator": self.generator}

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Of each image: two latents, where one takes over, noise maps, all for both phases; changes; pixel noise."""
        model, count = self.recipe.model, len(images)
        layer = torch.randint(1, model.layers, (count, 2), generator=rng)
        mixed = torch.rand(count, 2, generator=rng) < self.recipe.gan.mixing
        return {
            "images": images,
            "z": torch.randn(count, 2, 2, model.style_dim, generator=rng),
            "crossover": torch.where(mixed, layer, model.layers),
            "noise": torch.randn(count, 2, sum(size**2 for size in model.noise_sizes), generator=rng),
            "changes": torch.rand(count, 3, NUMBERS, generator=rng),
            "pixels": torch.randn(images.shape, generator=rng),
        }

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """The mean loss of one phase, with its penalty where the step is due for it."""
        config = self.recipe.gan
        if phase == "discriminator":
            with torch.no_grad():
                made = self.generator.generator.synthesise(self._styles(rows, 0), self._noises(rows, 0))
            real = self._augment(rows["images"], rows, 0)
            loss = self._against(self._augment(made, rows, 1), 1.0) + self._against(real, -1.0)
            lazy = self._r1(real) * config.r1_every if config.r1 and step % config.r1_every == 0 else 0.0
        else:
            made = self.generator.generator.synthesise(self._styles(rows, 1), self._noises(rows, 1))
            loss = self._against(self._augment(made, rows, 2), -1.0)
            lazy = self._path(rows) * config.path_every if config.path and step % config.path_every == 0 else 0.0
        return loss.mean() + lazy

    def _against(self, images: Tensor, sign: float) -> Tensor:
        """Σ softplus(sign·logit) over all judges of each picture, (B,)."""
        loss = F.softplus(sign * self.discriminator(images))
        if self.backbone is not None and self.discriminator.feature_heads is not None:
            for logits in self.discriminator.feature_heads(images, self.backbone.to(images.device)):
                loss = loss + F.softplus(sign * logits).mean(1)
        return loss

    def _styles(self, rows: dict[str, Tensor], phase: int) -> Tensor:
        """w+ (B, L, D), the second latent's from the row's crossover on."""
        ours, theirs = (self.generator.generator.styles(z) for z in rows["z"][:, phase].unbind(1))
        layer = torch.arange(ours.shape[1], device=ours.device)
        return torch.where((layer < rows["crossover"][:, phase, None])[..., None], ours, theirs)

    def _noises(self, rows: dict[str, Tensor], phase: int) -> list[Tensor]:
        sizes = self.recipe.model.noise_sizes
        flat = torch.split(rows["noise"][:, phase], [size**2 for size in sizes], dim=1)
        return [part.view(-1, 1, size, size) for part, size in zip(flat, sizes, strict=True)]

    def _augment(self, images: Tensor, rows: dict[str, Tensor], use: int) -> Tensor:
        return augment(images, rows["changes"][:, use], self.recipe.gan.changes)

    def _r1(self, images: Tensor) -> Tensor:
        """γ/2·E‖∇D‖² in float32 at the pictures that D saw; the gradient by pictures in [−1, 1] is half of ours."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.detach().requires_grad_().clone()  # no leaf: FLOP counting cannot follow one
            (slope,) = torch.autograd.grad(self.discriminator(images).sum(), images, create_graph=True)
            return self.recipe.gan.r1 / 8 * slope.square().sum((1, 2, 3)).mean()

    def _path(self, rows: dict[str, Tensor]) -> Tensor:
        """Path length penalty in float32; moves the running mean."""
        half = _half(rows)
        mean = self.generator.path_length
        with torch.autocast(mean.device.type, enabled=False):
            w = self._styles(half, 1)
            _, made = self.generator.generator.run(w, self._noises(half, 1))
            noise = half["pixels"] / (made.shape[2] * made.shape[3]) ** 0.5
            (slope,) = torch.autograd.grad((made * noise).sum(), w, create_graph=True)
            lengths = (slope.square().sum(2).mean(1) + 1e-8).sqrt()
            unknown = self.recipe.init is not None and not mean
            mean.lerp_(ranks.mean(lengths.detach().mean()), 1.0 if unknown else self.recipe.gan.path_decay)
            return self.recipe.gan.path * (lengths - mean).square().mean()

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """Kernel distance ×1000 of as many generated pictures to the validation ones, its negative the score; samples.

        The mean logits show whether D still takes unseen real pictures for real.
        """
        phase = averages["generator"]
        assert isinstance(phase, GeneratorPhase)
        device = phase.path_length.device
        latents = torch.randn(
            len(self.validation), self.recipe.model.style_dim, generator=seeded(self.recipe.loop.seed, "validation")
        )
        sums = {"valid": 0.0, "made": 0.0}
        features: dict[str, list[Tensor]] = {"valid": [], "made": []}
        shown: list[Tensor] = []
        parts = (torch.split(whole, VALIDATION_BATCH) for whole in (self.validation, latents))
        for pixels, z in zip(*parts, strict=True):
            made = phase.generator(z.to(device)).clamp(0, 1)
            shown.extend(made.cpu()[: 64 - len(shown)])
            for name, images in (("valid", from_uint8(pixels).to(device)), ("made", made)):
                sums[name] += float(self.discriminator(images).sum())
                features[name].append(self.features(images.cpu()))
        distance = 1000 * kernel_distance(torch.cat(features["valid"]), torch.cat(features["made"]))
        figures = {
            f"kernel distance {self.features_name}": distance,
            **{f"logit {name}": total / len(latents) for name, total in sums.items()},
            "path length": float(phase.path_length),
            "score": -distance,
        }
        wide = 8 if len(shown) >= 8 else len(shown)
        return figures, grid([shown[i : i + wide] for i in range(0, len(shown) - wide + 1, wide)], scale=2)

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged generator and, as ``NAME-discriminator``, what it was trained against, as fp16 safetensors."""
        phase = averages["generator"]
        assert isinstance(phase, GeneratorPhase)
        save_generator(phase.generator, path.with_suffix(".safetensors"))
        save_discriminator(self.discriminator, path.with_name(f"{path.name}-discriminator.safetensors"))


def _half(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value[: (len(value) + 1) // 2] for key, value in rows.items()}


def _maker(recipe: GanRecipe) -> Generator:
    """The recipe's generator, new or from its file. Raises UserError if the file holds one of another size."""
    if recipe.init is None:
        return Generator(recipe.model)
    generator = load_generator(Path(recipe.init)).train()
    _check_size(generator.config, recipe.model, recipe.init, "model")
    return generator


def _judge(recipe: GanRecipe) -> Discriminator:
    """The recipe's discriminator, new or from its file. Raises UserError if the file holds one of another size."""
    if recipe.init_discriminator is None:
        return Discriminator(recipe.discriminator)
    discriminator = load_discriminator(Path(recipe.init_discriminator)).train()
    _check_size(discriminator.config, recipe.discriminator, recipe.init_discriminator, "discriminator")
    return discriminator


def _check_size(held: BaseModel, wanted: BaseModel, path: str, key: str) -> None:
    if held != wanted:
        raise UserError(f"{path}: holds a network of {held}, and the recipe's {key} says {wanted}")
