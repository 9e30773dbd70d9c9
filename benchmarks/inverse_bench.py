"""What the parts of inverse.py share: pictures, the search, scores of each picture with their intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from codec import point
from torch import Tensor

import commin
from commin.data.imageset import ImageSet, load_pixels
from commin.evaluation.bootstrap import interval, paired
from commin.home import home
from commin.images import from_uint8
from commin.link import Link
from commin.metrics.lpips import load_lpips
from commin.metrics.pixels import psnr
from commin.randomness import image_generators
from commin.receivers.base import Arrival, Receiver
from commin.receivers.inverse_jscc import InverseJSCC, InverseSettings
from commin.stylegan2.generator import Generator
from commin.stylegan2.ilo import IloConfig
from commin.units import parse_bcr

Row = dict[str, Any]
Tasks = dict[str, Callable[[], Row]]
"""What a part has to do, by name; each task gives one row of the results."""

RATIOS = ("1/192", "1/48", "1/12")
SNRS_DB = (-5.0, 0.0, 5.0)
MODEL, BCR = "faces64", "1/48"


@dataclass(frozen=True)
class Bench:
    """What is measured, and on how many pictures.

    Attributes:
        source: the data set.
        generator: the generator to invert.
        settings: the search at each ρ.
        grid: the searches that ``tune`` tries, each at its ρ.
        pictures: of the part at hand.
        batch: pictures inverted at once, whatever the settings say.
        seed: of all noise.
        literal: run the 1,000 calls of ``commin``, instead of counting them up from 20.
    """

    source: ImageSet
    generator: Generator
    settings: InverseSettings
    grid: tuple[tuple[str, IloConfig], ...]
    pictures: int
    batch: int
    seed: int
    literal: bool

    def faces(self, split: str) -> tuple[Tensor, list[str]]:
        """The first pictures of a split, (N, 3, 64, 64) in [0, 1], and whom each shows."""
        entries = self.source.split(split, self.pictures)
        pixels = load_pixels(self.source, entries, 64, "celeba", home() / "cache")
        return from_uint8(pixels), [entry.identity or entry.file for entry in entries]

    def receiver(self, search: IloConfig) -> InverseJSCC:
        """The receiver with one search, ``batch`` pictures at once."""
        return InverseJSCC(self.generator, search.model_copy(update={"batch": self.batch}), load_lpips())

    def at(self, bcr: str) -> IloConfig:
        """The search at ρ."""
        return self.settings.at(parse_bcr(bcr))

    def sent(self, receiver: Receiver, images: Tensor, bcr: str, snr_db: float) -> dict[str, Tensor]:
        """Figures of each picture, as `codec.point` gives them; the noise is the same for every receiver."""
        plain = commin.load(MODEL, bcr)
        return point(Link(plain.codec, plain.bcr, plain.channel, receiver), images, snr_db, self.seed)

    def clean(self, search: IloConfig, images: Tensor) -> dict[str, Tensor]:
        """PSNR and LPIPS (N,) of the generator's pictures nearest to the pictures themselves, no channel."""
        plain, count = commin.load(MODEL, BCR), len(images)
        arrival = Arrival(
            images, torch.zeros(count, 1, dtype=torch.complex64), torch.zeros(count), plain.bcr, plain.codec
        )
        generators = image_generators(images, self.seed, "receiver")
        found = self.receiver(search).restore(arrival, generators, 1)[:, 0]
        with torch.no_grad():
            return {"psnr": psnr(found, images), "lpips": load_lpips()(found, images)}


def shared(total: int, steps: tuple[int, ...]) -> tuple[int, ...]:
    """So many steps, shared out over the phases as these are; what is left by rounding goes to the first."""
    later = [total * count // sum(steps) for count in steps[1:]]
    return (total - sum(later), *later)


def search_of(steps: tuple[int, ...], rate: float = 0.1, lpips: float = 1.0, noises: bool = True) -> IloConfig:
    """A search of these phases, the same rate in each."""
    return IloConfig(steps=steps, rates=(rate,) * len(steps), lpips=lpips, noises=noises)


def means(values: dict[str, Tensor], identities: list[str]) -> Row:
    """Mean PSNR and LPIPS with 95 % intervals over identities."""
    row: Row = {}
    for name, digits in (("psnr", 3), ("lpips", 4)):
        found = interval(values[name], identities)
        key = "psnr_db" if name == "psnr" else name
        row[key] = round(found.mean, digits)
        row[f"{key}_interval"] = [round(found.low, digits), round(found.high, digits)]
    return row


def beside(ours: dict[str, Tensor], plain: dict[str, Tensor], identities: list[str]) -> Row:
    """`means` of a receiver beside DeepJSCC's, and the paired differences; below 0 is better for LPIPS."""
    row = means(ours, identities) | {f"deepjscc_{key}": value for key, value in means(plain, identities).items()}
    for name, digits in (("psnr", 3), ("lpips", 4)):
        gain = paired(ours[name], plain[name], identities)
        row[f"{name}_gain"] = [round(value, digits) for value in (gain.mean, gain.low, gain.high)]
    return row | {"lpips_ratio": round(row["lpips"] / row["deepjscc_lpips"], 3)}
