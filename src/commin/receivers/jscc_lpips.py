"""A DeepJSCC decoder trained for MSE and LPIPS: x̂ = Dec'(z), one call of one network, nothing invented at random.

LPIPS in the loss is what Xu et al., arXiv:2211.08747, CommIN's ref. [8], discuss. The encoder stays the link's own, so
that this decoder gets what every other receiver gets; `commin.training.decoder` trains it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from commin.codec.ends import Decoder
from commin.errors import UserError
from commin.receivers.base import Arrival


class JsccLpips(nn.Module):
    """Another decoder on the same symbols.

    Attributes:
        loss_name: what it was trained for, for the record: systems that saw LPIPS are compared among themselves.
    """

    name = "jscc-lpips"
    network_calls = 1
    loss_name = "mse+lpips"

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    @torch.no_grad()
    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Pictures (B, S, 3, H, W) in [0, 1]; every sample is the same.

        Raises:
            UserError: the decoder is of another codec than the link's.
        """
        if arrival.codec.config != self.decoder.config:
            raise UserError("jscc-lpips: this decoder is not one of the link's codec; train it from that codec")
        size = (arrival.estimate.shape[-2], arrival.estimate.shape[-1])
        pictures = arrival.codec.with_decoder(self.decoder).decode(arrival.symbols, arrival.snr_db, size)
        return pictures.unsqueeze(1).expand(-1, samples, -1, -1, -1)
