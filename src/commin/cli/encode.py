"""``commin encode PHOTO... -o tx.sigmf-meta``: photos to a recording of samples, ready to be sent."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from commin.iq.header import Header
    from commin.iq.pulse import Complex
    from commin.link import Link

LEVEL_DB = -15.0
"""Mean power of frames under full scale; their peaks are 7 to 12 dB above it."""


def encode(
    photos: Annotated[list[Path], typer.Argument(help="Photos: JPEG, PNG, WebP, AVIF, …", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="NAME.sigmf-meta, or NAME.cf32 or NAME.ci16.")],
    bcr: Annotated[str, typer.Option(help="Bandwidth compression ratio ρ = k/n of the payload.")] = "1/48",
    design_snr: Annotated[int, typer.Option(help="SNR in whole dB that the transmitter assumes.")] = 0,
    model: Annotated[str, typer.Option(help="A model of the zoo or a codec file.")] = "faces64",
    crop: Annotated[str, typer.Option(help="centre, face, top, celeba, stretch or L,T,R,B in pixels.")] = "centre",
    per_frame: Annotated[int, typer.Option(help="Pictures that share a frame; 0 for as many as fit, 16 at most.")] = 0,
    refine: Annotated[
        int, typer.Option(min=0, help="Steps by which each picture's symbols are refined; 30 is a good number.")
    ] = 0,
    gap: Annotated[int, typer.Option(help="Symbols of silence before, between and after frames.")] = 64,
    clip: Annotated[float | None, typer.Option(help="Cut peaks to this many dB above the mean power.")] = None,
    sample_rate: Annotated[float, typer.Option(help="Samples per second.")] = 1e6,
    frequency: Annotated[float | None, typer.Option(help="Centre frequency in Hz, for the meta file.")] = None,
    datatype: Annotated[str, typer.Option(help="cf32_le or ci16_le.")] = "cf32_le",
    sps: Annotated[int, typer.Option(help="Samples per symbol.")] = 4,
    rolloff: Annotated[float, typer.Option(help="Roll-off of the root-raised-cosine pulse.")] = 0.25,
    span: Annotated[int, typer.Option(help="Length of the pulse in symbols.")] = 12,
    profile: Annotated[str, typer.Option(help="standard or robust.")] = "standard",
    waveform: Annotated[str, typer.Option(help="single or ofdm, for echoes.")] = "single",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Turn photos into samples: frames of DeepJSCC symbols with all that a receiver needs to find and read them."""
    import numpy as np
    import torch

    from commin.cli.devices import torch_device
    from commin.errors import UserError
    from commin.iq.frame import MAX_PAYLOAD, FrameUse, Modem, frame_samples, papr_db
    from commin.iq.header import Header
    from commin.iq.pictures import frame_bcr, model_name
    from commin.iq.pulse import Pulse
    from commin.iq.sigmf import RecordingWriter
    from commin.zoo.load import load

    if gap < 0 or not 0 <= per_frame <= 32:
        raise UserError("--gap must not be negative, --per-frame must be 0..32")
    if clip is not None and not 0 < clip <= 40:
        raise UserError(f"--clip {clip:g}: must be above 0 dB, at most 40")
    modem = Modem(Pulse(sps, rolloff, span), profile, waveform)
    link = load(model, bcr, device=torch_device(device))
    side = link.codec.config.image_size
    single = Header.of(model_name(model), link.bcr, design_snr, 1, side)
    share = per_frame or max(1, min(16, len(photos), MAX_PAYLOAD // single.symbols))
    silence = np.zeros(gap * sps, np.complex64)
    level = np.float32(10 ** (LEVEL_DB / 20) * sps**0.5)

    with RecordingWriter(out, sample_rate, modem, datatype, frequency) as writer:
        for begin in range(0, len(photos), share):
            part = photos[begin : begin + share]
            images = torch.stack([_framed(photo, crop, side) for photo in part]).to(link.device)
            header = Header.of(model_name(model), link.bcr, design_snr, len(part), side)
            samples = frame_samples(header, _symbols(link, images, header, refine), modem, clip)
            writer.write(silence)
            label = f"commin {len(part)} pictures"
            writer.annotate(writer.samples, len(samples), label, {"photos": [photo.name for photo in part]})
            writer.write(level * samples)
            use, (payload, whole) = FrameUse.of(header, modem), frame_bcr(header, modem)
            print(
                f"frame {begin // share}: {len(part)} pictures, {use.payload} of {use.total} symbols payload "
                f"({100 * use.overhead:.1f} % overhead), ρ = {payload:.5f} payload, {whole:.5f} frame, "
                f"PAPR {papr_db(samples):.1f} dB"
            )
        writer.write(silence)
    if writer.clipped:
        print(f"warning: {writer.clipped} values were beyond full scale and are clipped")
    print(f"recording: {writer.meta or writer.data}, {writer.samples} samples, {writer.samples / sample_rate:.4f} s")


def _framed(photo: Path, crop: str, side: int) -> "Tensor":
    from commin.cli.options import photo_box
    from commin.errors import UserError
    from commin.images import frame, open_photo, to_tensor

    if crop == "none":
        raise UserError("--crop none: frames carry square pictures of the model's size; choose another crop")
    picture = open_photo(photo)
    return to_tensor(frame(picture, photo_box(picture, crop), (side, side)))


def _symbols(link: "Link", images: "Tensor", header: "Header", refinement: int) -> "Complex":
    import numpy as np
    import torch

    design = torch.full((len(images),), float(header.design_snr_db), device=link.device)
    with torch.no_grad():
        symbols = link.codec.encode(images, design, link.bcr, refinement)
    return symbols.cpu().numpy().astype(np.complex64)
