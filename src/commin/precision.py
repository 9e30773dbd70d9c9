"""Arithmetic of lower precision: where it is quick, and how a network is run in it."""

import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

import torch

Precision = Literal["auto", "float32", "bf16", "fp16"]
"""``auto`` is bf16 where the device is quicker in it, else float32."""

SIDE = 512
"""Of the square matrices whose product is measured."""


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device is quicker in it, else float32.

    A CPU without instructions for it emulates bfloat16, several times slower than float32; one with them may still be
    slower, so there a product of two matrices is measured, once a process.
    """
    if device.type == "cpu":
        quick = torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and _quicker_in_bf16())
    else:
        quick = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if quick else torch.float32


@cache
def _quicker_in_bf16() -> bool:
    """Whether the CPU takes less than 2/3 of float32's time for a product: processors take half of it, or twice."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(5):
        for dtype, taken in seconds.items():
            matrix = torch.ones(SIDE, SIDE, dtype=dtype)
            begun = time.process_time()
            matrix @ matrix
            taken.append(time.process_time() - begun)
    return min(seconds[torch.bfloat16]) < min(seconds[torch.float32]) / 1.5


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast context of a precision on a device; nothing for float32."""
    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = dtypes[precision] if precision in dtypes else fast_dtype(device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
