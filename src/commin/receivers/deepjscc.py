"""The plain receiver: the DeepJSCC decoder's picture is the result."""

from collections.abc import Sequence

import torch
from torch import Tensor

from commin.receivers.base import Arrival


class DeepJSCCReceiver:
    """x̂ = decode(y): the minimum-MSE picture, blurred where little arrived; every sample is the same."""

    name = "deepjscc"
    network_calls = 0

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """The estimate itself, repeated: (B, S, 3, H, W)."""
        return arrival.estimate.unsqueeze(1).expand(-1, samples, -1, -1, -1)
