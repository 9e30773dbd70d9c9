"""Training a codec's decoder for what pictures look like: mean of MSE / reference MSE + λ·LPIPS, the encoder frozen.

The links are drawn as for a codec. LPIPS as a loss is what Xu et al., arXiv:2211.08747, CommIN's ref. [8], discuss;
with the encoder as it is, the decoder hears exactly the symbols that all receivers hear.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from commin.codec.ends import Decoder
from commin.codec.files import load_codec, save_decoder
from commin.codec.reference import LinkConfig
from commin.errors import UserError
from commin.images import from_uint8, grid, to_uint8
from commin.inn.lifting import float32
from commin.metrics.lpips import load_lpips
from commin.metrics.pixels import mse
from commin.training.codec import arrivals
from commin.training.link import MixedLink
from commin.training.paths import RecipePath
from commin.training.recipe import Recipe
from commin.units import db_to_linear, linear_to_db
from commin.zoo.load import codec_path

BATCH = 64
"""Validation pictures at a time."""


class DecoderRecipe(Recipe):
    """Recipe of kind ``decoder``.

    Attributes:
        codec: whose decoder is trained further: a file, or a model of the zoo.
        link: ρ and SNRs, and the PSNR by which their squared errors are weighed.
        lpips_weight: λ, against squared errors of about 1.
        lpips_backbone: the network that LPIPS looks through; its weights must be on this machine.
    """

    kind: Literal["decoder"]
    codec: RecipePath
    link: LinkConfig
    lpips_weight: float = Field(ge=0)
    lpips_backbone: Literal["squeeze", "alex", "vgg"] = "squeeze"


class DecoderTraining:
    """Each image of a batch gets its own SNR and, in turn, one of the ρ.

    Raises:
        UserError: no such codec, a ρ that it does not serve, or no weights of the LPIPS backbone.
    """

    averaged: tuple[str, ...] = ("decoder",)

    def __init__(self, recipe: DecoderRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        self.lpips = load_lpips(recipe.lpips_backbone)
        self.codec = load_codec(codec_path(recipe.codec)).requires_grad_(False)
        assert self.codec.encoder is not None
        assert self.codec.decoder is not None
        self.encoder, self.decoder = self.codec.encoder, self.codec.decoder.requires_grad_(True).train()
        self.phases: Mapping[str, nn.Module] = {"decoder": self.decoder}
        try:
            self.link = MixedLink(self.codec.config, recipe.link)
        except ValueError as error:
            raise UserError(f"{recipe.codec}: {error}") from None

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """As `MixedLink.draw`."""
        return self.link.draw(images, rng)

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Mean over images of MSE / reference MSE + λ·LPIPS, the latter in float32 whatever the precision."""
        device = rows["images"].device
        pictures = self.link.picture(self.encoder.to(device), self.decoder, rows)
        with float32(device):
            distances = self.lpips.to(device)(pictures, rows["images"])
        return (self.link.relative_error(pictures, rows) + self.recipe.lpips_weight * distances).mean()

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """PSNR of the mean MSE and mean LPIPS on 8-bit pictures at every ρ and SNR of the link.

        The score is −1 times the mean over these points of what is minimised, MSE / reference MSE + λ·LPIPS.
        """
        decoder = averages["decoder"]
        assert isinstance(decoder, Decoder)
        device = next(decoder.parameters()).device
        codec, lpips = self.codec.with_decoder(decoder).to(device), self.lpips.to(device)
        originals, figures, losses = from_uint8(self.validation), {}, []
        pictures: list[list[Tensor]] = [list(originals[:8])]
        for number, bcr in enumerate(self.link.bcrs):
            for snr in self.link.snrs_db:
                arrived = from_uint8(to_uint8(arrivals(codec, self.validation, bcr, snr)))
                pairs = zip(arrived.split(BATCH), originals.split(BATCH), strict=True)
                distance = float(torch.cat([lpips(a.to(device), b.to(device)) for a, b in pairs]).mean())
                error = float(mse(arrived, originals).mean())
                expected = self.link.config.expected_psnr_db(torch.tensor([number]), torch.tensor([snr]))
                figures[f"psnr {bcr} {snr:+g}"] = linear_to_db(1 / error)
                figures[f"lpips {bcr} {snr:+g}"] = distance
                losses.append(error * float(db_to_linear(expected)) + self.recipe.lpips_weight * distance)
                pictures.append(list(arrived[:8]))
        return {**figures, "score": -sum(losses) / len(losses)}, grid(pictures, scale=2)

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged decoder as fp16 safetensors."""
        decoder = averages["decoder"]
        assert isinstance(decoder, Decoder)
        save_decoder(decoder, path.with_suffix(".safetensors"))
