r"""PMRF-like: a rectified flow carries the noised estimate to a picture in a few steps.

    x_0 = y + σ·n,   dx_s/ds = v(x_s, s; y)   from s = 0 to 1

by `commin.diffusion.flow`. ``pmrf-inn`` shows the network f⁻¹(y, d), (c, d) = f(x_s), at every call, too: the same flow
with CommIN's correction by an INN, a test of what the INN adds. Source: Posterior-Mean Rectified Flow
(arXiv:2410.00418); there the network sees x_s alone and takes Euler steps.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from commin.diffusion.flow import KINDS, Flow, integrate
from commin.diffusion.sampler import normal
from commin.errors import UserError
from commin.inn.degradation import Degradation
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import replace
from commin.receivers.commin_rows import Progress, Rows, check_parts, restore_rows
from commin.receivers.shown import ShownPoint, show


class PmrfSettings(BaseModel):
    """How the path is followed.

    Attributes:
        steps: of equal length.
        order: 1, Euler with one call a step, or 2, Heun with two.
        limit: rows at a time.
        points: what is shown, over ρ and SNR; empty shows samples as they are drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(5, gt=0)
    order: Literal[1, 2] = 2
    limit: int = Field(32, gt=0)
    points: tuple[ShownPoint, ...] = ()


class Pmrf(nn.Module):
    """The flow, followed by Euler or Heun steps.

    Raises:
        UserError: a flow that wants an INN's correction without an INN, or the reverse.
    """

    def __init__(
        self,
        flow: Flow,
        inn: Degradation | None = None,
        settings: PmrfSettings | None = None,
        naturalness: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        if flow.config.inn != (inn is not None):
            raise UserError(f"{'pmrf-inn' if inn else 'pmrf'}: needs a {KINDS[inn is not None]}; this is another flow")
        self.flow, self.inn = flow, inn
        self.settings, self.naturalness, self.progress = settings or PmrfSettings(), naturalness, progress
        self.name = "pmrf" if inn is None else "pmrf-inn"
        self.network_calls = self.settings.steps * self.settings.order

    @torch.no_grad()
    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; see `commin.receivers.base.Receiver`.

        Raises:
            UserError: pictures smaller than the flow's, or a flow or an INN of another ρ.
        """
        check_parts(arrival, self.flow.prior, self.inn)
        number = self.flow.number(arrival.bcr)

        def restore(rows: Rows) -> Tensor:
            bcr = torch.full_like(rows.snr_db, number, dtype=torch.int64)
            deviation = self.flow.deviation(bcr, rows.snr_db)

            def velocity(x: Tensor, s: Tensor) -> Tensor:
                rows.tick()
                return self.flow.velocity(x, s, deviation, *conditions(self.inn, x, rows.y, rows.snr_db))

            noise = normal(rows.y.shape[1:], rows.generators, rows.y.device)
            x = rows.y + self.flow.config.sigma * noise
            return integrate(velocity, x, self.settings.steps, self.settings.order)

        pictures = restore_rows(
            arrival, generators, samples, self.settings.limit, self.network_calls, restore, self.progress
        )
        return show(pictures, arrival, self.settings.points, self.naturalness)


def conditions(inn: Degradation | None, x: Tensor, y: Tensor, snr_db: Tensor) -> tuple[Tensor, ...]:
    """What the network sees beside x_s: y, and f⁻¹(y, d), (c, d) = f(x_s); all (R, 3, H, W) in [−1, 1]."""
    return (y,) if inn is None else (y, replace(inn, x, y, x.new_ones(()), snr_db))
