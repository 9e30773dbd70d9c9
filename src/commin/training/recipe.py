"""A recipe: everything that a training depends on besides the images themselves, as one YAML file."""

from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from commin.errors import UserError
from commin.precision import Precision
from commin.training.paths import RecipePath


class Strict(BaseModel):
    """A frozen config that forbids unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Strict):
    """Which pictures: a split of a folder or zip, cropped to size.

    Attributes:
        path: the folder or zip, unless the option ``--data`` gives one; None for the environment's COMMIN_DATA.
        split, validation_split: of its manifest; None for all pictures.
        size, crop: height and width in pixels, and what is cut out to fill them (`commin.images.crop_box`).
        limit, validation_limit: the first pictures of each split alone.
        stream, workers: decode pictures when they are needed, in so many threads, instead of once before; for sets that
            do not fit in memory.
    """

    path: RecipePath | None = None
    split: str | None = "train"
    validation_split: str | None = "valid"
    size: int = Field(64, gt=0, multiple_of=16)
    crop: str = "celeba"
    limit: int | None = Field(None, gt=0)
    validation_limit: int = Field(256, gt=0)
    stream: bool = False
    workers: int = Field(4, gt=0)


class LoopConfig(Strict):
    """How to train, the same for every kind of model.

    Attributes:
        images: training images to see in all, counted with repetition.
        batch: images a step; micro_batch: images a forward pass, 0 for the whole batch.
        optimizer: ``adamw``, or ``muon`` for its matrices (`commin.training.muon`).
        lr: peak learning rate: linear warm-up, constant, then linear to 0 over the last share
            ``decay`` of the images.
        clip: largest gradient norm.
        flip: mirror half of the pictures left to right.
        shift: move each by whole pixels, uniform in −shift … shift both ways; edges are mirrored.
        colour: multiply each channel by exp(u), u uniform in −colour … colour, clipped to [0, 1].
        ema: decay of the weight average for each step, towards which it grows as (1 + step)/(10 + step).
        precision: float32, or bf16 or fp16 autocast; ``auto`` is bf16 where the device is quicker in it, else
            float32, on a CPU with wide 3×3 convolutions by Winograd's algorithm (`commin.winograd`).
        forget_activations: compute activations again in the backward pass instead of keeping them: memory for time.
        compile: compile the blocks of the network by ``torch.compile``.
        validate_every, checkpoint_minutes: images between validations, minutes between checkpoints.
        keep: newest checkpoints kept, beside the best.
    """

    seed: int = 0
    images: int = Field(gt=0)
    batch: int = Field(64, gt=0)
    micro_batch: int = Field(0, ge=0)
    lr: float = Field(1e-3, gt=0)
    optimizer: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0)
    warmup_images: int = Field(20_000, ge=0)
    decay: float = Field(0.0, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    flip: bool = True
    shift: int = Field(0, ge=0, lt=16)
    colour: float = Field(0.0, ge=0, le=1)
    precision: Precision = "float32"
    channels_last: bool = True
    forget_activations: bool = False
    compile: bool = False
    validate_every: int = Field(50_000, gt=0)
    checkpoint_minutes: float = Field(4.0, gt=0)
    keep: int = Field(2, gt=0)


class Recipe(Strict):
    """What every recipe has; each kind adds its own sections."""

    kind: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig = DataConfig()
    loop: LoopConfig


R = TypeVar("R", bound=Recipe)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping.

    Raises:
        UserError: it cannot be read, or is no such file.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values")
    return content


def parse(model: type[R], content: dict[str, Any], path: Path) -> R:
    """Check a recipe's content. Raises UserError naming the first wrong key and the keys that exist."""
    try:
        return model.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        raise UserError(f"{path}: {explain(model, error)}") from None


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """One line for the first problem of a config: where, what, and for a wrong key which keys exist."""
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']}"
    owner: type[BaseModel] = model
    for part in problem["loc"][:-1]:
        annotation = owner.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            owner = annotation
    return f"unknown key {where}; the keys here are {', '.join(owner.model_fields)}"
