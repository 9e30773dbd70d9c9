"""Kept features: SqueezeNet's pooled ones of every restored picture, for distances between sets of pictures.

A sweep writes one small file for each system, point and chunk, under a temporary name first; what is read joins them
and keeps each picture once. ``originals`` is a system of its own; the train split's first pictures
are the other set.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from commin.atomic import replacing, write_text
from commin.evaluation.systems.base import Place, TrainSplit, place_of
from commin.images import from_uint8
from commin.metrics.backbones import Backbone
from commin.metrics.kid import kernel_distance, own_kernel, paired_kernel_distance
from commin.metrics.lpips import load_backbone
from commin.zoo.fetch import MissingFileError

ORIGINALS = "originals"
TO_ORIGINALS = "kernel_to_originals"
"""The name that `distances_to_originals` are kept under."""
REFERENCE = 5000
"""Pictures of the train split that every set is compared with."""


def try_backbone() -> Backbone | None:
    """SqueezeNet, or None where its weights are not to be had."""
    try:
        return load_backbone("squeeze")
    except MissingFileError:
        return None


def folder_of(folder: Path, system: str, place: Place | None) -> Path:
    """Where the features of a system at a place lie, all seeds; ``place`` None for pictures that were not sent."""
    if place is None:
        return folder / "features" / system
    told = "" if place.told_snr_db is None else f"_told{place.told_snr_db:+g}"
    name = f"{place.bcr}_{place.channel}_{place.snr_db:+g}_design{place.design_snr_db:+g}{told}"
    return folder / "features" / system / name.replace("/", "-").replace(":", "-")


def save(folder: Path, features: Tensor, digests: Sequence[str], seed: int) -> Path:
    """Write one chunk's features (B, C) with its pictures' digests; the same chunk replaces itself."""
    key = hashlib.sha256("".join(digests).encode()).hexdigest()[:12]
    path = folder / f"{seed}-{key}.npz"
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, features=features.cpu().numpy().astype(np.float32), digests=np.array(digests))
    return path


def merge(folder: Path) -> None:
    """Join the files of each folder below into one for each seed; a joined file counts like any other chunk."""
    for place in {path.parent for path in (folder / "features").rglob("*.npz")}:
        for seed in {path.stem.split("-")[0] for path in place.glob("*.npz")}:
            parts = sorted(place.glob(f"{seed}-*.npz"))
            if len(parts) > 1:
                found = _read(parts)
                whole = save(place, torch.from_numpy(np.stack(list(found.values()))), list(found), int(seed))
                for path in parts:
                    if path != whole:
                        path.unlink()


def read(folder: Path) -> Tensor | None:
    """The features (N, C) of a folder, sorted by seed and digest, each picture once; None if there are none."""
    found = [row[digest] for row in _by_seed(folder) for digest in sorted(row)]
    return torch.from_numpy(np.stack(found)) if found else None


def _by_seed(folder: Path) -> list[dict[str, np.ndarray]]:
    seeds = sorted({path.stem.split("-")[0] for path in folder.glob("*.npz")})
    return [_read(sorted(folder.glob(f"{seed}-*.npz"))) for seed in seeds]


def _read(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as content:
            rows.update(zip(content["digests"].tolist(), content["features"], strict=True))
    return rows


@torch.no_grad()
def reference(train: TrainSplit, backbone: Backbone) -> Tensor:
    """Features (≤ 5,000, C) of the first pictures of the train split, cached with the train split's other fits."""
    path = train.cache / f"features-squeeze-{train.key}-{REFERENCE}.npy"
    if not path.is_file():
        parts = [backbone.pooled(from_uint8(part)) for part in train.pool(REFERENCE).split(64)]
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, torch.cat(parts).numpy())
    return torch.from_numpy(np.load(path))


def kernel_distances(folder: Path, train: TrainSplit, places: Sequence[Place]) -> dict[tuple[str, Place | None], float]:
    """Squared kernel distance of every system's kept features at each place to the train split's reference.

    With place None that of the originals, real to real. Empty where the backbone or the train split is not to be had.
    Comparable only where N is equal.
    """
    backbone = try_backbone()
    fitted = any(entry.split == "train" for entry in train.source.entries)
    if backbone is None or not fitted or not (folder / "features").is_dir():
        return {}
    real = reference(train, backbone)
    own = own_kernel(real)
    return over_sets(folder, places, lambda features: kernel_distance(features, real, own), 2)


def over_sets(
    folder: Path, places: Sequence[Place], distance: Callable[[Tensor], float], least: int
) -> dict[tuple[str, Place | None], float]:
    """A distance of every system's kept features at each place, where there are ``least`` pictures or more."""
    found: dict[tuple[str, Place | None], float] = {}
    if not (folder / "features").is_dir():
        return found
    for system in sorted(path.name for path in (folder / "features").iterdir()):
        for place in (None,) if system == ORIGINALS else tuple(places):
            features = read(folder_of(folder, system, place))
            if features is not None and len(features) >= least:
                found[system, place] = distance(features)
    return found


def distances_to_originals(folder: Path, places: Sequence[Place]) -> dict[tuple[str, Place | None], float]:
    """`paired_kernel_distance` of every system's kept features at each place to the originals of the same pictures.

    The mean over seeds; 0 for a system that gives back the originals.
    """
    originals = {digest: row for rows in _by_seed(folder_of(folder, ORIGINALS, None)) for digest, row in rows.items()}
    found: dict[tuple[str, Place | None], float] = {}
    for system in sorted(path.name for path in (folder / "features").glob("*") if path.name != ORIGINALS):
        for place in places:
            distances = []
            for rows in _by_seed(folder_of(folder, system, place)):
                shared = sorted(rows.keys() & originals.keys())
                if len(shared) > 1:
                    made, real = (np.stack([side[digest] for digest in shared]) for side in (rows, originals))
                    distances.append(paired_kernel_distance(torch.from_numpy(made), torch.from_numpy(real)))
            if distances:
                found[system, place] = sum(distances) / len(distances)
    return found


def write_distances(distances: dict[tuple[str, Place | None], float], folder: Path, name: str = "kernel") -> None:
    """Keep them as ``kernel.json``, or under another name."""
    rows = [
        {"system": system, **(asdict(place) if place else {}), name: round(value, 4)}
        for (system, place), value in distances.items()
    ]
    path = folder / f"{name}.json"
    write_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def all_distances(folder: Path) -> dict[str, dict[tuple[str, Place | None], float]]:
    """What a sweep keeps of distances between sets, by name."""
    return {name: read_distances(folder, name) for name in ("kernel", TO_ORIGINALS, "fid")}


def read_distances(folder: Path, name: str = "kernel") -> dict[tuple[str, Place | None], float]:
    """What `write_distances` kept; empty if there is nothing."""
    path = folder / f"{name}.json"
    rows = json.loads(path.read_text()) if path.is_file() else []
    return {(row["system"], place_of(row) if "bcr" in row else None): row[name] for row in rows}
