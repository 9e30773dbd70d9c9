"""FID: the Fréchet distance on torch-fidelity's Inception features, an extra (``fid``), for sweeps with ``fid: true``.

Only for 2,000 pictures or more in each set; fewer say more about their number than about their looks.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from commin.atomic import replacing
from commin.errors import UserError
from commin.evaluation.features import REFERENCE, over_sets
from commin.evaluation.systems.base import Place, TrainSplit
from commin.images import from_uint8, to_uint8
from commin.metrics.kid import frechet_distance
from commin.zoo.cards import sha256
from commin.zoo.fetch import folders

FOLDER = "inception"
LEAST = 2000
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + WEIGHTS

Extractor = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [0, 1] to features (B, 2048) on the CPU."""


def load_inception(device: torch.device) -> Extractor:
    """The Inception network of the FID; it resizes to 299×299 itself. Source: Heusel et al., arXiv:1706.08500.

    Raises:
        UserError: torch-fidelity or its weights are not here, or the weights are others.
    """
    try:
        module: Any = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError:
        raise UserError("fid: torch-fidelity is not installed; pip install 'commin[fid]'") from None
    path = next((folder / WEIGHTS for folder in folders() if (folder / WEIGHTS).is_file()), None)
    if path is None:
        raise UserError(f"fid: {WEIGHTS} is not here; put {SOURCE} into a folder that COMMIN_WEIGHTS names")
    if not sha256(path).startswith("6726825d"):
        raise UserError(f"{path}: SHA-256 does not start with 6726825d as its name says; delete it and fetch it again")
    network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path)).to(device)

    @torch.no_grad()
    def extract(images: Tensor) -> Tensor:
        found: Tensor = network(to_uint8(images).to(device))[0]
        return found.float().cpu()

    return extract


def fids(
    folder: Path, train: TrainSplit, extract: Extractor, places: list[Place]
) -> dict[tuple[str, Place | None], float]:
    """FID of every system's kept features at each place to the first 5,000 train pictures; place None: the originals.

    Empty where there is no train split or it is too small, and without what has fewer than `LEAST` pictures.
    """
    if not any(entry.split == "train" for entry in train.source.entries):
        return {}
    path = train.cache / f"features-inception-{train.key}-{REFERENCE}.npy"
    if not path.is_file():
        parts = [extract(from_uint8(part)) for part in train.pool(REFERENCE).split(64)]
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, torch.cat(parts).numpy())
    real = torch.from_numpy(np.load(path))
    if len(real) < LEAST:
        return {}
    return over_sets(folder / FOLDER, places, lambda features: frechet_distance(features, real), LEAST)
