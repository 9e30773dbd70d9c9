"""``commin decode rx.sigmf-meta -o DIR``: find the frames of a recording and restore their pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from commin.iq.frame import Modem


def decode(
    recording: Annotated[Path, typer.Argument(help="The recording: .sigmf-meta, .cf32 or .ci16.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path("out"),
    receiver: Annotated[str, typer.Option(help="What restores the pictures; several by commas.")] = "deepjscc",
    model: Annotated[str, typer.Option(help="A model of the zoo or a codec file that frames may name.")] = "faces64",
    sample_rate: Annotated[float | None, typer.Option(help="Samples per second, for raw files.")] = None,
    sps: Annotated[int | None, typer.Option(help="Samples per symbol; else as the recording says, or 4.")] = None,
    rolloff: Annotated[float | None, typer.Option(help="Roll-off; else as the recording says, or 0.25.")] = None,
    span: Annotated[int | None, typer.Option(help="Pulse length in symbols; else as it says, or 12.")] = None,
    profile: Annotated[str | None, typer.Option(help="standard or robust; else as the recording says.")] = None,
    waveform: Annotated[str | None, typer.Option(help="single or ofdm; else as the recording says.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the receiver's own draws.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads that look for frames.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Find frames in samples, without being told where they are, and write their pictures."""
    from concurrent.futures import ThreadPoolExecutor

    from commin.cli.devices import torch_device
    from commin.cli.options import output_folder, warn_of_loss
    from commin.errors import UserError
    from commin.iq.pictures import PictureWriter
    from commin.iq.receive import StreamReceiver
    from commin.iq.sigmf import open_recording

    source = open_recording(recording, sample_rate)
    modem = chosen_modem(source.modem, sps, rolloff, span, profile, waveform)
    torch_device(device)
    folder = output_folder(out)
    warn_of_loss(receiver.split(","))
    with (
        ThreadPoolExecutor(max(threads, 1)) as pool,
        PictureWriter(folder, modem, source.sample_rate, model, receiver, device, seed) as writer,
    ):
        stream = StreamReceiver(modem, pool if threads > 1 else None)
        for block in source.blocks():
            for event in stream.push(block):
                print(writer.take(event))
        for event in stream.finish():
            print(writer.take(event))
    for line in source.complaints:
        print(f"warning: {line}")
    if not writer.frames:
        found = f"{writer.losses} frames were lost" if writer.losses else "no frame was found"
        raise UserError(f"{recording}: {found} in {source.samples} samples")
    print(f"{writer.pictures} pictures of {writer.frames} frames in {folder}; {writer.losses} lost")


def chosen_modem(
    said: "Modem | None",
    sps: int | None,
    rolloff: float | None,
    span: int | None,
    profile: str | None,
    waveform: str | None,
) -> "Modem":
    """The modem that options ask for, else that a recording says, else the default."""
    from commin.iq.frame import Modem
    from commin.iq.pulse import Pulse

    base = said or Modem()
    pulse = Pulse(
        base.pulse.sps if sps is None else sps,
        base.pulse.rolloff if rolloff is None else rolloff,
        base.pulse.span if span is None else span,
    )
    return Modem(pulse, profile or base.profile, waveform or base.waveform)
