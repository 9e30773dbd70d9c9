"""CommIN, algorithm 1 of the paper word for word: the reference that the fast receivers are measured against.

For t = T … 1, from x_T ~ N(0, I):
    x0|t by (11), x'_{t−1} by (10);  c, d = f(x0|t);  x̂0 = f⁻¹(y, d);
    x_{t−1} = x'_{t−1} − ζ·∇_{x_t} ‖x̂0 − x0|t‖₂.

What the paper leaves open is set so: pictures in [−1, 1]; σ_t² = β̃_t, σ_1 = 0; x0|t clipped to [−1, 1]; the norm not
squared and of each picture alone, its gradient through the INN and the U-Net; ζ for 256×256 pixels and multiplied by
√(H·W)/256 elsewhere, as the step moves x by about ζ in L2 whatever the size. A prior that predicts v gives x0|t without
the division of (11), and one that predicts ε divides by no less than 10⁻⁴. Source: CommIN (arXiv:2310.01130).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from commin.diffusion.guidance import Distance, row_norms
from commin.diffusion.prior import Prior
from commin.diffusion.sampler import ddpm_step, normal
from commin.inn.degradation import Degradation
from commin.receivers.base import Arrival
from commin.receivers.commin_resume import Resume
from commin.receivers.commin_rows import Progress, Rows, check_parts, restore_rows
from commin.receivers.commin_table import interpolate
from commin.receivers.guided import at_size, gradient_walk


class CommINConfig(BaseModel):
    """Settings of the literal algorithm.

    Attributes:
        zeta: SNR in dB to ζ at 256×256 pixels; linear between, constant beyond. The paper's values.
        limit: rows at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    zeta: dict[float, float] = Field({-5: 0.3, 0: 0.4, 5: 0.5}, min_length=1)
    limit: int = Field(32, gt=0)


class CommIN(nn.Module):
    """Algorithm 1 with T network calls, each with its gradient."""

    name = "commin"

    def __init__(
        self,
        prior: Prior,
        inn: Degradation,
        config: CommINConfig | None = None,
        progress: Progress | None = None,
        resume: Path | None = None,
    ) -> None:
        """Put the receiver together; ``progress`` is told of every step, ``resume`` is a folder for unfinished ones."""
        super().__init__()
        self.prior, self.inn = prior.requires_grad_(False), inn.requires_grad_(False)
        self.config, self.progress, self.resume = config or CommINConfig(), progress, resume
        self.network_calls = prior.schedule.steps

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
        schedule = self.prior.schedule

        def step(x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return ddpm_step(schedule, x, x0, t, s, normal(x.shape[1:], rows.generators, x.device))

        times = schedule.timesteps(schedule.steps - 1, 0, schedule.steps)
        start = normal(rows.y.shape[1:], rows.generators, rows.y.device)
        kept = Resume(self.resume, self.config.model_dump_json(), rows, start) if self.resume else None
        distance = replaced_distance(self.inn, rows)
        return gradient_walk(self.prior, distance, rows, start, times, step, zeta(self.config.zeta, rows), kept)


def zeta(table: dict[float, float], rows: Rows) -> Tensor:
    """ζ of each row, (R, 1, 1, 1): from a table of SNRs in dB, for these rows' number of pixels."""
    pairs = torch.tensor(sorted(table.items()))
    values = interpolate(pairs[:, 0], pairs[:, 1:], rows.snr_db.cpu().float())
    return at_size(values[:, 0].to(rows.y.device), rows.y)


def replaced_distance(inn: Degradation, rows: Rows) -> Distance:
    """‖f⁻¹(y, d) − x0‖₂ of each row, (c, d) = f(x0)."""

    def distance(x0: Tensor) -> Tensor:
        replaced = inn.replace((x0 + 1) / 2, (rows.y + 1) / 2, 1.0, rows.snr_db)
        return row_norms(replaced * 2 - 1 - x0)

    return distance
