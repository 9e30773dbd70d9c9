"""The links of one model, loaded when first needed, the last few of them kept."""

from collections import OrderedDict
from dataclasses import dataclass

import torch

from commin.channels import channel as make_channel
from commin.link import Link
from commin.receivers.commin_rows import Progress
from commin.zoo import receivers as registry
from commin.zoo.load import load, weights_of

KEPT = 8


@dataclass(frozen=True)
class Loaded:
    """A link, and the SHA-256 of the files it was made from."""

    link: Link
    weights: dict[str, str]


class Links:
    """Links by ρ and receiver. They share their state: one thread at a time may use them."""

    def __init__(self, model: str, device: torch.device | str, progress: Progress) -> None:
        self.model, self.device, self.progress = model, device, progress
        self._kept: OrderedDict[tuple[str, str], Loaded] = OrderedDict()

    def get(self, bcr: str, receiver: str, channel: str, naturalness: float | None) -> Loaded:
        """The link, ready for this channel and naturalness, which needs no second load.

        Raises:
            UserError: no such ρ, receiver or channel, or weights that are missing or damaged.
        """
        found = self._kept.get((bcr, receiver)) or self._load(bcr, receiver)
        self._kept[bcr, receiver] = found
        self._kept.move_to_end((bcr, receiver))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        link, chosen = found.link, found.link.receiver
        if receiver in registry.NATURALNESS:
            chosen = registry.with_naturalness(chosen, naturalness)
        return Loaded(Link(link.codec, link.bcr, make_channel(channel), chosen, link.equalizer), found.weights)

    def _load(self, bcr: str, receiver: str) -> Loaded:
        link = load(self.model, bcr, receiver, device=self.device, progress=self.progress)
        return Loaded(link, weights_of(self.model, bcr, receiver))
