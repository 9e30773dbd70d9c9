"""Training a rectified flow from y to x: mean of ‖v(x_s, s) − (x − y − σ·n)‖²/r², x_s = (1 − s)·(y + σ·n) + s·x.

Pictures go through a model's codec and the channel on the fly, each with its own ρ and SNR; the network starts as the
model's prior (`commin.diffusion.flow` says how), and may be shown the correction by the model's INNs at x_s.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from commin.channels.awgn import Awgn
from commin.codec.files import load_codec
from commin.diffusion.flow import Flow, FlowConfig, flow_from, save_flow
from commin.errors import UserError
from commin.images import from_uint8, grid
from commin.link import Link
from commin.precision import autocast
from commin.randomness import generator
from commin.receivers.pmrf import Pmrf, conditions
from commin.training.link import MixedLink
from commin.training.prior import set_mode
from commin.training.recipe import Recipe
from commin.zoo.load import codec_path
from commin.zoo.receivers import Parts

BATCH = 64
"""Validation pictures at a time."""

SHOWN = 8
"""Validation pictures restored for the grid."""


class FlowRecipe(Recipe):
    """Recipe of kind ``flow``.

    Attributes:
        model: of the zoo: its codec, its prior to start from, and with ``flow.inn`` its INNs.
        flow: the links, σ, and whether the network sees the INNs' correction.
    """

    kind: Literal["flow"]
    model: str
    flow: FlowConfig


class FlowTraining:
    """Every image of a batch gets its own ρ, SNR, noise and s; the s are stratified over [0, 1).

    Raises:
        UserError: the model has no prior, INN or ρ that is needed, or a prior of another size.
    """

    averaged: tuple[str, ...] = ("flow",)

    def __init__(self, recipe: FlowRecipe, validation: Tensor) -> None:
        torch.manual_seed(recipe.loop.seed)
        self.recipe, self.validation = recipe, validation
        self.codec = load_codec(codec_path(recipe.model)).requires_grad_(False)
        try:
            self.link = MixedLink(self.codec.config, recipe.flow.link)
        except ValueError as error:
            raise UserError(f"{recipe.model}: {error}") from None
        parts = [Parts(recipe.model, bcr, torch.device("cpu")) for bcr in self.link.bcrs]
        prior = parts[0].prior(torch.float32)
        if prior.size != recipe.data.size:
            raise UserError(f"{recipe.model}: a prior of {prior.size} pixels, not data.size = {recipe.data.size}")
        self.flow = flow_from(prior, recipe.flow)
        set_mode(self.flow)
        self.inns = [each.inn().requires_grad_(False) for each in parts] if recipe.flow.inn else []
        self.phases: Mapping[str, nn.Module] = {"flow": self.flow}

    def draw(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """As `MixedLink.draw`, with ``s`` (B,) and the unit noise ``start`` (B, 3, H, W)."""
        rows, count = self.link.draw(images, rng), len(images)
        s = (torch.arange(count) + torch.rand(count, generator=rng)) / count
        return {**rows, "s": s, "start": torch.randn(images.shape, generator=rng)}

    def loss(self, phase: str, rows: dict[str, Tensor], step: int) -> Tensor:
        """Mean over images of `errors`."""
        return self.errors(self.flow, rows).mean()

    def errors(self, flow: Flow, rows: dict[str, Tensor]) -> Tensor:
        """Mean squared error of the velocity over r², of the rows of `draw`: (B,)."""
        x, y, s = rows["images"] * 2 - 1, self.link.estimate(self.codec, rows) * 2 - 1, rows["s"]
        begin = y + flow.config.sigma * rows["start"]
        state = torch.lerp(begin, x, s[:, None, None, None])
        deviation = flow.deviation(rows["bcr"], rows["snr_db"])
        velocity = flow.velocity(state, s, deviation, *self.conditions(state, y, rows))
        return (velocity - (x - begin)).square().mean((1, 2, 3)) / deviation.square()

    @torch.no_grad()
    def conditions(self, state: Tensor, y: Tensor, rows: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """As `commin.receivers.pmrf.conditions`, each row by the INN of its ρ."""
        if not self.inns:
            return conditions(None, state, y, rows["snr_db"])
        correction = torch.empty_like(state)
        for number, inn in enumerate(self.inns):
            here = rows["bcr"] == number
            if here.any():
                part = conditions(inn.to(state.device), state[here], y[here], rows["snr_db"][here])
                correction[here] = part[-1]
        return y, correction

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> tuple[dict[str, float], Image.Image]:
        """The loss at fixed draws, over all and for each ρ and quarter of s, and pictures at 0 dB: x, then y and x̂.

        The score is −1 times the loss over all.
        """
        flow = averages["flow"]
        assert isinstance(flow, Flow)
        device = next(flow.parameters()).device
        rows = self.draw(from_uint8(self.validation), generator(self.recipe.loop.seed, "flow validation"))
        shown = rows["images"][:SHOWN]
        pictures, errors = [list(shown)], []
        with autocast(self.recipe.loop.precision, device):
            for first in range(0, len(self.validation), BATCH):
                part = {key: value[first : first + BATCH].to(device) for key, value in rows.items()}
                errors.append(self.errors(flow, part).cpu())
            for number, bcr in enumerate(self.link.bcrs):
                receiver = Pmrf(flow, self.inns[number] if self.inns else None)
                sent = Link(self.codec, bcr, Awgn(), receiver).to(device).transmit(shown, 0.0, self.recipe.loop.seed)
                pictures += [list(sent.estimate.cpu()), list(sent.images.cpu())]
        all_errors = torch.cat(errors)
        figures = {"loss valid": float(all_errors.mean()), "score": -float(all_errors.mean())}
        groups = {f"loss valid {bcr}": rows["bcr"] == number for number, bcr in enumerate(self.link.bcrs)}
        groups |= {f"loss valid s{quarter + 1}/4": (rows["s"] * 4).long() == quarter for quarter in range(4)}
        figures |= {name: float(all_errors[here].mean()) for name, here in groups.items() if here.any()}
        return figures, grid(pictures, scale=2)

    def export(self, averages: Mapping[str, nn.Module], path: Path, images_seen: int) -> None:
        """The averaged flow as fp16 safetensors."""
        flow = averages["flow"]
        assert isinstance(flow, Flow)
        save_flow(flow, path.with_suffix(".safetensors"))
