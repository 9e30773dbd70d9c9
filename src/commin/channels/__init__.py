"""Channels: complex symbols in, what arrives and what the receiver is told out. ``CHANNELS`` lists them by name."""

from collections.abc import Callable

from commin.channels.awgn import Awgn
from commin.channels.base import Channel, Csi, Received
from commin.channels.equalizer import equalize
from commin.channels.fading import rayleigh_block, rayleigh_fast, rician_block, rician_fast
from commin.channels.plugin import load_channel_class
from commin.errors import UserError

CHANNELS: dict[str, Callable[[], Channel]] = {
    "awgn": Awgn,
    "rayleigh-block": rayleigh_block,
    "rayleigh-fast": rayleigh_fast,
    "rician-block": rician_block,
    "rician-fast": rician_fast,
}


def channel(name: str) -> Channel:
    """The channel of a name in `CHANNELS`, or of ``package.module:Class`` for any ``nn.Module`` on complex symbols.

    Raises:
        UserError: there is no such channel.
    """
    if name in CHANNELS:
        return CHANNELS[name]()
    if ":" in name:
        return load_channel_class(name)
    raise UserError(f"--channel {name}: unknown; choose {', '.join(CHANNELS)} or package.module:Class")


__all__ = ["CHANNELS", "Channel", "Csi", "Received", "channel", "equalize"]
