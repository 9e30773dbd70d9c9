"""What retraining with fading gains, for ``benchmarks/iq.py``: fine-tune the codec for some minutes at ρ = 1/48.

Two copies see the same pictures as often: one goes on over AWGN, the control; the other over flat Rayleigh fading, its
decoder told |h|²·SNR, its encoder the mean SNR alone. Both are then measured over both channels at 0 dB.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch
from iq_frames import Row
from iq_pictures import BCR, Faces, with_faces
from torch import Tensor

from commin.channels import channel
from commin.codec.deepjscc import DeepJSCC
from commin.data.imageset import ImageSet, load_pixels
from commin.home import data_path, home
from commin.images import from_uint8
from commin.randomness import generator
from commin.units import parse_bcr

IMAGES = 8
"""Pictures seen for each frame asked."""

BATCH, RATE = 32, 3e-4
SNR_RANGE_DB = (-5.0, 5.0)
MEASURED_DB = 0.0


def retrain_rows(frames: int, seed: int, data: Path | None, model: str) -> Iterator[Row]:
    """PSNR over AWGN and over flat Rayleigh fading with CSI, before and after."""
    yield from with_faces(model, data, lambda faces: _rows(faces, IMAGES * frames, seed, data))


def _rows(faces: Faces, images: int, seed: int, data: Path | None) -> Iterator[Row]:
    source = ImageSet(data_path(data))
    pixels = load_pixels(source, source.split("train"), faces.side, "celeba", home() / "cache")
    begin = faces.link.codec
    for name, codec in (
        ("as it is", begin),
        ("fine-tuned over AWGN", _tuned(begin, pixels, images, False, seed)),
        ("fine-tuned over fading", _tuned(begin, pixels, images, True, seed)),
    ):
        faces.link.codec = codec
        with torch.no_grad():
            symbols = faces.symbols(MEASURED_DB)
            over = {way: faces.ideal(channel(way), symbols, MEASURED_DB, seed) for way in ("awgn", "rayleigh-block")}
            awgn, fading = (float(faces.psnr(arrived)[0].mean()) for arrived in over.values())
        yield {
            "row": f"codec {name}, {MEASURED_DB:g} dB", "images_seen": 0 if codec is begin else images,
            "psnr_awgn_db": round(awgn, 3), "psnr_rayleigh_csi_db": round(fading, 3), **faces.about(),
        }  # fmt: skip


def _tuned(codec: DeepJSCC, pixels: Tensor, images: int, fading: bool, seed: int) -> DeepJSCC:
    """A copy that has seen so many pictures more, its learning rate falling to nothing along a cosine."""
    copy, rng, steps = deepcopy(codec).train(), generator(seed, "retrain"), max(images // BATCH, 1)
    optimizer = torch.optim.Adam(copy.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        places = torch.randint(len(pixels), (BATCH,), generator=rng)
        with torch.autocast("cpu", torch.bfloat16):
            loss = _loss(copy, from_uint8(pixels[places]), fading, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return copy.eval()


def _loss(codec: DeepJSCC, images: Tensor, fading: bool, rng: torch.Generator) -> Tensor:
    """Mean squared error of pictures whose equalised symbols are as good as |h|²·SNR."""
    low, high = SNR_RANGE_DB
    mean_db = low + (high - low) * torch.rand(len(images), generator=rng)
    gain = torch.randn(len(images), dtype=torch.complex64, generator=rng).abs().square()
    snr_db = mean_db + 10 * gain.clamp_min(1e-3).log10() if fading else mean_db
    symbols = codec.encode(images, mean_db, parse_bcr(BCR))
    noise = torch.randn(symbols.shape, dtype=torch.complex64, generator=rng)
    received = symbols + noise * (10 ** (-snr_db / 20)).unsqueeze(1)
    return (codec.decode(received, snr_db, (images.shape[-2], images.shape[-1])) - images).square().mean()
