"""CommIN with INDigo+'s late start: algorithm 1's guidance, but from a noised estimate and by respaced DDIM steps.

x_{t0} = √ᾱ·y + √(1−ᾱ)·n at t0 = 0.4·T, then 100 steps of t0/100 with η = 0.5: about 100 calls with gradient, not T.
Source: INDigo+ (arXiv:2501.14014); conventions as in `commin.receivers.commin`.
"""

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from commin.diffusion.prior import Prior
from commin.inn.degradation import Degradation
from commin.receivers.base import Arrival
from commin.receivers.commin import replaced_distance, zeta
from commin.receivers.commin_rows import Progress, Rows, check_parts, restore_rows
from commin.receivers.guided import noised_walk


class CommINLateConfig(BaseModel):
    """Settings of the late start.

    Attributes:
        zeta: as in `commin.receivers.commin.CommINConfig`.
        start: t0 as a share of T.
        steps: network calls, or as many as the prior has levels; the start is never below the one of that number.
        eta: η of DDIM.
        limit: rows at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    zeta: dict[float, float] = Field({-5: 0.3, 0: 0.4, 5: 0.5}, min_length=1)
    start: float = Field(0.4, gt=0, le=1)
    steps: int = Field(100, gt=0)
    eta: float = Field(0.5, ge=0, le=1)
    limit: int = Field(32, gt=0)


class CommINLate(nn.Module):
    """Algorithm 1's guidance from a noised estimate."""

    name = "commin-late"

    def __init__(
        self,
        prior: Prior,
        inn: Degradation,
        config: CommINLateConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.prior, self.inn = prior.requires_grad_(False), inn.requires_grad_(False)
        self.config, self.progress = config or CommINLateConfig(), progress
        self.network_calls = min(self.config.steps, prior.schedule.steps)

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; see `commin.receivers.base.Receiver`.

        Raises:
            UserError: a prior of another picture size, or an INN of another ρ.
        """
        check_parts(arrival, self.prior, self.inn)
        return restore_rows(
            arrival, generators, samples, self.config.limit, self.network_calls, self._restore, self.progress
        )

    def _restore(self, rows: Rows) -> Tensor:
        start = torch.full_like(rows.snr_db, self.config.start)
        return noised_walk(
            self.prior, replaced_distance(self.inn, rows), rows, start, self.network_calls, self.config.eta,
            zeta(self.config.zeta, rows),
        )  # fmt: skip
