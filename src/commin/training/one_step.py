"""Training one call from y to x: mean of MSE / reference MSE + λ·LPIPS of y + v(y, 0), over links as for a flow.

The network starts as a flow (`commin.training.flow`) or as the model's prior. LPIPS is that of random changes of both
pictures (`commin.metrics.lpips_ensemble`); pictures go through the model's codec and the channel on the fly.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from commin.codec.files import load_codec
from commin.codec.reference import LinkConfig
from commin.diffusion.flow import ONE_STEP, Flow, FlowConfig, flow_from, load_flow, one_step, save_flow
from commin.errors import UserError
from commin.images import from_uint8, grid, to_uint8
from commin.inn.lifting import float32
from commin.metrics.lpips import load_lpips
from commin.metrics.lpips_ensemble import ensemble_lpips
from commin.metrics.pixels import mse
from commin.precision import autocast
from commin.randomness import generator
from commin.training.codec import arrivals
from commin.training.link import MixedLink
from commin.training.paths import RecipePath
from commin.training.prior import set_mode
from commin.training.recipe import Recipe
from commin.units import linear_to_db
from commin.zoo.load import codec_path
from commin.zoo.receivers import Parts

BATCH = 64
"""Validation pictures at a time."""

LARGER = 0.5
"""Share of pictures that LPIPS sees enlarged."""

SHOWN = 8
"""Validation pictures in the grid."""


class OneStepRecipe(Recipe):
    """Recipe of kind ``one-step``.

    Attributes:
        model: of the zoo: its codec, and its prior to start from.
        init: a flow without an INN, or a one-step network, to start from in the prior's place: a file.
        link: ρ and SNRs, and the PSNR by which squared errors are weighed and y's level is known.
        lpips_weight: λ, against squared errors of about 1.
        lpips_backbone: the network that LPIPS looks through; its weights must be on this machine.
    """

    kind: Literal["one-step"]
    model: str
    init: RecipePath | None = None
    link: LinkConfig
    lpips_weight: float = Field(ge=0)
    lpips_backbone: Literal["squeeze", "alex", "vgg"] = "squeeze"


class OneStepTraining:
    """Every image of a batch gets its own SNR and noise and, in turn, one of the ρ.

    Raises:
        UserError: the model lacks a part or a ρ, a network of another size, or no weights of the LPIPS backbone.
    """

    averaged: tuple[str, ...] = ("flow",)

    def __init__(self, recipe: OneStepRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        self.lpips = load_lpips(recipe.lpips_backbone)
        self.codec = load_codec(codec_path(recipe.model)).requires_grad_(False)
        try:
            self.link = MixedLink(self.codec.config, recipe.link)
        except ValueError as error:
            raise UserError(f"{recipe.model}: {error}") from None
        self.flow = _network(recipe, self.link)
        set_mode(self.flow)
        self.phases: Mapping[str, nn.Module] = {"flow": self.flow}

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """As `MixedLink.draw`, with ``larger`` (B,): which pictures LPIPS sees enlarged."""
        return {**self.link.draw(images, rng), "larger": torch.rand(len(images), generator=rng) < LARGER}

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Mean over images of MSE / reference MSE + λ·LPIPS, the latter in float32 whatever the precision."""
        device = rows["images"].device
        pictures = one_step(self.flow, self.link.estimate(self.codec, rows), rows["bcr"], rows["snr_db"])
        with float32(device):
            rng = generator(self.recipe.loop.seed, "lpips", step)
            distances = ensemble_lpips(self.lpips.to(device), pictures.float(), rows["images"], rows["larger"], rng)
        return (self.link.relative_error(pictures, rows) + self.recipe.lpips_weight * distances).mean()

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """At every ρ and SNR: dB of mean MSE gained over y and LPIPS over y's, 8-bit pictures; x, then y and x̂ of each.

        The score is −1 times the mean over these points of what is minimised, with LPIPS as it is measured.
        """
        flow = averages["flow"]
        assert isinstance(flow, Flow)
        device = next(flow.parameters()).device
        originals = from_uint8(self.validation).to(device)
        figures, losses, pictures = {}, [], [list(originals[:SHOWN].cpu())]
        for number, bcr in enumerate(self.link.bcrs):
            for snr in self.link.snrs_db:
                y = arrivals(self.codec, self.validation, bcr, snr).to(device)
                rows = {
                    "images": originals,
                    "bcr": torch.full((len(y),), number, device=device),
                    "snr_db": torch.full((len(y),), snr, device=device),
                }
                restored = self._restore(flow, y, rows)
                before, after = (self._distance(part, originals) for part in (y, restored))
                gain = mse(y, originals).mean() / mse(restored, originals).mean()
                figures[f"dB {bcr} {snr:+g}"] = linear_to_db(float(gain))
                figures[f"lpips ratio {bcr} {snr:+g}"] = after / before
                error = float(self.link.relative_error(restored, rows).mean())
                losses.append(error + self.recipe.lpips_weight * after)
                pictures += [list(part[:SHOWN].cpu()) for part in (y, restored)]
        return {**figures, "score": -sum(losses) / len(losses)}, grid(pictures, scale=2)

    def _restore(self, flow: Flow, y: Tensor, rows: dict[str, Tensor]) -> Tensor:
        """8-bit pictures in [0, 1]."""
        split = zip(*(part.split(BATCH) for part in (y, rows["bcr"], rows["snr_db"])), strict=True)
        with autocast(self.recipe.loop.precision, y.device):
            made = torch.cat([one_step(flow, *part) for part in split])
        return from_uint8(to_uint8(made.float())).to(y.device)

    def _distance(self, a: Tensor, b: Tensor) -> float:
        lpips = self.lpips.to(a.device)
        return float(torch.cat([lpips(x, y) for x, y in zip(a.split(BATCH), b.split(BATCH), strict=True)]).mean())

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged network as fp16 safetensors."""
        flow = averages["flow"]
        assert isinstance(flow, Flow)
        save_flow(flow, path.with_suffix(".safetensors"), kind=ONE_STEP)


def _network(recipe: OneStepRecipe, link: MixedLink) -> Flow:
    """Where training begins; raises UserError as `OneStepTraining`."""
    config = FlowConfig(link=recipe.link, sigma=0.0)
    named = recipe.init or recipe.model
    if recipe.init is None:
        flow = flow_from(Parts(recipe.model, link.bcrs[0], torch.device("cpu")).prior(torch.float32), config)
    else:
        began = load_flow(Path(recipe.init))
        if began.config.inn:
            raise UserError(f"{named}: a flow that is shown an INN's correction; begin with one that sees y alone")
        flow = Flow(began.prior, config)
    if flow.prior.size != recipe.data.size:
        raise UserError(f"{named}: a network of {flow.prior.size} pixels, not data.size = {recipe.data.size}")
    return flow
