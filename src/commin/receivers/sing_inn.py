r"""SING-INN: CommIN's guidance with one INN that is told the SNR, in place of one INN for each SNR.

    (c, d) = f(x0|t; SNR),  x̂0 = f⁻¹(y, d; SNR),  x_s = DDIM(x_t, x0|t) − ζ·∇_{x_t} ‖x̂0 − x0|t‖₂

``guide: coarse`` pulls by the measurement alone, ∇‖y − c‖₂. Our INNs are told the SNR already, so what is left of SING
beside `commin.receivers.commin_late` is the whole walk, from noise alone unless the table says otherwise, in respaced
ancestral steps, and its own ζ for each ρ and SNR. Its code is not published; conventions as in
`commin.receivers.commin`. Source: SING (arXiv:2503.12484), section on SING-INN.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from commin.diffusion.guidance import Distance, row_norms
from commin.diffusion.prior import Prior
from commin.errors import UserError
from commin.inn.degradation import Degradation
from commin.receivers.base import Arrival
from commin.receivers.commin import replaced_distance
from commin.receivers.commin_rows import Progress, Rows, check_parts
from commin.receivers.guided import GuidedPoint, GuidedSettings, guided_restore

DEFAULTS = tuple(
    GuidedPoint(bcr="1/48", snr_db=snr, zeta=zeta, start=1.0) for snr, zeta in ((-5, 1.5), (0, 2.0), (5, 2.5))
)
"""From noise alone; five times CommIN's ζ, as there are ten times fewer steps for it to act in."""


class SingINNSettings(GuidedSettings):
    """Settings of SING-INN; ``guide``: ‖f⁻¹(y, d) − x0‖ (``replaced``) or ‖y − c‖ (``coarse``)."""

    points: tuple[GuidedPoint, ...] = Field(DEFAULTS, min_length=1)
    guide: Literal["replaced", "coarse"] = "replaced"


class SingINN(nn.Module):
    """The guided walk with an INN that is told the SNR."""

    name = "sing-inn"

    def __init__(
        self,
        prior: Prior,
        inn: Degradation,
        settings: SingINNSettings | None = None,
        naturalness: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Put the receiver together. Raises UserError for an INN of a single SNR."""
        super().__init__()
        if not inn.config.conditioned:
            raise UserError("sing-inn: this INN is made for one SNR; it needs one that is told the SNR")
        self.prior, self.inn = prior.requires_grad_(False), inn.requires_grad_(False)
        self.settings, self.naturalness, self.progress = settings or SingINNSettings(), naturalness, progress
        self.network_calls = min(self.settings.steps, prior.schedule.steps)

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; see `commin.receivers.base.Receiver`.

        Raises:
            UserError: pictures smaller than the prior's, or an INN of another ρ.
        """
        check_parts(arrival, self.prior, self.inn)
        distance = coarse_distance if self.settings.guide == "coarse" else replaced_distance
        return guided_restore(
            self.prior, self.settings, lambda rows: distance(self.inn, rows), arrival, generators, samples,
            self.naturalness, self.progress,
        )  # fmt: skip


def coarse_distance(inn: Degradation, rows: Rows) -> Distance:
    """‖y − c‖₂ of each row in [−1, 1], (c, d) = f(x0)."""

    def distance(x0: Tensor) -> Tensor:
        return row_norms(rows.y + 1 - 2 * inn((x0 + 1) / 2, rows.snr_db)[0])

    return distance
