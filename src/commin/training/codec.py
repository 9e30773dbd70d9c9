"""Training a DeepJSCC codec: encoder and decoder jointly for MSE through AWGN, eqs. (5) and (6) of the paper."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from pydantic import Field, field_validator
from torch import Tensor, nn

from commin.channels.awgn import Awgn
from commin.channels.base import Csi
from commin.codec.deepjscc import DeepJSCC, DeepJSCCConfig, pack, served_channels, unpack
from commin.codec.files import KIND, save_codec
from commin.images import from_uint8, grid, to_uint8
from commin.modelfile import load_strict, read_model
from commin.randomness import image_generators
from commin.training.recipe import Recipe, Strict
from commin.units import DOWNSAMPLING, db_to_linear, linear_to_db, normalize_power, parse_bcr
from commin.zoo.load import codec_path

VALIDATION_SNRS_DB = (-5.0, 0.0, 5.0)


class LinkConfig(Strict):
    """What the codec is trained over.

    Attributes:
        snr_range_db: SNR in dB, uniform over this range for each image.
        reference_psnr_db: ρ to the PSNR in dB that is expected at the two ends of the range. The loss of an image is
            its MSE over the MSE of this line at its SNR, so that no ρ and no SNR drowns the others.
    """

    snr_range_db: tuple[float, float] = (-5.0, 5.0)
    reference_psnr_db: dict[str, tuple[float, float]] = Field(min_length=1)

    @field_validator("reference_psnr_db")
    @classmethod
    def _bcrs(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for key in value:
            parse_bcr(key)
        return value


class CodecRecipe(Recipe):
    """Recipe of kind ``codec``."""

    kind: Literal["codec"]
    init: str | None = None  # a model of the zoo or a codec file to start from
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
            load_strict(codec, read_model(path, KIND)[1], path)
        assert codec.encoder is not None
        assert codec.decoder is not None
        self.encoder, self.decoder = codec.encoder, codec.decoder
        self.phases: Mapping[str, nn.Module] = {"codec": codec}
        references = {parse_bcr(key): ends for key, ends in recipe.link.reference_psnr_db.items()}
        self.bcrs = sorted(references)
        self.reference_psnr_db = torch.tensor([references[bcr] for bcr in self.bcrs])
        self.channels = torch.tensor([float(served_channels(recipe.model, bcr)) for bcr in self.bcrs])

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """SNR (B,), ρ by its index and its channels (B,), and CN(0, 1) noise for the largest k (B, k)."""
        low, high = self.recipe.link.snr_range_db
        count = len(images)
        positions = (images.shape[-1] // DOWNSAMPLING) * (images.shape[-2] // DOWNSAMPLING)
        most = max(self.recipe.model.latent_channels) // 2 * positions
        bcr = (torch.arange(count) + int(torch.randint(len(self.bcrs), (1,), generator=rng))) % len(self.bcrs)
        return {
            "images": images,
            "snr_db": low + (high - low) * torch.rand(count, generator=rng),
            "bcr": bcr,
            "channels": self.channels[bcr],
            "noise": torch.randn(count, most, dtype=torch.complex64, generator=rng),
        }

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Mean over images of MSE / reference MSE."""
        images, snr_db, bcr = rows["images"], rows["snr_db"], rows["bcr"]
        channels = rows["channels"]
        sent = pack(self.encoder.latent(images, snr_db, channels))
        share = (channels / max(self.recipe.model.latent_channels)).unsqueeze(1)
        used = torch.arange(sent.shape[1], device=sent.device) < share * sent.shape[1]
        # mean |z|² = 1 over the symbols in use; the others stay zero at both ends.
        sent = normalize_power(sent * used) * share.sqrt()
        noise = rows["noise"] * Csi(snr_db).noise_variance().sqrt()
        received = (sent + noise) * used
        latent = unpack(received, images.shape[-2] // DOWNSAMPLING, images.shape[-1] // DOWNSAMPLING)
        estimate = self.decoder.picture(latent, snr_db, channels)
        low, high = self.recipe.link.snr_range_db
        ends = self.reference_psnr_db.to(images.device)[bcr]
        reference = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * (snr_db - low) / max(high - low, 1e-9)
        return ((estimate - images).square().mean((1, 2, 3)) * db_to_linear(reference)).mean()

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """PSNR of the mean MSE at every ρ and −5, 0, 5 dB on 8-bit pictures; the mean of these is the score."""
        codec = averages["codec"]
        assert isinstance(codec, DeepJSCC)
        device = next(codec.parameters()).device
        figures: dict[str, float] = {}
        pictures: list[list[Tensor]] = [[from_uint8(image) for image in self.validation[:8]]]
        for bcr in self.bcrs:
            for snr in VALIDATION_SNRS_DB:
                error = 0.0
                shown: list[Tensor] = []
                for part in self.validation.split(64):
                    images = from_uint8(part).to(device)
                    estimate = transmit(codec, images, bcr, snr)
                    error += float(
                        (to_uint8(estimate).float() - to_uint8(images).float()).square().mean((1, 2, 3)).sum()
                    )
                    shown.extend(estimate.cpu()[: 8 - len(shown)])
                figures[f"psnr {bcr} {snr:+g}"] = linear_to_db(255.0**2 * len(self.validation) / error)
                pictures.append(shown)
        figures["score"] = sum(figures.values()) / len(figures)
        return figures, grid(pictures, scale=2)

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged codec as fp16 safetensors."""
        codec = averages["codec"]
        assert isinstance(codec, DeepJSCC)
        save_codec(codec, path.with_suffix(".safetensors"))


def transmit(codec: DeepJSCC, images: Tensor, bcr: Fraction, snr_db: float, seed: int = 0) -> Tensor:
    """Images through encoder, AWGN and decoder at one SNR, told to both ends; noise of each image from the seed."""
    snrs = torch.full((len(images),), snr_db, device=images.device)
    sent = codec.encode(images, snrs, bcr)
    received = Awgn()(sent, snrs, image_generators(images, seed, "channel"))
    return codec.decode(received.symbols, snrs, (images.shape[-2], images.shape[-1]))
