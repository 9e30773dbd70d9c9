"""The sweep file: systems × ρ × channels × SNRs × seeds × pictures of a data set."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from commin.channels.equalizer import Equalizer
from commin.errors import UserError
from commin.evaluation.systems.base import Point
from commin.training.recipe import Strict, explain, read_yaml
from commin.units import parse_bcr


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, (list, tuple)) else [value]


Decibel = Annotated[float, Field(ge=-200, le=200, allow_inf_nan=False)]
Decibels = Annotated[tuple[Decibel, ...], BeforeValidator(_listed), Field(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


class SweepConfig(Strict):
    """A sweep. Where a list is asked for, one value does.

    Attributes:
        data: folder or zip; ``--data`` goes before it, ``COMMIN_DATA`` after it.
        train_data: another one, whose train split, framed as the model's, reference systems are fitted to;
            ``--train-data`` goes before it. None for that of ``data``.
        split: the split of its manifest; all pictures where there is none.
        model: a model of the zoo, or a codec file.
        systems: names in `commin.evaluation.systems.SYSTEMS` and `commin.zoo.receivers.RECEIVERS`.
        bcr: ρ, such as "1/48".
        snr_db: true SNRs per complex symbol in dB.
        design_snr_db: SNRs that the encoder is told, each with each true one; None for the true one.
        told_snr_db: SNRs that the receiver is told, likewise; None for what the channel tells.
        channels: names in `commin.channels.CHANNELS`, or ``package.module:Class``.
        seeds: of all noise.
        limit: the first pictures of the split only.
        limits: the same for single, slow systems; each of these is a unit of work of its own.
        settings: of reference systems, by name.
        equalizer: for channels with gains.
        refinement: steps by which the transmitter refines the symbols of the pictures sent (`commin.codec.refinement`),
            not of those that ``retrieval`` looks through.
        crop: a name of `commin.images.crop_box`; None for what the model was trained on.
        size: pixels a side of the pictures sent, a multiple of 16; None for what the model was trained on.
        fid: keep Inception features too and give the FID of sets of 2,000 pictures or more (`commin.evaluation.fid`).
    """

    data: str | None = None
    train_data: str | None = None
    split: str = "test"
    model: str = "faces64"
    systems: Names
    bcr: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
    snr_db: Decibels
    design_snr_db: Decibels | None = None
    told_snr_db: Decibels | None = None
    channels: Names = ("awgn",)
    seeds: Annotated[tuple[int, ...], BeforeValidator(_listed), Field(min_length=1)] = (0,)
    limit: int | None = Field(None, gt=0)
    limits: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    settings: dict[str, dict[str, float]] = Field(default_factory=dict)
    equalizer: Equalizer = "mmse"
    refinement: int = Field(0, ge=0)
    crop: str | None = None
    size: int | None = Field(None, gt=0, multiple_of=16)
    fid: bool = False

    @field_validator("bcr", mode="before")
    @classmethod
    def _fractions(cls, value: Any) -> Any:
        return tuple(str(parse_bcr(text)) for text in _listed(value))

    def points(self) -> list[Point]:
        """Every point, ρ outermost and seeds innermost."""
        return list(
            dict.fromkeys(
                Point(bcr, channel, snr, snr if design is None else design, told, seed)
                for bcr in self.bcr
                for channel in self.channels
                for snr in self.snr_db
                for design in self.design_snr_db or (None,)
                for told in self.told_snr_db or (None,)
                for seed in self.seeds
            )
        )

    def pictures(self, system: str, available: int) -> int:
        """How many pictures a system gets."""
        return min(limit for limit in (available, self.limit, self.limits.get(system)) if limit is not None)


def read_sweep(path: Path) -> SweepConfig:
    """A sweep file. Raises UserError naming the first wrong key and the keys that exist."""
    try:
        return SweepConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(SweepConfig, error)}") from None
