"""Training an INN to mimic one link: loss (9) of the paper, mean ‖c − y‖², [c, d] = f(x), y DeepJSCC's picture of x.

y is random given x, so the misfit E‖c − y‖² cannot fall below the floor E‖y − E[y|x]‖²; what counts is the excess over
it, as a share of E‖x − y‖².
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from commin.channels.base import Csi
from commin.codec.config import served_channels
from commin.codec.files import load_codec
from commin.errors import UserError
from commin.images import from_uint8, grid
from commin.inn.degradation import Degradation, DegradationConfig, misfit
from commin.inn.files import KIND, save_inn
from commin.modelfile import load_strict, read_model
from commin.precision import Precision, autocast
from commin.randomness import generator
from commin.training.link import validation_snrs_db
from commin.training.paths import RecipePath
from commin.training.recipe import Recipe
from commin.units import DOWNSAMPLING
from commin.zoo.load import codec_path

FLOOR_DRAWS = 16
"""Noise draws of each picture in the estimate of the floor."""


class InnRecipe(Recipe):
    """Recipe of kind ``inn``.

    Attributes:
        init: an INN's file to start from, of another ρ as well.
        codec: the codec of the link: a file, or a model of the zoo.
        codec_precision: of its arithmetic, as ``loop.precision``, which is that of P and U.
        draws: of the noise for each picture; the INN learns y's mean over them, which makes the gradient less noisy.
        model: the INN, with its ρ and the SNRs, uniform over their range for each image.
    """

    kind: Literal["inn"]
    init: RecipePath | None = None
    codec: RecipePath
    codec_precision: Precision = "auto"
    draws: int = Field(1, ge=1)
    model: DegradationConfig


@dataclass(frozen=True)
class Reference:
    """What the link makes of the validation pictures at one SNR.

    Attributes:
        first: y of the first draw, (N, 3, H, W).
        mean: y averaged over the draws, (N, 3, H, W).
        floor: E‖y − E[y|x]‖² per sample.
        error: E‖x − y‖² per sample.
    """

    first: Tensor
    mean: Tensor
    floor: float
    error: float


class InnTraining:
    """Pictures go through the codec and its channel on the fly; the INN learns where they arrive."""

    averaged: tuple[str, ...] = ("inn",)

    def __init__(self, recipe: InnRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        self.inn = Degradation(recipe.model)
        if recipe.init is not None:
            load_strict(self.inn, read_model(Path(recipe.init), KIND)[1], Path(recipe.init))
        self.phases: Mapping[str, nn.Module] = {"inn": self.inn}
        self.codec = load_codec(codec_path(recipe.codec)).requires_grad_(False)
        try:
            self.symbols = served_channels(self.codec.config, recipe.model.ratio) // 2
        except ValueError as error:
            raise UserError(f"{recipe.codec}: {error}") from None
        self.snrs_db = validation_snrs_db(recipe.model.snr_range_db)
        self._references: dict[float, Reference] = {}

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """SNR (B,) and unit noise (B, draws, k)."""
        low, high = self.recipe.model.snr_range_db
        return {
            "images": images,
            "snr_db": low + (high - low) * torch.rand(len(images), generator=rng),
            "noise": self._noise(images, self.recipe.draws, rng),
        }

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Loss (9), y averaged over the draws."""
        received = self.receive(rows["images"], rows["snr_db"], rows["noise"]).mean(0)
        coarse, _ = self.inn(rows["images"], rows["snr_db"])
        return misfit(coarse, received).mean()

    @torch.no_grad()
    def receive(self, images: Tensor, snr_db: Tensor, noise: Tensor) -> Tensor:
        """y of N draws: images (B, 3, H, W) through encoder, AWGN made of unit noise (B, N, k) at snr_db (B,), and
        decoder, (N, B, 3, H, W)."""
        codec, draws = self.codec.to(images.device), noise.shape[1]
        with autocast(self.recipe.codec_precision, images.device):
            sent = codec.encode(images, snr_db, self.recipe.model.ratio)
            arrived = sent + noise.transpose(0, 1) * Csi(snr_db).noise_variance().sqrt()
            size = (images.shape[-2], images.shape[-1])
            decoded: Tensor = codec.decode(arrived.flatten(0, 1), snr_db.repeat(draws), size)
        return decoded.float().unflatten(0, (draws, -1))

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """Misfit, floor, error and excess at each SNR, and of x̂0 = f⁻¹(y, d) ``residual``, E‖c(x̂0) − y‖², and
        ``replaced``, E‖x̂0 − x‖², which says how much of y's noise f⁻¹ lets through; score: −mean excess."""
        inn = averages["inn"]
        assert isinstance(inn, Degradation)
        device = next(inn.parameters()).device
        figures: dict[str, float] = {}
        pictures: list[list[Tensor]] = [[from_uint8(image) for image in self.validation[:8]]]
        excesses = []
        for snr in self.snrs_db:
            reference = self._reference(snr, device)
            above, residual, lost, coarses = 0.0, 0.0, 0.0, []
            for images, first, mean in self._parts(reference):
                snrs = torch.full((len(images),), snr, device=device)
                coarse, detail = inn(images.to(device), snrs)
                replaced = inn.inverse(first.to(device), detail, snrs)
                above += float(misfit(coarse, mean.to(device)).sum())
                residual += float(misfit(inn(replaced, snrs)[0], first.to(device)).sum())
                lost += float(misfit(replaced, images.to(device)).sum())
                coarses.append(coarse[:8].cpu())
            count = len(self.validation)
            excess = above / count - reference.floor / FLOOR_DRAWS
            excesses.append(100 * excess / reference.error)
            figures[f"misfit {snr:+g}"] = excess + reference.floor
            figures[f"floor {snr:+g}"] = reference.floor
            figures[f"error {snr:+g}"] = reference.error
            figures[f"excess % {snr:+g}"] = excesses[-1]
            figures[f"residual {snr:+g}"] = residual / count
            figures[f"replaced {snr:+g}"] = lost / count
            pictures += [list(reference.first[:8]), list(coarses[0])]
        figures["score"] = -sum(excesses) / len(excesses)
        return figures, grid(pictures, scale=2)

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged INN as fp16 safetensors."""
        inn = averages["inn"]
        assert isinstance(inn, Degradation)
        save_inn(inn, path.with_suffix(".safetensors"))

    def _parts(self, reference: Reference) -> list[tuple[Tensor, Tensor, Tensor]]:
        parts = zip(self.validation.split(64), reference.first.split(64), reference.mean.split(64), strict=True)
        return [(from_uint8(pixels), first, mean) for pixels, first, mean in parts]

    def _reference(self, snr: float, device: torch.device) -> Reference:
        """The link's pictures at one SNR, made once: they do not depend on the INN."""
        if snr not in self._references:
            rng = generator(self.recipe.loop.seed, "inn validation", snr)
            firsts, means, floor, error = [], [], 0.0, 0.0
            for part in self.validation.split(16):
                images = from_uint8(part).to(device)
                snrs = torch.full((len(part),), snr, device=device)
                draws = self.receive(images, snrs, self._noise(images, FLOOR_DRAWS, rng).to(device))
                mean = draws.mean(0)
                floor += float((draws - mean).square().mean((2, 3, 4)).sum()) / (FLOOR_DRAWS - 1)
                error += float((draws - images).square().mean((2, 3, 4)).sum()) / FLOOR_DRAWS
                firsts.append(draws[0].cpu())
                means.append(mean.cpu())
            count = len(self.validation)
            self._references[snr] = Reference(torch.cat(firsts), torch.cat(means), floor / count, error / count)
        return self._references[snr]

    def _noise(self, images: Tensor, draws: int, rng: torch.Generator) -> Tensor:
        """CN(0, 1) for the symbols of images (B, 3, H, W), (B, draws, k)."""
        k = self.symbols * (images.shape[-1] // DOWNSAMPLING) * (images.shape[-2] // DOWNSAMPLING)
        return torch.randn(len(images), draws, k, dtype=torch.complex64, generator=rng)
