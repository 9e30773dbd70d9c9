"""Pixel metrics on 8-bit pictures: PSNR, SSIM, MS-SSIM."""

from typing import TYPE_CHECKING

import torch

from commin.images import to_uint8
from commin.units import linear_to_db

if TYPE_CHECKING:
    from torch import Tensor

MS_SSIM_MIN_SIZE = 161
"""Pixels along the shorter side from which MS-SSIM's five scales fit an 11-pixel window."""


def mse(images: "Tensor", originals: "Tensor") -> "Tensor":
    """Mean squared error of each pair after rounding to 8 bits, in units of 1 (white): two (B, 3, H, W) to (B,)."""
    error = to_uint8(images).double() - to_uint8(originals).double()
    return error.square().mean((1, 2, 3)) / 255**2


def psnr(images: "Tensor", originals: "Tensor") -> "Tensor":
    """10·log10(1/MSE) in dB of each pair on 8-bit pictures: two (B, 3, H, W) in [0, 1] to (B,); +inf if equal."""
    return linear_to_db(1.0 / mse(images, originals))


def ssim(images: "Tensor", originals: "Tensor") -> "Tensor":
    """Structural similarity of each pair, 11-pixel Gaussian window, on 8-bit pictures: (B,), 1 for equal ones.

    Source: Wang et al., IEEE TIP 13(4), 2004; computed by torchmetrics.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    pair = (to_uint8(images).float() / 255, to_uint8(originals).float() / 255)
    values: Tensor = structural_similarity_index_measure(*pair, data_range=1.0, reduction="none")
    return values.reshape(-1)


def ms_ssim(images: "Tensor", originals: "Tensor") -> "Tensor":
    """Multi-scale SSIM of each pair on 8-bit pictures, (B,); NaN below `MS_SSIM_MIN_SIZE` pixels.

    Source: Wang et al., Asilomar 2003; computed by torchmetrics.
    """
    if min(images.shape[-2:]) < MS_SSIM_MIN_SIZE:
        return torch.full((len(images),), torch.nan)
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    pair = (to_uint8(images).float() / 255, to_uint8(originals).float() / 255)
    rows = [
        multiscale_structural_similarity_index_measure(a[None], b[None], data_range=1.0)
        for a, b in zip(*pair, strict=True)
    ]
    return torch.stack(rows)
