"""The nearest train picture's lost detail added to the estimate: restoration without any network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from commin.atomic import replacing
from commin.evaluation.systems.base import Fit, Settings
from commin.images import from_uint8, to_uint8
from commin.receivers.base import Arrival

PART = 512  # train pictures compared at a time


class RetrievalSettings(Settings):
    """``alpha``: the share of the neighbour's detail; ``pool``: how many train pictures are searched."""

    alpha: float = 0.5
    pool: int = 5000


class Retrieval:
    r"""x̂ = y + α·(x_NN − y_NN), NN = argmin_j ‖y − y_j‖ over train pairs sent through the same link.

    A gain in LPIPS counts only beyond this one's. It is example-based restoration by the nearest neighbour (Freeman et
    al., Example-based super-resolution, IEEE CG&A 22(2), 2002) with whole pictures for patches.
    """

    name = "retrieval"
    network_calls = 0

    def __init__(self, fit: Fit) -> None:
        settings = fit.parse(self.name, RetrievalSettings)
        self.alpha = settings.alpha
        self.pool = fit.train.pool(settings.pool)
        point = fit.point
        link_key = (sorted(fit.weights.values()), fit.link.equalizer, point.bcr, point.channel, point.snr_db)
        path = fit.stored(self.name, ".npy", settings.pool, *link_key, point.design_snr_db, point.told_snr_db)
        if not path.is_file():
            _send_pool(fit, self.pool, path)
        self.estimates: np.ndarray = np.load(path, mmap_mode="r")

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """The same picture for every sample, (B, S, 3, H, W) in [0, 1]; nothing is random."""
        y = arrival.estimate.cpu()
        picks = self.nearest(y)
        detail = from_uint8(self.pool[picks]) - from_uint8(torch.from_numpy(self.estimates[picks.numpy()]))
        restored = (y + self.alpha * detail).clamp(0, 1).to(arrival.estimate.device)
        return restored.unsqueeze(1).expand(-1, samples, -1, -1, -1)

    def nearest(self, y: Tensor) -> Tensor:
        """The number in the pool of the pair whose estimate is nearest to each of y (B, 3, H, W): (B,).

        Distances of 8-bit pictures are whole numbers, exact in float64: the choice does not depend on the batch.
        """
        rows = to_uint8(y).flatten(1).double()
        best = torch.full((len(y),), torch.inf, dtype=torch.float64)
        picks = torch.zeros(len(y), dtype=torch.long)
        for begin in range(0, len(self.estimates), PART):
            part = torch.from_numpy(np.array(self.estimates[begin : begin + PART])).flatten(1).double()
            least, where = (part.square().sum(1) - 2 * rows @ part.T).min(1)
            picks = torch.where(least < best, where + begin, picks)
            best = torch.minimum(least, best)
        return picks


def _send_pool(fit: Fit, pool: Tensor, path: Path) -> None:
    """Send the train pictures over the link at the point, seed 0, and keep their estimates as uint8."""
    point = fit.point
    parts = [
        to_uint8(fit.link.transmit(from_uint8(part), point.snr_db, 0, point.design_snr_db, point.told_snr_db).estimate)
        for part in pool.split(64)
    ]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, torch.cat(parts).cpu().numpy())
