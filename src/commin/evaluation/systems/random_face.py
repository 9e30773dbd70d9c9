"""Another person's picture, whatever was sent: what LPIPS pays for a sharp face alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from commin.evaluation.systems.base import Fit, Settings
from commin.images import from_uint8
from commin.receivers.base import Arrival


class RandomFaceSettings(Settings):
    """``pool``: how many pictures of the train split are drawn from."""

    pool: int = 5000


class RandomFace:
    r"""x̂ = x_j, j uniform over the train split: no channel, no network.

    Every sweep holds it: a system whose LPIPS is no better than this has ignored what arrived. No published source; it
    is the zero-rate end of the rate-distortion-perception trade-off (Blau and Michaeli, arXiv:1901.07821).
    """

    name = "random-face"
    network_calls = 0

    def __init__(self, fit: Fit) -> None:
        self.pool = fit.train.pool(fit.parse(self.name, RandomFaceSettings).pool)

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Pictures (B, S, 3, H, W) in [0, 1], drawn by each row's generator."""
        picks = torch.stack([torch.randint(len(self.pool), (samples,), generator=g) for g in generators])
        return from_uint8(self.pool[picks]).to(arrival.estimate.device)
