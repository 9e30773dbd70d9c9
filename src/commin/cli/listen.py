"""``commin listen --zmq ADDRESS -o DIR``: decode frames from a ZeroMQ stream of samples as they come."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer


def listen(
    zmq: Annotated[str, typer.Option("--zmq", help="Address of a PUB socket of complex64 samples.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path("out"),
    sample_rate: Annotated[float, typer.Option(help="Samples per second.")] = 1e6,
    receiver: Annotated[str, typer.Option(help="What restores the pictures; several by commas.")] = "deepjscc",
    model: Annotated[str, typer.Option(help="A model of the zoo or a codec file that frames may name.")] = "faces64",
    sps: Annotated[int, typer.Option(help="Samples per symbol.")] = 4,
    rolloff: Annotated[float, typer.Option(help="Roll-off of the root-raised-cosine pulse.")] = 0.25,
    span: Annotated[int, typer.Option(help="Length of the pulse in symbols.")] = 12,
    profile: Annotated[str, typer.Option(help="standard or robust.")] = "standard",
    waveform: Annotated[str, typer.Option(help="single or ofdm.")] = "single",
    quiet: Annotated[float, typer.Option(help="Stop after so many seconds without samples; 0: at Ctrl-C.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the receiver's own draws.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, …")] = "cpu",
) -> None:
    """Listen to a stream of samples and write pictures as frames are found. Ctrl-C ends it."""
    from commin.cli.devices import torch_device
    from commin.cli.options import output_folder, warn_of_loss
    from commin.errors import UserError
    from commin.iq.frame import Modem
    from commin.iq.pictures import PictureWriter
    from commin.iq.pulse import Pulse
    from commin.iq.receive import StreamReceiver
    from commin.iq.stream import zmq_blocks

    if not 0 < sample_rate <= 1e12:
        raise UserError(f"--sample-rate {sample_rate:g}: must be above 0")
    modem = Modem(Pulse(sps, rolloff, span), profile, waveform)
    torch_device(device)
    folder = output_folder(out)
    warn_of_loss(receiver.split(","))
    samples = 0
    with PictureWriter(folder, modem, sample_rate, model, receiver, device, seed) as writer:
        stream = StreamReceiver(modem, chunk=1 << 16)
        with contextlib.suppress(KeyboardInterrupt):
            for block in zmq_blocks(zmq, quiet or None):
                samples += len(block)
                for event in stream.push(block):
                    print(writer.take(event), flush=True)
        for event in stream.finish():
            print(writer.take(event), flush=True)
    print(f"{writer.pictures} pictures of {writer.frames} frames in {folder}; {writer.losses} lost; {samples} samples")
