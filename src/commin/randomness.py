"""Explicit randomness: a CPU generator for every purpose, a function of what it is for and of nothing else.

A draw depends on (seed, SHA-256 of the decoded pixels, purpose) for a picture, and on (seed, step, purpose) for a
training step, so that no result depends on batch size, order, worker, machine count or device.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by the SHA-256 of the key's parts, for example ``generator(seed, digest, "noise")``."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def pixel_digest(image: "Tensor") -> str:
    """SHA-256 (hex) of one image's size and 8-bit pixels: float (3, H, W) in [0, 1]."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return hashlib.sha256(f"{tuple(pixels.shape)}".encode() + pixels.numpy().tobytes()).hexdigest()


def image_generators(images: "Tensor", seed: int, purpose: str) -> list[torch.Generator]:
    """One generator for each image of a batch (B, 3, H, W): same image, seed and purpose, same draws."""
    return [generator(seed, pixel_digest(image), purpose) for image in images]


def complex_normal(size: Sequence[int], generators: "Sequence[torch.Generator]", device: torch.device) -> "Tensor":
    """CN(0, 1) draws, complex64 (len(generators), *size): row i from generator i, on the CPU, then moved."""
    rows = [torch.randn(*size, generator=g, dtype=torch.complex64) for g in generators]
    return torch.stack(rows).to(device)
