"""The link: images → symbols → channel → estimate → restored images, as one object."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from commin.channels.base import Channel, Csi, Received
from commin.channels.equalizer import Equalizer, equalize
from commin.codec.deepjscc import DeepJSCC
from commin.randomness import image_generators
from commin.receivers.base import Arrival, Receiver
from commin.receivers.expected_error import expected_error
from commin.units import ChannelUse, measured_snr_db


@dataclass(frozen=True)
class Reception:
    """What a receiver made of symbols.

    Attributes:
        estimate: the DeepJSCC picture, (B, 3, H, W) in [0, 1].
        samples: restored pictures, (B, S, 3, H, W) in [0, 1].
        expected_error: of their mean, at each pixel, (B, H, W), by `commin.receivers.expected_error`; None for a single
            sample and for receivers that it was not fitted for.
    """

    estimate: Tensor
    samples: Tensor
    expected_error: Tensor | None

    @property
    def images(self) -> Tensor:
        """The restored pictures: the first sample of each, (B, 3, H, W) in [0, 1]."""
        return self.samples[:, 0]


@dataclass(frozen=True)
class Sent:
    """What is on its way to any number of receivers (`Link.hear`).

    Attributes:
        images: the pictures, float32 (B, 3, H, W) in [0, 1].
        seed: of all noise.
        symbols: what was sent, z, complex64 (B, k).
        received: what arrived and what the receiver is told.
        measured_snr_db: 10·log10(mean|h·z|²/mean|y − h·z|²) of each picture, (B,).
    """

    images: Tensor
    seed: int
    symbols: Tensor
    received: Received
    measured_snr_db: Tensor


@dataclass(frozen=True)
class Transmission(Reception):
    """A whole transmission.

    Attributes:
        symbols: what was sent, z, complex64 (B, k).
        received: what arrived and what the receiver was told.
        measured_snr_db: 10·log10(mean|h·z|²/mean|y − h·z|²) of each picture, (B,).
        use: k and n, counted from the tensors.
    """

    symbols: Tensor
    received: Received
    measured_snr_db: Tensor
    use: ChannelUse


class Link:
    """A codec at one ρ, a channel and a receiver."""

    def __init__(
        self, codec: DeepJSCC, bcr: Fraction, channel: Channel, receiver: Receiver, equalizer: Equalizer = "mmse"
    ) -> None:
        self.codec, self.bcr, self.channel, self.receiver, self.equalizer = codec, bcr, channel, receiver, equalizer

    @property
    def device(self) -> torch.device:
        """Where the codec's weights are."""
        return next(self.codec.parameters()).device

    def to(self, device: torch.device | str) -> "Link":
        """Move codec and receiver to a device; returns this link."""
        self.codec.to(device)
        if isinstance(self.receiver, torch.nn.Module):
            self.receiver.to(device)
        return self

    @torch.no_grad()
    def transmit(
        self,
        images: Tensor,
        snr_db: float | Sequence[float] | Tensor = 0.0,
        seed: int = 0,
        design_snr_db: float | Sequence[float] | Tensor | None = None,
        told_snr_db: float | Sequence[float] | Tensor | None = None,
        samples: int = 1,
        refinement: int = 0,
    ) -> Transmission:
        """Send pictures and restore what arrives: `send`, then `hear`.

        Args:
            images, snr_db, seed, design_snr_db, told_snr_db, refinement: as `send` takes them.
            samples: restored pictures S for each image.

        Raises:
            ValueError: as `send` and `receive` do.
        """
        return self.hear(self.send(images, snr_db, seed, design_snr_db, told_snr_db, refinement), samples)

    @torch.no_grad()
    def send(
        self,
        images: Tensor,
        snr_db: float | Sequence[float] | Tensor = 0.0,
        seed: int = 0,
        design_snr_db: float | Sequence[float] | Tensor | None = None,
        told_snr_db: float | Sequence[float] | Tensor | None = None,
        refinement: int = 0,
    ) -> Sent:
        """Encode pictures and pass them through the channel.

        Args:
            images: (B, 3, H, W) in [0, 1].
            snr_db: true SNR per complex symbol in dB, one for all or (B,).
            seed: with the picture itself the source of all noise, whatever the batch.
            design_snr_db: the SNR the encoder is told; None for the true one.
            told_snr_db: the SNR the receiver is told; None for what the channel tells.
            refinement: steps by which the transmitter refines the symbols (`commin.codec.refinement`).

        Raises:
            ValueError: images of another shape or range, or an SNR that is not finite or not one for each picture.
        """
        images = check_images(images).to(self.device)
        snrs = self._snrs(snr_db, len(images), "snr_db")
        design = snrs if design_snr_db is None else self._snrs(design_snr_db, len(images), "design_snr_db")
        symbols = self.codec.encode(images, design, self.bcr, refinement)
        received = self.channel(symbols, snrs, image_generators(images, seed, "channel"))
        arrived = symbols if received.csi is None or received.csi.gains is None else received.csi.gains * symbols
        measured = measured_snr_db(arrived, received.symbols - arrived)
        if told_snr_db is not None:
            gains = received.csi.gains if received.csi else None
            received = Received(received.symbols, Csi(self._snrs(told_snr_db, len(images), "told_snr_db"), gains))
        return Sent(images, seed, symbols, received, measured)

    def hear(self, sent: Sent, samples: int = 1) -> Transmission:
        """Restore what was sent by this link or another of the same codec, ``samples`` pictures for each image.

        Raises ValueError as `receive` does.
        """
        size = (sent.images.shape[-2], sent.images.shape[-1])
        got = self.receive(sent.received, size, image_generators(sent.images, sent.seed, "receiver"), samples)
        use = ChannelUse.of(sent.images, sent.symbols)
        return Transmission(
            got.estimate, got.samples, got.expected_error, sent.symbols, sent.received, sent.measured_snr_db, use
        )

    @torch.no_grad()
    def receive(
        self, received: Received, size: tuple[int, int], generators: Sequence[torch.Generator], samples: int = 1
    ) -> Reception:
        """Decode and restore received symbols; all that a receiver at the far end can do.

        Args:
            received: symbols (B, k) and channel state.
            size: height and width of the pictures.
            generators: one for each row, for the receiver's own draws.
            samples: restored pictures S for each row.

        Raises:
            ValueError: no channel state, symbols that are not finite, or a k that does not fit.
        """
        if not torch.isfinite(torch.view_as_real(received.symbols)).all():
            raise ValueError("receive: the received symbols hold NaN or infinity")
        symbols, snr_db = equalize(received, self.equalizer)
        estimate = self.codec.decode(symbols, snr_db, size)
        arrival = Arrival(estimate, symbols, snr_db, self.bcr, self.codec)
        restored = self.receiver.restore(arrival, generators, samples)
        return Reception(estimate, restored, expected_error(self.receiver, restored, arrival))

    def _snrs(self, value: float | Sequence[float] | Tensor, count: int, name: str) -> Tensor:
        snrs = torch.as_tensor(value, dtype=torch.float32, device=self.device)
        snrs = snrs.expand(count) if snrs.ndim == 0 else snrs
        if snrs.shape != (count,):
            raise ValueError(f"{name}: one number or {count} of them, got shape {tuple(snrs.shape)}")
        if not torch.isfinite(snrs).all():
            raise ValueError(
                f"{name}: must be a finite number of dB, got {next(x for x in snrs.tolist() if not math.isfinite(x))}"
            )
        return snrs


def check_images(images: Tensor) -> Tensor:
    """Images as float32. Raises ValueError unless they are (B, 3, H, W), finite and in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"images must be floating point (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    low, high = images.aminmax() if images.numel() else (images.new_zeros(()), images.new_zeros(()))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must be in [0, 1], got {float(low):g}..{float(high):g}")
    return images.float()
