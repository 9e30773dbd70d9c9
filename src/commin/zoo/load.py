"""Put a `Link` together from a model's parts."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from commin.channels import channel as make_channel
from commin.channels.base import Channel
from commin.channels.equalizer import Equalizer
from commin.codec.deepjscc import DeepJSCC, served_channels
from commin.codec.files import load_codec
from commin.errors import UserError
from commin.link import Link
from commin.receivers.base import Receiver
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.units import parse_bcr
from commin.zoo.cards import cards, find_card
from commin.zoo.fetch import find


@dataclass(frozen=True)
class Parts:
    """What a receiver is made from: the model's name, ρ and the codec."""

    model: str
    bcr: Fraction
    codec: DeepJSCC


RECEIVERS: dict[str, Callable[[Parts], Receiver]] = {
    "deepjscc": lambda parts: DeepJSCCReceiver(),
}
"""Receivers by name; each takes the weights it needs from the zoo."""


def load(
    model: str = "faces64",
    bcr: str | float | Fraction = "1/48",
    receiver: str = "deepjscc",
    channel: str | Channel = "awgn",
    device: torch.device | str = "cpu",
    equalizer: Equalizer = "mmse",
) -> Link:
    """A ready link.

    Args:
        model: a model of the zoo, or the path of a codec file (``.safetensors``).
        bcr: ρ = k/n, such as "1/48".
        receiver: a name in `RECEIVERS`.
        channel: a name in `commin.channels.CHANNELS`, ``package.module:Class``, or a channel object.
        device: where the networks run.
        equalizer: ``mmse`` or ``zf``, for channels with gains.

    Raises:
        UserError: no such model, receiver or channel, a ρ without weights, or files that are missing or damaged.
    """
    if receiver not in RECEIVERS:
        raise UserError(f"--receiver {receiver}: unknown; choose {', '.join(RECEIVERS)}")
    link_channel = make_channel(channel) if isinstance(channel, str) else channel
    try:
        ratio = parse_bcr(bcr)
        codec = load_codec(codec_path(model))
        served_channels(codec.config, ratio)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from None
    codec.to(device)
    return Link(codec, ratio, link_channel, RECEIVERS[receiver](Parts(model, ratio, codec)), equalizer)


def codec_path(model: str) -> Path:
    """The codec file of a model, or the path itself. Raises UserError if there is none."""
    if model.endswith(".safetensors"):
        return Path(model)
    card = find_card(model, "codec")
    if card is None:
        models = sorted({c.model for c in cards().values() if c.model and c.kind == "codec"})
        raise UserError(f"--model {model}: no such model; there are {', '.join(models)}, or give a .safetensors file")
    return find(card.name)
