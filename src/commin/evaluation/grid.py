"""The picture grid: one photo sent with a sweep's models at one ρ, rows systems, columns SNRs."""

from pathlib import Path

from PIL import Image

from commin.errors import UserError
from commin.evaluation.config import SweepConfig
from commin.evaluation.panel import Cell, panel
from commin.images import crop_box, frame, open_photo, to_tensor
from commin.metrics.lpips import SMALLEST, try_lpips
from commin.metrics.pixels import psnr
from commin.zoo.load import load
from commin.zoo.receivers import RECEIVERS


def picture_grid(photo: Path, config: SweepConfig, bcr: str, crop: str = "centre", device: str = "cpu") -> Image.Image:
    """The grid of the sweep's receivers, first channel and seed; reference systems need the train split and stay out.

    Args:
        photo: any photo, cropped and resized to the model's size.
        config: the sweep, for model, systems, SNRs, channel and seed.
        bcr: ρ.
        crop: a name of `commin.images.crop_box`.
        device: where the networks run.

    Raises:
        UserError: the photo cannot be read, weights are missing, or the sweep has no receivers.
    """
    names = [name for name in config.systems if name in RECEIVERS]
    if not names:
        raise UserError("plot: this sweep has no receivers of the zoo to show pictures of")
    links = {n: load(config.model, bcr, n, config.channels[0], device, config.equalizer).to(device) for n in names}
    picture = open_photo(photo)
    side = links[names[0]].codec.config.image_size
    image = to_tensor(frame(picture, crop_box(*picture.size, crop), (side, side)))
    lpips = try_lpips() if side >= SMALLEST else None
    rows, symbols = [], 0
    for name, link in links.items():
        row = [Cell(image, name, ("original",))]
        for snr in config.snr_db:
            sent = link.transmit(image[None], snr, config.seeds[0])
            restored, symbols = sent.images.cpu(), sent.use.symbols
            lines = [f"PSNR {float(psnr(restored, image[None])):.1f} dB"]
            lines += [f"LPIPS {float(lpips(restored, image[None])):.3f}"] if lpips else []
            row.append(Cell(restored[0], f"{snr:g} dB", tuple(lines)))
        rows.append(row)
    return panel(rows, f"ρ = {bcr}, k = {symbols}, {config.channels[0]}", side=192)
