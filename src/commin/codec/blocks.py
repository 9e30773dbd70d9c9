"""Layers of the DeepJSCC codec: GDN, residual blocks that halve or double the size, attention, SNR gating.

Sources: Ballé et al., arXiv:1511.06281 (GDN); Cheng et al., arXiv:2001.01568 (simplified attention); Xu et al.,
arXiv:2012.00533 (ADJSCC's attention feature module); Tung and Gündüz, arXiv:2111.13034 (their order).
All take and return (B, C, H, W).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GDN(nn.Module):
    r"""Generalised divisive normalisation, x_i / √(β_i + Σ_j γ_ij·x_j²), or with ``inverse`` x_i · √(…).

    β = b² + 10⁻⁶ and γ = g² keep both non-negative; at the start β ≈ 1 and γ ≈ 0.1·I.
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.b = nn.Parameter(torch.ones(channels))
        self.g = nn.Parameter((0.1 * torch.eye(channels)).sqrt() + 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """The formula above."""
        norm = F.conv2d(x * x, self.g.square()[..., None, None], self.b.square() + 1e-6)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class ResidualBlock(nn.Module):
    """x + LeakyReLU(conv(LeakyReLU(conv x))), 3×3 kernels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The formula above."""
        return x + F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x))))


class ResidualBlockDown(nn.Module):
    """Halve height and width: GDN(conv(LeakyReLU(conv_s2 x))) + skip.

    The skip is a 1×1 convolution of every fourth pixel, or with ``lossless`` of 2×2 pixels laid side by side: a linear
    path from picture to symbols that drops nothing.
    """

    def __init__(self, in_channels: int, out_channels: int, lossless: bool = False) -> None:
        super().__init__()
        self.lossless = lossless
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.gdn = GDN(out_channels)
        # A strided 1×1 convolution would do, but its bf16 gradient crashes oneDNN at 3 channels.
        self.skip = nn.Conv2d((4 if lossless else 1) * in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The formula above."""
        skip = self.skip(F.pixel_unshuffle(x, 2) if self.lossless else x[..., ::2, ::2])
        return self.gdn(self.conv2(F.leaky_relu(self.conv1(x)))) + skip


class ResidualBlockUp(nn.Module):
    """Double height and width: IGDN(conv(LeakyReLU(subpixel conv x))) + subpixel conv1×1 x."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.igdn = GDN(out_channels, inverse=True)
        self.skip = nn.Conv2d(in_channels, 4 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The formula above."""
        y = F.leaky_relu(F.pixel_shuffle(self.conv1(x), 2))
        return self.igdn(self.conv2(y)) + F.pixel_shuffle(self.skip(x), 2)


class ResidualUnit(nn.Module):
    """Bottleneck of the attention block: ReLU(x + conv1×1(ReLU(conv3×3(ReLU(conv1×1 x))))), half the width inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = max(channels // 2, 1)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The formula above."""
        return F.relu(x + self.layers(x))


class Attention(nn.Module):
    """x + trunk(x) · sigmoid(conv1×1(branch(x))), both of three residual units (arXiv:2001.01568, Fig. 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)))
        self.branch = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The formula above."""
        return x + self.trunk(x) * torch.sigmoid(self.branch(x))


class AttentionFeature(nn.Module):
    """SNR gating: m·x with m = sigmoid(W2·LeakyReLU(W1·[mean over H, W of x; state])); state is real (B, S)."""

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 8)
        self.w1 = nn.Linear(channels + states, hidden)
        self.w2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """The formula above."""
        pooled = torch.cat([x.mean((2, 3)), state.to(x.dtype)], dim=1)
        return x * torch.sigmoid(self.w2(F.leaky_relu(self.w1(pooled))))[..., None, None]
