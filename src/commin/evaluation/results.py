"""The records of a sweep as columns: for each system and link, one row for each picture and seed, in a fixed order."""

import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from commin.evaluation.records import WHOLE_SET, read_lines, record_files
from commin.evaluation.systems.base import Place, place_of

COLUMNS = ("psnr_db", "ssim", "lpips", "measured_snr_db", "seconds", "lost")


@dataclass
class Samples:
    """All pictures of one system at one place.

    Attributes:
        group: the class it is compared in.
        k, n: complex symbols and real samples of a picture.
        network_calls: for one picture.
        backbone: LPIPS's, "" if it was not to be had.
        keys: (picture, seed) of each row.
        identities: whom each row shows.
        columns: name to values; NaN where there is none.
    """

    group: str
    k: int
    n: int
    network_calls: int
    backbone: str
    keys: list[tuple[str, int]] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    columns: dict[str, "array[float]"] = field(default_factory=lambda: {name: array("d") for name in COLUMNS})

    def column(self, name: str) -> Tensor:
        """One column, float64 (N,)."""
        return torch.tensor(self.columns[name], dtype=torch.float64)

    @property
    def mse(self) -> Tensor:
        """Mean squared error of each picture, from its PSNR."""
        return 10 ** (-self.column("psnr_db") / 10)


Results = dict[tuple[str, Place], Samples]


def read_results(place: Path) -> Results:
    """All records of a folder or file, each once, sorted: the same whatever order they were written in.

    Raises:
        UserError: no records there, or not of this version.
    """
    found: Results = {}
    seen: set[int] = set()
    names: dict[str, str] = {}
    for path in record_files(place):
        for record in read_lines(path):
            where = place_of(record)
            system = names.setdefault(record["system"], record["system"])
            image = names.setdefault(record["image"], record["image"])
            key = hash((system, where, image, record["seed"]))
            if key in seen:
                continue
            seen.add(key)
            samples = found.get((system, where))
            if samples is None:
                samples = found[system, where] = Samples(
                    record["group"], record["k"], record["n"], record["network_calls"], record["lpips_backbone"] or ""
                )
            samples.keys.append((image, record["seed"]))
            samples.identities.append(names.setdefault(record["identity"] or image, record["identity"] or image))
            for name in COLUMNS:
                value = record.get(name, 0.0)
                samples.columns[name].append(math.nan if value is None else value)
    for samples in found.values():
        _sort(samples)
    return found


def _sort(samples: Samples) -> None:
    order = sorted(range(len(samples.keys)), key=samples.keys.__getitem__)
    samples.keys = [samples.keys[i] for i in order]
    samples.identities = [samples.identities[i] for i in order]
    samples.columns = {name: array("d", (values[i] for i in order)) for name, values in samples.columns.items()}


def pair(a: Samples, b: Samples, name: str) -> tuple[Tensor, Tensor, list[str]]:
    """One column of two systems for the pictures and seeds that both have, and whom these show."""
    rows = {key: index for index, key in enumerate(b.keys)}
    common = [(index, rows[key]) for index, key in enumerate(a.keys) if key in rows and key[0] != WHOLE_SET]
    left, right = a.columns[name], b.columns[name]
    usable = [(i, j) for i, j in common if not (math.isnan(left[i]) or math.isnan(right[j]))]
    values = torch.tensor([[left[i], right[j]] for i, j in usable], dtype=torch.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1], [a.identities[i] for i, _ in usable]
