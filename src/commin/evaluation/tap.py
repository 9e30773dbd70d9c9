"""The tap of a bench: what arrives is kept, so that every receiver restores the same transmission."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from commin.channels.base import Channel, Received
from commin.receivers.base import Arrival


class Tap:
    """A channel and receiver in one: sends over the real channel, keeps what arrived and how long decoding took."""

    name, network_calls = "tap", 0
    arrival: Arrival
    seconds: float

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def __call__(self, symbols: Tensor, snr_db: Tensor, generators: Sequence[torch.Generator]) -> Received:
        """See `commin.channels.base.Channel`."""
        received = self.channel(symbols, snr_db, generators)
        self._begin = time.perf_counter()
        return received

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """See `commin.receivers.base.Receiver`; the estimate as it is."""
        self.seconds = time.perf_counter() - self._begin
        self.arrival = arrival
        return arrival.estimate.unsqueeze(1)
