"""Training a DeepJSCC codec: encoder and decoder jointly for MSE through AWGN, eqs. (5) and (6) of the paper."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from commin.channels.awgn import Awgn
from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC
from commin.codec.files import KIND, save_codec
from commin.codec.reference import LinkConfig
from commin.codec.separate import begin_separate
from commin.images import from_uint8, grid
from commin.metrics.pixels import mse
from commin.modelfile import load_strict, read_model
from commin.randomness import image_generators
from commin.training.link import MixedLink
from commin.training.recipe import Recipe
from commin.units import linear_to_db
from commin.zoo.load import codec_path


class CodecRecipe(Recipe):
    """Recipe of kind ``codec``."""

    kind: Literal["codec"]
    init: str | None = None  # a model of the zoo or a codec file to start from; one network may begin separate ones
    model: DeepJSCCConfig
    link: LinkConfig


class CodecTraining:
    """Each image of a batch gets its own SNR and, in turn, one of the ρ."""

    averaged: tuple[str, ...] = ("codec",)

    def __init__(self, recipe: CodecRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        codec = DeepJSCC(recipe.model)
        if recipe.init:
            path = codec_path(recipe.init)
            weights = read_model(path, KIND)[1]
            if recipe.model.separate:
                weights = begin_separate(weights, recipe.model)
            load_strict(codec, weights, path)
        assert codec.encoder is not None
        assert codec.decoder is not None
        self.encoder, self.decoder = codec.encoder, codec.decoder
        self.phases: Mapping[str, nn.Module] = {"codec": codec}
        self.link = MixedLink(recipe.model, recipe.link)

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """As `MixedLink.draw`."""
        return self.link.draw(images, rng)

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Mean over images of MSE / reference MSE."""
        return self.link.relative_error(self.link.picture(self.encoder, self.decoder, rows), rows).mean()

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """PSNR of the mean MSE at every ρ and SNR of the link on 8-bit pictures; the mean of these is the score."""
        codec = averages["codec"]
        assert isinstance(codec, DeepJSCC)
        figures: dict[str, float] = {}
        pictures: list[list[Tensor]] = [[from_uint8(image) for image in self.validation[:8]]]
        for bcr in self.link.bcrs:
            for snr in self.link.snrs_db:
                arrived = arrivals(codec, self.validation, bcr, snr)
                error = float(mse(arrived, from_uint8(self.validation)).mean())
                figures[f"psnr {bcr} {snr:+g}"] = linear_to_db(1 / error)
                pictures.append(list(arrived[:8]))
        figures["score"] = sum(figures.values()) / len(figures)
        return figures, grid(pictures, scale=2)

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged codec as fp16 safetensors."""
        codec = averages["codec"]
        assert isinstance(codec, DeepJSCC)
        save_codec(codec, path.with_suffix(".safetensors"))


def arrivals(codec: DeepJSCC, pixels: Tensor, bcr: Fraction, snr_db: float) -> Tensor:
    """`transmit` of uint8 pictures (N, 3, H, W), some at a time: N of them in [0, 1], on the CPU."""
    device = next(codec.parameters()).device
    parts = [transmit(codec, from_uint8(part).to(device), bcr, snr_db).cpu() for part in pixels.split(64)]
    return torch.cat(parts)


def transmit(codec: DeepJSCC, images: Tensor, bcr: Fraction, snr_db: float, seed: int = 0) -> Tensor:
    """Images through encoder, AWGN and decoder at one SNR, told to both ends; noise of each image from the seed."""
    snrs = torch.full((len(images),), snr_db, device=images.device)
    sent = codec.encode(images, snrs, bcr)
    received = Awgn()(sent, snrs, image_generators(images, seed, "channel"))
    return codec.decode(received.symbols, snrs, (images.shape[-2], images.shape[-1]))
