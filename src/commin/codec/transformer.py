"""Transformers at both ends of the link: squares of 16×16 pixels are the tokens, one position of the latent each.

A picture enters and leaves as the low frequencies of its squares (`commin.codec.lapped`), and plain paths lead past the
blocks from these to the latent and back, so that a linear code is within reach from the first step. The link's state
scales and shifts the tokens (Peebles and Xie, arXiv:2212.09748) and weighs the channels of the latent. Pictures of
another size than that trained for are worked on in windows of that size (`commin.codec.windows`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commin.codec.config import HEAD, DeepJSCCConfig, TransformerConfig
from commin.codec.ends import STATES, Decoder, Encoder
from commin.codec.lapped import COUNT, Lapped
from commin.codec.windows import windows
from commin.units import DOWNSAMPLING

EMBEDDING = 64  # width of the link's state inside


class State(nn.Module):
    """What the blocks are told of the link: (B, STATES) through two layers with GELU to (B, EMBEDDING)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(STATES, EMBEDDING), nn.GELU(), nn.Linear(EMBEDDING, EMBEDDING), nn.GELU())

    def forward(self, state: Tensor) -> Tensor:
        """The layers."""
        embedded: Tensor = self.layers(state)
        return embedded


def _zero(linear: nn.Linear) -> nn.Linear:
    """The same layer, giving zeros until it is trained."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


@torch.no_grad()
def _passing(inputs: int, outputs: int) -> nn.Linear:
    """A layer that passes its first numbers on, and a little of all the others."""
    linear = nn.Linear(inputs, outputs)
    linear.weight.mul_(0.3).add_(torch.eye(outputs, inputs))
    nn.init.zeros_(linear.bias)
    return linear


class Modulation(nn.Module):
    """(1 + a)·x + b, a and b linear in the state and 0 at the start, of normalised or of plain tokens."""

    def __init__(self, width: int, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize
        self.gain = _zero(nn.Linear(EMBEDDING, 2 * width))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Tokens (B, W, N, width) and state (B, EMBEDDING) to tokens."""
        gain, bias = self.gain(state)[:, None, None].chunk(2, dim=-1)
        return (F.layer_norm(x, x.shape[-1:]) if self.normalize else x) * (1 + gain) + bias


class Weights(nn.Module):
    """x·eᵃ for each channel, a linear in the state and 0 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log = _zero(nn.Linear(EMBEDDING, channels))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Tokens (B, W, N, channels) and state (B, EMBEDDING) to tokens."""
        return x * self.log(state).exp()[:, None, None]


class Mix(nn.Module):
    """x + Δ·x for each channel, Δ a matrix from tokens to tokens and 0 at the start: a transform over the places."""

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(channels, tokens, tokens))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, W, N, channels) to tokens."""
        return x + torch.einsum("bwnc,cmn->bwmc", x, self.delta)


class Block(nn.Module):
    """x + attention(x), then x + perceptron(x), both of modulated tokens."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, inside = config.width, config.expansion * config.width
        self.before_attention, self.before_perceptron = Modulation(width, True), Modulation(width, True)
        self.qkv, self.mix = nn.Linear(width, 3 * width), _zero(nn.Linear(width, width))
        self.widen, self.narrow = nn.Linear(width, inside), _zero(nn.Linear(inside, width))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """The formula above, tokens (B, W, N, width)."""
        qkv = self.qkv(self.before_attention(x, state)).unflatten(-1, (3, -1, HEAD))
        q, k, v = (part.flatten(0, 1).transpose(1, 2) for part in qkv.unbind(3))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.mix(attended)
        return x + self.narrow(F.gelu(self.widen(self.before_perceptron(x, state))))


class TransformerEncoder(Encoder):
    """Frequencies of squares → tokens → blocks → channels of the latent, each weighed."""

    def __init__(self, config: DeepJSCCConfig, size: TransformerConfig) -> None:
        super().__init__(config)
        self.side, channels = config.image_size // DOWNSAMPLING, max(config.latent_channels)
        self.state, self.lapped = State(), Lapped()
        self.embed = _passing(COUNT, size.width)
        self.places = nn.Parameter(0.02 * torch.randn(self.side**2, size.width))
        self.first = Mix(size.width, self.side**2)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.encoder_blocks))
        self.modulate, self.project = Modulation(size.width, False), _passing(size.width, channels)
        self.last, self.weigh = Mix(channels, self.side**2), Weights(channels)

    def analysis(self, x: Tensor, state: Tensor) -> Tensor:
        """The layers."""
        rows, columns = x.shape[-2] // DOWNSAMPLING, x.shape[-1] // DOWNSAMPLING
        inside, where = windows(rows, columns, self.side)
        state = self.state(state)
        x = self.first(self.embed(self.lapped(x)[:, inside]) + self.places)
        for block in self.blocks:
            x = block(x, state)
        x = self.weigh(self.last(self.project(self.modulate(x, state))), state)
        return x.flatten(1, 2)[:, where].transpose(1, 2).unflatten(2, (rows, columns))


class TransformerDecoder(Decoder):
    """Weighed channels of the latent → tokens → blocks → frequencies of squares."""

    def __init__(self, config: DeepJSCCConfig, size: TransformerConfig) -> None:
        super().__init__(config)
        self.side, channels = config.image_size // DOWNSAMPLING, max(config.latent_channels)
        self.state, self.lapped = State(), Lapped()
        self.weigh, self.first = Weights(channels), Mix(channels, self.side**2)
        self.expand = _passing(channels, size.width)
        self.places = nn.Parameter(0.02 * torch.randn(self.side**2, size.width))
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.decoder_blocks))
        self.modulate, self.last = Modulation(size.width, False), Mix(size.width, self.side**2)
        self.paint = _passing(size.width, COUNT)

    def synthesis(self, x: Tensor, state: Tensor) -> Tensor:
        """The layers."""
        rows, columns = x.shape[-2:]
        inside, where = windows(rows, columns, self.side)
        state = self.state(state)
        x = x.flatten(2).transpose(1, 2)[:, inside]
        x = self.expand(self.first(self.weigh(x, state))) + self.places
        for block in self.blocks:
            x = block(x, state)
        x = self.paint(self.last(self.modulate(x, state)))
        return (self.lapped.inverse(x.flatten(1, 2)[:, where], rows, columns) + 1) / 2
