"""Training a diffusion prior: a U-Net learns to denoise x_t = √ᾱ_t·x + √(1−ᾱ_t)·n, mean w_t·‖target − output‖²."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from commin.diffusion.prior import Prediction, Prior, load_prior, save_prior
from commin.diffusion.sampler import normal, walk
from commin.errors import UserError
from commin.images import from_uint8, grid
from commin.precision import autocast
from commin.randomness import generator
from commin.training.paths import RecipePath
from commin.training.recipe import Recipe, Strict
from commin.units import IMAGE_CHANNELS

SAMPLES = 16
SAMPLE_STEPS = 50
BATCH = 64
"""Validation pictures at a time."""


class PriorConfig(Strict):
    """A new U-Net and its schedule.

    Attributes:
        patch: p; the network sees p×p-pixel planes, 3·p² channels.
        widths: channels at each height, from 1/p of the picture downwards in halves.
        layers: residual layers at each height.
        attention: whether each height has attention, heads of ``head`` channels.
        groups: of the group norms.
        steps, schedule, prediction: T, the β schedule by its diffusers name, and what the network puts out.
    """

    patch: int = Field(2, gt=0)
    widths: tuple[int, ...] = Field((96, 192, 256), min_length=1)
    layers: int = Field(1, gt=0)
    attention: tuple[bool, ...] = (False, False, True)
    head: int = Field(64, gt=0)
    groups: int = Field(32, gt=0)
    steps: int = Field(1000, gt=1)
    schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "squaredcos_cap_v2"
    prediction: Prediction = "v_prediction"

    @model_validator(mode="after")
    def _heights(self) -> Self:
        if len(self.attention) != len(self.widths):
            raise ValueError("attention needs one entry for each of widths")
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"widths must be multiples of groups = {self.groups}")
        return self


class PriorLoss(Strict):
    """How noise levels are drawn and weighed.

    Attributes:
        times: t uniform for each image; or ``stratified``: one in each of B equal parts of 0 … T − 1; or ``weighted``:
            the parts of equal Σ w instead, and no weight in the loss but their mean: the same gradient in the mean,
            with less noise.
        min_snr: γ of w = min(ᾱ/(1−ᾱ), γ) on the picture's error (arXiv:2303.09556); None for w = 1 on the output's.
    """

    times: Literal["uniform", "stratified", "weighted"] = "stratified"
    min_snr: float | None = Field(None, gt=0)


class PriorRecipe(Recipe):
    """Recipe of kind ``prior``.

    A new network by ``model``; or one to go on with from the folder ``init``; or with both one by ``model`` that begins
    as that of ``init``, of which it has all layers, and attention besides (`grown_prior`).
    """

    kind: Literal["prior"]
    init: RecipePath | None = None
    model: PriorConfig | None = None
    loss: PriorLoss = PriorLoss()

    @model_validator(mode="after")
    def _a_source(self) -> Self:
        if self.init is None and self.model is None:
            raise ValueError("give init, a folder to go on from, or model, for a new network, or both")
        return self


class PriorTraining:
    """Every image of a batch gets its own noise level."""

    averaged: tuple[str, ...] = ("prior",)

    def __init__(self, recipe: PriorRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        self.prior = first_prior(recipe)
        set_mode(self.prior)
        self.phases: Mapping[str, nn.Module] = {"prior": self.prior}
        self.weights = output_weights(self.prior, torch.arange(self.prior.schedule.steps), recipe.loss.min_snr)

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """t (B,) int64 and unit noise (B, 3, H, W)."""
        count, steps = len(images), self.prior.schedule.steps
        share = torch.rand(count, generator=rng)
        if self.recipe.loss.times != "uniform":
            share = (torch.arange(count) + share) / count
        if self.recipe.loss.times == "weighted":
            t = torch.searchsorted(self.weights.cumsum(0) / self.weights.sum(), share)
        else:
            t = (share * steps).long()
        t = t.clamp(max=steps - 1)
        return {"images": images, "t": t, "noise": torch.randn(images.shape, generator=rng)}

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Mean of w_t times the squared error of the output."""
        errors = output_errors(self.prior, rows["images"], rows["t"], rows["noise"])
        weights = self.weights.to(errors.device)
        return ((weights.mean() if self.recipe.loss.times == "weighted" else weights[rows["t"]]) * errors).mean()

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """The unweighted loss at fixed t and noise, over all t and by quarters, and 16 pictures by 50 DDIM steps."""
        prior = averages["prior"]
        assert isinstance(prior, Prior)
        device = next(prior.parameters()).device
        rng = generator(self.recipe.loop.seed, "prior validation")
        count, steps = len(self.validation), prior.schedule.steps
        t = (torch.arange(count) * steps + steps // 2) // count
        noise = torch.randn(self.validation.shape, generator=rng)
        errors = []
        with autocast(self.recipe.loop.precision, device):
            parts = zip(self.validation.split(BATCH), t.split(BATCH), noise.split(BATCH), strict=True)
            for pixels, times, draws in parts:
                batch = (from_uint8(pixels).to(device), times.to(device), draws.to(device))
                errors.append(output_errors(prior, *batch).cpu())
            picture = sample_grid(prior, self.recipe.loop.seed, device)
        all_errors = torch.cat(errors)
        figures = {"loss valid": float(all_errors.mean()), "score": -float(all_errors.mean())}
        for quarter in range(4):
            here = (t * 4 // steps) == quarter
            if here.any():
                figures[f"loss valid t{quarter + 1}/4"] = float(all_errors[here].mean())
        return figures, picture

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged prior as a diffusers folder in fp16."""
        prior = averages["prior"]
        assert isinstance(prior, Prior)
        save_prior(prior, path)


def output_errors(prior: Prior, images: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the network's output for images (B, 3, H, W) in [0, 1] at t (B,) with this noise: (B,)."""
    x = images * 2 - 1
    output = prior.output(prior.schedule.add_noise(x, noise, t), t)
    return (output - prior.target(x, noise, t)).square().mean((1, 2, 3))


def set_mode(network: nn.Module) -> None:
    """Training mode where there is dropout; else inference mode, the same without the copies that diffusers makes."""
    network.train(any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in network.modules()))


def output_weights(prior: Prior, t: Tensor, min_snr: float | None) -> Tensor:
    """w_t (B,) of the output's error: min(s, γ) with s = ᾱ/(1−ᾱ), over what an error of the picture costs there.

    Source: min-SNR-γ (arXiv:2303.09556): min(s, γ) for the picture, min(s, γ)/s for ε, min(s, γ)/(s + 1) for v.
    """
    if min_snr is None:
        return torch.ones_like(t, dtype=torch.float32)
    signal, noise = prior.schedule.signal(t).flatten(), prior.schedule.noise(t).flatten()
    if prior.prediction == "sample":
        return (signal / noise).clamp(max=min_snr)
    kept = torch.minimum(signal, min_snr * noise)  # min(s, γ)·(1−ᾱ)
    return kept if prior.prediction == "v_prediction" else kept / signal.clamp_min(1e-8)


def sample_grid(prior: Prior, seed: int, device: torch.device) -> Image.Image:
    """16 pictures of the prior from fixed noise, four in a row."""
    return grid([list(row) for row in samples(prior, seed, range(SAMPLES), device).split(math.isqrt(SAMPLES))], scale=2)


def samples(prior: Prior, seed: int, numbers: Sequence[int], device: torch.device) -> Tensor:
    """The pictures of these numbers, (B, 3, H, W) about [0, 1], from fixed noise by 50 DDIM steps, on the CPU."""
    generators = [generator(seed, "prior sample", number) for number in numbers]
    x = normal((IMAGE_CHANNELS, prior.size, prior.size), generators, device)
    schedule = prior.schedule
    times = schedule.timesteps(schedule.steps - 1, 0, min(SAMPLE_STEPS, schedule.steps)).to(device).expand(len(x), -1)
    return ((walk(schedule, prior.denoise, x, times, draw=lambda: torch.zeros_like(x)) + 1) / 2).cpu()


def first_prior(recipe: PriorRecipe) -> Prior:
    """The prior that a training by this recipe begins with.

    Raises:
        UserError: ``init`` is no prior of this size, or cannot grow into the network of ``model``.
    """
    size = recipe.data.size
    if recipe.init is None:
        assert recipe.model is not None
        return new_prior(recipe.model, size)
    known = load_prior(Path(recipe.init))
    if known.size != size:
        raise UserError(f"{recipe.init}: made for {known.size} pixels, not data.size = {size}")
    if recipe.model is None:
        return known
    try:
        return grown_prior(known, recipe.model, size)
    except ValueError as error:
        raise UserError(f"{recipe.init}: {error}") from None


def grown_prior(known: Prior, config: PriorConfig, size: int) -> Prior:
    """A prior by ``config`` that computes what ``known`` does: further attention puts out zero at first.

    Raises:
        ValueError: the networks differ in more than further attention, or in what they predict from which noise.
    """
    grown = new_prior(config, size)
    if (known.prediction, known.patch) != (grown.prediction, grown.patch) or not torch.equal(
        *(prior.schedule.signal(torch.arange(prior.schedule.steps)) for prior in (known, grown))
    ):
        raise ValueError("cannot grow into this model: its noise schedule, prediction or patch is another")
    try:
        new = grown.unet.load_state_dict(known.unet.state_dict(), strict=False)
    except RuntimeError as error:
        raise ValueError(f"cannot grow into this model ({' '.join(str(error).split())[:200]})") from None
    if new.unexpected_keys or any(".attentions." not in key for key in new.missing_keys):
        raise ValueError("cannot grow into this model: only attention can be added")
    parameters = dict(grown.unet.named_parameters())
    for key in new.missing_keys:
        if ".to_out." in key:
            nn.init.zeros_(parameters[key])
    return grown


def new_prior(config: PriorConfig, size: int) -> Prior:
    """A prior for size×size pictures with random weights."""
    from diffusers import UNet2DModel

    kinds = ["AttnDownBlock2D" if here else "DownBlock2D" for here in config.attention]
    unet = UNet2DModel(
        sample_size=size // config.patch,
        in_channels=IMAGE_CHANNELS * config.patch**2,
        out_channels=IMAGE_CHANNELS * config.patch**2,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        attention_head_dim=config.head,
        norm_num_groups=config.groups,
        down_block_types=tuple(kinds),
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(kinds)),
    )
    scheduler: dict[str, Any] = {
        "num_train_timesteps": config.steps,
        "beta_schedule": config.schedule,
        "prediction_type": config.prediction,
        "clip_sample": True,
    }
    return Prior(unet, scheduler)
