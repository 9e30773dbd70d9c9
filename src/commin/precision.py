"""Arithmetic of lower precision: where it is quick, and how a network is run in it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "float32", "bf16", "fp16"]
"""``auto`` is bf16 where the device has instructions for it, else float32."""


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device has instructions for its products, else float32.

    A CPU without them emulates bfloat16, several times slower than float32.
    """
    if device.type == "cpu":
        quick = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        quick = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if quick else torch.float32


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast context of a precision on a device; nothing for float32."""
    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = dtypes[precision] if precision in dtypes else fast_dtype(device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
