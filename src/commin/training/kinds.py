"""The kinds of model that can be trained: a recipe class and how to make its `Trainable`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.decoder import DecoderRecipe, DecoderTraining
from commin.training.flow import FlowRecipe, FlowTraining
from commin.training.gan import GanRecipe, GanTraining
from commin.training.inn import InnRecipe, InnTraining
from commin.training.loop import Trainable
from commin.training.one_step import OneStepRecipe, OneStepTraining
from commin.training.prior import PriorRecipe, PriorTraining
from commin.training.reader import Pixels
from commin.training.recipe import Recipe


@dataclass(frozen=True)
class Kind:
    """How a kind is trained.

    Attributes:
        recipe: its recipes.
        make: a recipe and validation pixels, uint8 (N, 3, H, W), to what the loop trains.
        prepare: what was made, the training pixels, the run's folder (None for a trial), the device and where progress
            is shown, to what the loop reads in the pixels' place; None to read the pixels.
    """

    recipe: type[Recipe]
    make: Callable[[Any, Tensor], Trainable]
    prepare: Callable[[Any, Pixels, Path | None, torch.device, Console], Pixels] | None = None


KINDS: dict[str, Kind] = {
    "codec": Kind(CodecRecipe, CodecTraining),
    "decoder": Kind(DecoderRecipe, DecoderTraining),
    "flow": Kind(FlowRecipe, FlowTraining),
    "gan": Kind(GanRecipe, GanTraining),
    "inn": Kind(InnRecipe, InnTraining),
    "one-step": Kind(OneStepRecipe, OneStepTraining, OneStepTraining.prepare),
    "prior": Kind(PriorRecipe, PriorTraining),
}
