"""Ends with a network of its own for some ρ, where one network for all of them would be a compromise.

Weights are named ``networks.shared.…`` and, by the latent channels C with a network of their own, ``networks.128.…``.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from commin.codec.config import DeepJSCCConfig
from commin.codec.ends import Decoder, Encoder, link_channels

E = TypeVar("E", bound=nn.Module)
Layers = Callable[[Tensor, Tensor], Tensor]

SHARED = "shared"


class SeparateEncoder(Encoder):
    """Encoders by ρ: each picture goes through the one of its link."""

    def __init__(self, config: DeepJSCCConfig, make: Callable[[DeepJSCCConfig], Encoder]) -> None:
        super().__init__(config)
        self.networks = _networks(config, make)

    def analysis(self, x: Tensor, state: Tensor) -> Tensor:
        """The layers of each row's network."""
        layers = {name: each.analysis for name, each in self.networks.items() if isinstance(each, Encoder)}
        return _by_network(layers, x, state, self.config)


class SeparateDecoder(Decoder):
    """Decoders by ρ: each latent goes through the one of its link."""

    def __init__(self, config: DeepJSCCConfig, make: Callable[[DeepJSCCConfig], Decoder]) -> None:
        super().__init__(config)
        self.networks = _networks(config, make)

    def synthesis(self, x: Tensor, state: Tensor) -> Tensor:
        """The layers of each row's network."""
        layers = {name: each.synthesis for name, each in self.networks.items() if isinstance(each, Decoder)}
        return _by_network(layers, x, state, self.config)


def begin_separate(tensors: Mapping[str, Tensor], config: DeepJSCCConfig) -> dict[str, Tensor]:
    """Weights of a codec of one network, or of fewer, for this config: a new network begins as the shared one.

    A network that the config has no place for stays among them, so that a strict load names it.
    """
    split = [_split(key) for key in tensors]
    held = {network for _, network, _ in split}
    wanted = sorted({*_names(config), *held - {SHARED}})
    begun: dict[str, Tensor] = {}
    for (end, network, name), value in zip(split, tensors.values(), strict=True):
        begun |= {
            f"{end}.networks.{each}.{name}": value
            for each in wanted
            if each == network or (network == SHARED and each not in held)
        }
    return begun


def _split(key: str) -> tuple[str, str, str]:
    """The end, the network and the rest of a tensor's name."""
    end, name = key.split(".", 1)
    if not name.startswith("networks."):
        return end, SHARED, name
    _, network, rest = name.split(".", 2)
    return end, network, rest


def _names(config: DeepJSCCConfig) -> list[str]:
    shared = [SHARED] if set(config.latent_channels) - set(config.separate) else []
    return shared + [str(channels) for channels in config.separate]


def _networks(config: DeepJSCCConfig, make: Callable[[DeepJSCCConfig], E]) -> nn.ModuleDict:
    one = config.model_copy(update={"separate": ()})
    return nn.ModuleDict({name: make(one) for name in _names(config)})


def _by_network(layers: Mapping[str, Layers], x: Tensor, state: Tensor, config: DeepJSCCConfig) -> Tensor:
    channels = link_channels(state, config)
    alone = torch.isin(channels, channels.new_tensor(config.separate))
    rows, parts = [], []
    for name, call in layers.items():
        here = (~alone if name == SHARED else channels == float(name)).nonzero()[:, 0]
        if len(here) == len(x):
            return call(x, state)
        if len(here):
            rows.append(here)
            parts.append(call(x[here], state[here]))
    return torch.cat(parts)[torch.cat(rows).argsort()]
