"""What a receiver is: it turns the DeepJSCC estimate into restored pictures, from nothing but what arrived."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from commin.codec.deepjscc import DeepJSCC


@dataclass(frozen=True)
class Arrival:
    """What one batch of pictures looks like to a receiver.

    Attributes:
        estimate: y, the DeepJSCC picture, (B, 3, H, W) in [0, 1].
        symbols: equalised symbols, complex64 (B, k).
        snr_db: effective SNR of these symbols in dB, (B,).
        bcr: ρ of the transmission.
        codec: the link's codec, whose encoder a receiver may use as a model of the transmitter.
    """

    estimate: Tensor
    symbols: Tensor
    snr_db: Tensor
    bcr: Fraction
    codec: DeepJSCC


class Receiver(Protocol):
    """One way to restore pictures."""

    name: str
    network_calls: int
    """Forward passes of its largest network for one sample of one picture; 0 for none."""

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        """Restored pictures (B, S, 3, H, W) in [0, 1]; row i random by generators[i] alone."""
