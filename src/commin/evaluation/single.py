"""The record of one transmission of one picture, and its figures in words."""

import torch
from torch import Tensor

import commin
from commin.evaluation.records import Record
from commin.link import Link, Transmission
from commin.metrics.lpips import SMALLEST, try_lpips
from commin.metrics.pixels import psnr
from commin.randomness import pixel_digest


def single_record(
    image: Tensor,
    result: Transmission,
    link: Link,
    *,
    name: str,
    model: str,
    system: str,
    channel: str,
    snr_db: float,
    design_snr_db: float,
    seed: int,
    seconds: float,
    weights: dict[str, str],
    note: str = "",
    refinement: int = 0,
) -> Record:
    """Measure a transmission.

    Args:
        image: what was sent, (3, H, W) in [0, 1].
        result: what became of it; the first sample counts.
        link: what it went through.
        name: of the picture.
        model, system, channel: by their names.
        snr_db, design_snr_db: per complex symbol, in dB.
        seed: of all noise.
        seconds: that it took.
        weights: SHA-256 by file, as `commin.zoo.load.weights_of` gives them.
        note: a word on it.
        refinement: steps by which the symbols were refined.
    """
    restored = result.images.cpu()
    lpips = try_lpips() if min(image.shape[-2:]) >= SMALLEST else None
    return Record(
        image=name, digest=pixel_digest(image), model=model, system=system, channel=channel, bcr=str(link.bcr),
        k=result.use.symbols, n=result.use.samples, snr_db=snr_db, design_snr_db=design_snr_db,
        measured_snr_db=round(float(result.measured_snr_db), 4), seed=seed,
        psnr_db=round(float(psnr(restored, image[None])), 4),
        lpips=round(float(lpips(restored, image[None])), 5) if lpips else None,
        lpips_backbone=lpips.backbone.name if lpips else None, seconds=round(seconds, 4),
        network_calls=link.receiver.network_calls,
        versions={"commin": commin.__version__, "torch": torch.__version__}, weights=weights, note=note,
        loss=getattr(link.receiver, "loss_name", ""), refinement=refinement,
    )  # fmt: skip


def record_lines(record: Record) -> tuple[str, str]:
    """PSNR and LPIPS as they stand under a picture."""
    lpips = "n/a" if record.lpips is None else f"{record.lpips:.3f} ({record.lpips_backbone})"
    return f"PSNR {record.psnr_db:.2f} dB", f"LPIPS {lpips}"
