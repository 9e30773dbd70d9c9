"""Put a `Link` together from a model's parts."""

from fractions import Fraction
from pathlib import Path

import torch

from commin.channels import channel as make_channel
from commin.channels.base import Channel
from commin.channels.equalizer import Equalizer
from commin.codec.config import served_channels
from commin.codec.files import load_codec
from commin.errors import UserError
from commin.link import Link
from commin.receivers.commin_rows import Progress
from commin.units import parse_bcr
from commin.zoo.cards import cards, find_card, sha256
from commin.zoo.fetch import find
from commin.zoo.receivers import Parts, complete, make_receiver, receiver_files


def load(
    model: str = "faces64",
    bcr: str | float | Fraction = "1/48",
    receiver: str = "deepjscc",
    channel: str | Channel = "awgn",
    device: torch.device | str = "cpu",
    equalizer: Equalizer = "mmse",
    naturalness: float | None = None,
    progress: Progress | None = None,
) -> Link:
    """A ready link.

    Args:
        model: a model of the zoo, or the path of a codec file (``.safetensors``).
        bcr: ρ = k/n, such as "1/48".
        receiver: a name in `commin.zoo.receivers.RECEIVERS`.
        channel: a name in `commin.channels.CHANNELS`, ``package.module:Class``, or a channel object.
        device: where the networks run.
        equalizer: ``mmse`` or ``zf``, for channels with gains.
        naturalness: α in [0, 1] of receivers that have it: 0 the estimate, 1 a sample; None for what its settings say.
        progress: told of every call of a receiver's network: calls done, and in all.

    Raises:
        UserError: no such model, receiver or channel, a ρ without weights, or files that are missing or damaged.
    """
    link_channel = make_channel(channel) if isinstance(channel, str) else channel
    try:
        ratio = parse_bcr(bcr)
        codec = load_codec(codec_path(model))
        served_channels(codec.config, ratio)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from None
    parts = Parts(model, ratio, torch.device(device), naturalness, progress)
    return Link(codec, ratio, link_channel, make_receiver(receiver, parts), equalizer).to(device)


def codec_path(model: str) -> Path:
    """The codec file of a model, or the path itself. Raises UserError if there is none."""
    if model.endswith(".safetensors"):
        return Path(model)
    card = find_card(model, "codec")
    if card is None:
        models = sorted({c.model for c in cards().values() if c.model and c.kind == "codec"})
        raise UserError(f"--model {model}: no such model; there are {', '.join(models)}, or give a .safetensors file")
    return find(card.name)


def weights_of(model: str, bcr: str | float | Fraction, receiver: str) -> dict[str, str]:
    """Name and SHA-256 of every file and folder that a link of this model is made from."""
    files = [codec_path(model), *receiver_files(receiver, model, parse_bcr(bcr))]
    return {path.name: sha256(path) for path in files}


def default_receivers(model: str, bcr: str | float | Fraction) -> list[str]:
    """What a transmission shows unless asked otherwise: the estimate, and CommIN where its weights are here."""
    try:
        ready = complete(model, parse_bcr(bcr))
    except ValueError as error:
        raise UserError(str(error)) from None
    return [name for name in ("deepjscc", "commin-fast") if name in ready]
