"""One call from y to a picture, by a network begun as the prior and trained for MSE and LPIPS; nothing is drawn.

    x̂ = y + v(y, 0; y)

by `commin.diffusion.flow.one_step`, one network for all ρ and SNRs; `commin.training.one_step` trains it. What a
diffusion walk does in many calls is learnt for the links themselves: PMRF (arXiv:2410.00418) in one step, with another
loss.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from commin.diffusion.flow import Flow, one_step
from commin.receivers.base import Arrival
from commin.receivers.commin_rows import check_parts


class OneStep(nn.Module):
    """The network.

    Attributes:
        loss_name: what it was trained for, for the record: systems that saw LPIPS are compared among themselves.
    """

    name = "one-step"
    network_calls = 1
    loss_name = "mse+lpips"
    limit = 64
    """Pictures at a time, a matter of memory alone."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    @torch.no_grad()
    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Pictures (B, S, 3, H, W) in [0, 1]; every sample is the same.

        Raises:
            UserError: pictures smaller than the network's, or another ρ than it was trained for.
        """
        check_parts(arrival, self.flow.prior, None)
        number = torch.full_like(arrival.snr_db, self.flow.number(arrival.bcr), dtype=torch.int64)
        rows = zip(*(part.split(self.limit) for part in (arrival.estimate, number, arrival.snr_db)), strict=True)
        pictures = torch.cat([one_step(self.flow, *row) for row in rows])
        return pictures.clamp(0, 1).unsqueeze(1).expand(-1, samples, -1, -1, -1)
