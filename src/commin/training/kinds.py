"""The kinds of model that can be trained: a recipe class and how to make its `Trainable`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.decoder import DecoderRecipe, DecoderTraining
from commin.training.flow import FlowRecipe, FlowTraining
from commin.training.gan import GanRecipe, GanTraining
from commin.training.inn import InnRecipe, InnTraining
from commin.training.loop import Trainable
from commin.training.one_step import OneStepRecipe, OneStepTraining
from commin.training.prior import PriorRecipe, PriorTraining
from commin.training.recipe import Recipe


@dataclass(frozen=True)
class Kind:
    """``make(recipe, validation pixels uint8 (N, 3, H, W))`` gives what the loop trains."""

    recipe: type[Recipe]
    make: Callable[[Any, Tensor], Trainable]


KINDS: dict[str, Kind] = {
    "codec": Kind(CodecRecipe, CodecTraining),
    "decoder": Kind(DecoderRecipe, DecoderTraining),
    "flow": Kind(FlowRecipe, FlowTraining),
    "gan": Kind(GanRecipe, GanTraining),
    "inn": Kind(InnRecipe, InnTraining),
    "one-step": Kind(OneStepRecipe, OneStepTraining),
    "prior": Kind(PriorRecipe, PriorTraining),
}
