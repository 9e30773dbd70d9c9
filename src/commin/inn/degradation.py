"""The network that mimics the link: f(x) → (c, d) with c close to y, what DeepJSCC makes of x; f⁻¹(c, d) → x.

f splits x, reshuffles the parts to planes of 1/patch the height and width (an orthonormal map) and lifts them, n times
d ← d − P_i(c), c ← c + U_i(d). Trained with the loss of CommIN (arXiv:2310.01130), eq. (9).
"""

from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from commin.inn.lifting import STATE, Lifting, float32
from commin.inn.split import CopySplit, DctSplit
from commin.units import IMAGE_CHANNELS, parse_bcr


class DegradationConfig(BaseModel):
    """Size of an INN and the link it mimics.

    Attributes:
        bcr: ρ of that link, as ``1/48``.
        snr_range_db: SNRs mimicked, in dB. The networks are told the SNR, unless both ends are equal.
        split: ``copy`` (c = x, d = copies of x) or ``dct`` (local means and the 15 other planes of a 4×4 DCT).
        copies: copies in d, for the copy split.
        patch: P and U work at 1/patch of the height and width.
        lifts, width, blocks: number of (P, U) pairs, and the channels and residual blocks of each P and U.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bcr: str
    snr_range_db: tuple[float, float] = (-5.0, 5.0)
    split: Literal["copy", "dct"] = "copy"
    copies: int = Field(1, ge=1)
    patch: int = Field(4, ge=1)
    lifts: int = Field(4, ge=1)
    width: int = Field(96, ge=2, multiple_of=2)
    blocks: int = Field(4, ge=0)

    @field_validator("bcr")
    @classmethod
    def _ratio(cls, value: str) -> str:
        return str(parse_bcr(value))

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.snr_range_db[0] > self.snr_range_db[1]:
            raise ValueError("snr_range_db must be [lowest, highest]")
        return self

    @property
    def ratio(self) -> Fraction:
        """ρ as a number."""
        return Fraction(self.bcr)

    @property
    def conditioned(self) -> bool:
        """Whether the networks are told the SNR."""
        return self.snr_range_db[0] < self.snr_range_db[1]


class Degradation(nn.Module):
    """f and f⁻¹. Everything inside is float32, whatever autocast says outside; in training mode P and U follow it."""

    def __init__(self, config: DegradationConfig) -> None:
        super().__init__()
        self.config = config
        self.split = CopySplit(config.copies) if config.split == "copy" else DctSplit()
        coarse, detail = (channels * config.patch**2 for channels in (IMAGE_CHANNELS, self.split.detail_channels))
        self.lifting = Lifting(coarse, detail, config.lifts, config.width, config.blocks, config.conditioned)
        embed = nn.Sequential(nn.Linear(1, STATE), nn.SiLU(), nn.Linear(STATE, STATE))
        self.embed = embed if config.conditioned else None

    def forward(self, images: Tensor, snr_db: Tensor) -> tuple[Tensor, Tensor]:
        """f: pictures to their coarse and detail parts.

        Args:
            images: x, (B, 3, H, W) in [0, 1]; H and W multiples of ``config.patch``.
            snr_db: SNR of the link in dB, (B,); brought into ``config.snr_range_db``.

        Returns:
            c (B, 3, H, W), in [0, 1] but for the misfit, and d (B, D·patch², H/patch, W/patch), in units of [−1, 1].

        Raises:
            ValueError: a height or width that the patch does not divide.
        """
        patch = self.config.patch
        if images.shape[-2] % patch or images.shape[-1] % patch:
            raise ValueError(f"INN: {images.shape[-2]}×{images.shape[-1]} pixels; both must be multiples of {patch}")
        with float32(images.device):
            c, d = self.split.split(images.float() * 2 - 1)
        with self._arithmetic(images.device):
            c, d = self.lifting(F.pixel_unshuffle(c, patch), F.pixel_unshuffle(d, patch), self._state(snr_db))
            return (F.pixel_shuffle(c, patch) + 1) / 2, d

    def inverse(self, coarse: Tensor, detail: Tensor, snr_db: Tensor) -> Tensor:
        """f⁻¹: the picture x with f(x) = (c, d), shapes and ranges as in `forward`."""
        patch = self.config.patch
        with self._arithmetic(coarse.device):
            planes = F.pixel_unshuffle(coarse.float() * 2 - 1, patch)
            c, d = self.lifting.inverse(planes, detail.float(), self._state(snr_db))
        with float32(coarse.device):
            return (self.split.merge(F.pixel_shuffle(c, patch), F.pixel_shuffle(d, patch)) + 1) / 2

    def replace(self, images: Tensor, received: Tensor, weight: Tensor | float, snr_db: Tensor) -> Tensor:
        """f⁻¹(c + w·(y − c), d) with (c, d) = f(x): a picture's coarse part exchanged for what was received.

        Args:
            images: x, (B, 3, H, W) in [0, 1], any H and W; padded at the right and below to multiples of the patch.
            received: y, the same.
            weight: w, one number or (B, 1, 1, 1); 1 exchanges all of c.
            snr_db: (B,).

        Returns:
            (B, 3, H, W); its own coarse part need not be y, as the split is redundant.
        """
        height, width = images.shape[-2:]
        c, d = self(self._padded(images), snr_db)
        return self.inverse(c + weight * (self._padded(received) - c), d, snr_db)[..., :height, :width]

    def coarse(self, images: Tensor, snr_db: Tensor) -> Tensor:
        """c of pictures of any height and width, padded as in `replace`: (B, 3, H, W) to the same."""
        height, width = images.shape[-2:]
        c: Tensor = self(self._padded(images), snr_db)[0]
        return c[..., :height, :width]

    def _arithmetic(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self.training else float32(device)

    def _padded(self, images: Tensor) -> Tensor:
        patch, (height, width) = self.config.patch, images.shape[-2:]
        return F.pad(images, (0, -width % patch, 0, -height % patch), mode="replicate")

    def _state(self, snr_db: Tensor) -> Tensor | None:
        if self.embed is None:
            return None
        low, high = self.config.snr_range_db
        state: Tensor = self.embed(snr_db.float().clamp(low, high).unsqueeze(1) / 5)
        return state


def misfit(coarse: Tensor, received: Tensor) -> Tensor:
    """Loss (9), mean ‖c − y‖² per sample of each picture: two (B, 3, H, W) to (B,)."""
    return (coarse - received).square().mean((1, 2, 3))
