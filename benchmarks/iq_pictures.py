"""Pictures through frames for ``benchmarks/iq.py``: PSNR against the ideal link, fading with and without CSI, TDL.

Test faces at ρ = 1/48, four in each frame, decoded by the codec alone, which was trained over AWGN only.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from iq_frames import Row, on_air
from torch import Tensor

import commin
from commin.channels import channel
from commin.channels.base import Channel, Csi, Received
from commin.data.imageset import ImageSet, load_pixels
from commin.errors import UserError
from commin.home import data_path, home
from commin.images import from_uint8
from commin.iq.frame import Modem
from commin.iq.header import Header
from commin.iq.receive import Frame, StreamReceiver
from commin.iq.tdl import tdl
from commin.metrics.pixels import psnr
from commin.randomness import generator, image_generators
from commin.zoo.cards import sha256
from commin.zoo.load import codec_path, load

BCR = "1/48"
SHARE = 4
SNRS_DB = (-5.0, 0.0, 5.0)
LARGEST_LOSS_DB = {-5.0: 0.3, 0.0: 0.15, 5.0: 0.1}
DECODED = 64
RAYLEIGH_PATHS = {"taps": ((0, 1.0), (9, 0.7), (22, 0.5)), "fading": "block"}
"""Three Rayleigh paths over 5.5 symbols."""

TDL = ("C", 300.0, 20e6)
"""Profile, delay spread in ns and samples per second of the 3GPP channel: 2.6 µs of echoes are 13 symbols."""

Arrived = list[Received | None]


class Faces:
    """The pictures and the link they go through."""

    def __init__(self, model: str, data: Path | None) -> None:
        self.model, self.link = model, load(model, BCR)
        self.side = self.link.codec.config.image_size
        source = ImageSet(data_path(data))
        entries = source.split("test")
        pixels = load_pixels(source, entries[: len(entries) // SHARE * SHARE], self.side, "celeba", home() / "cache")
        self.images = from_uint8(pixels)
        self.header = Header.of(model, self.link.bcr, 0, SHARE, self.side)

    def symbols(self, design_snr_db: float) -> Tensor:
        """The codec's symbols of all pictures, (N, k)."""
        parts = [self.link.codec.encode(p, torch.full((len(p),), design_snr_db), self.link.bcr)
                 for p in self.images.split(DECODED)]  # fmt: skip
        return torch.cat(parts)

    def ideal(self, over: Channel, symbols: Tensor, snr_db: float, seed: int, told_gains: bool = True) -> Arrived:
        """Each group of pictures after a channel of symbols, told its gains or the mean SNR alone."""
        snrs = torch.full((len(symbols),), snr_db)
        got = over(symbols, snrs, image_generators(self.images, seed, "channel"))
        gains = got.csi.gains if got.csi and told_gains else None
        groups = zip(got.symbols.split(SHARE), snrs.split(SHARE),
                     [None] * len(snrs) if gains is None else gains.split(SHARE), strict=False)  # fmt: skip
        return [Received(y, Csi(snr, h)) for y, snr, h in groups]

    def frames(self, modem: Modem, changes: Row, symbols: Tensor, snr_db: float, rng: np.random.Generator) -> Arrived:
        """Each group of pictures after a frame on the air, as the receiver hands it over; None where it was lost."""
        arrived: Arrived = []
        for group in symbols.split(SHARE):
            sent = on_air(rng, modem, self.header, changes | {"snr_db": snr_db}, group.numpy())
            receiver = StreamReceiver(modem)
            events = receiver.push(sent.samples) + receiver.finish()
            read = [event for event in events if isinstance(event, Frame) and event.header == self.header]
            arrived.append(read[0].received() if read else None)
        return arrived

    def psnr(self, arrived: Arrived) -> tuple[np.ndarray, np.ndarray]:
        """PSNR of each picture in dB, that of plain grey for lost ones, and which are there; both (N,)."""
        there = [received for received in arrived if received is not None]
        mask = torch.tensor([received is not None for received in arrived]).repeat_interleave(SHARE)
        restored, step = torch.full_like(self.images, 0.5), DECODED // SHARE
        restored[mask] = torch.cat([self._decode(there[i : i + step]) for i in range(0, len(there), step)])
        return psnr(restored, self.images).numpy(), mask.numpy()

    def _decode(self, group: list[Received]) -> Tensor:
        """Pictures of several frames at once."""
        told = [one.csi for one in group if one.csi]
        gains = [h.expand_as(one.symbols) for one, csi in zip(group, told, strict=True) if (h := csi.gains) is not None]
        received = Received(
            torch.cat([one.symbols for one in group]),
            Csi(torch.cat([csi.snr_db for csi in told]), torch.cat(gains) if gains else None),
        )
        unused = [generator(0, "receiver")] * len(received.symbols)
        return self.link.receive(received, (self.side, self.side), unused).estimate

    def about(self) -> Row:
        """What the figures are of."""
        path = codec_path(self.model)
        return {"pictures": len(self.images), "weights": {path.name: sha256(path)}, "commin": commin.__version__}


def psnr_rows(frames: int, seed: int, data: Path | None, model: str) -> Iterator[Row]:
    """PSNR through frames against that of the ideal link at the same SNR, picture by picture."""
    yield from with_faces(model, data, lambda faces: _psnr_rows(faces, frames, seed))


@torch.no_grad()
def _psnr_rows(faces: Faces, frames: int, seed: int) -> Iterator[Row]:
    rng, groups = np.random.default_rng(seed), len(faces.images) // SHARE
    rounds = -(-frames // groups)
    for snr in SNRS_DB:
        symbols, read = faces.symbols(snr), 0
        ours: list[float] = []
        ideal: list[float] = []
        for number in range(rounds):
            reference, _ = faces.psnr(faces.ideal(channel("awgn"), symbols, snr, seed + number))
            got, there = faces.psnr(faces.frames(Modem(), {}, symbols, snr, rng))
            ours, ideal, read = [*ours, *got[there]], [*ideal, *reference[there]], read + int(there.sum())
        loss = np.array(ideal) - np.array(ours)
        yield {
            "row": f"PSNR against the ideal link, {snr:+g} dB", "frames": rounds * groups,
            "read": round(read / (rounds * groups * SHARE), 4), "psnr_ideal_db": round(float(np.mean(ideal)), 3),
            "psnr_db": round(float(np.mean(ours)), 3), "psnr_loss_db": round(float(loss.mean()), 3),
            "target": LARGEST_LOSS_DB[snr], **faces.about(),
        }  # fmt: skip


def fading_rows(frames: int, seed: int, data: Path | None, model: str) -> Iterator[Row]:
    """Flat Rayleigh fading with and without CSI, and frames through fading; SNR is the mean one."""
    yield from with_faces(model, data, lambda faces: _fading_rows(faces, seed))


@torch.no_grad()
def _fading_rows(faces: Faces, seed: int) -> Iterator[Row]:
    for snr in SNRS_DB:
        for name, way in _ways(faces, snr, seed).items():
            try:
                got, there = faces.psnr(way())
            except UserError as error:
                yield {"row": f"{name}, {snr:+g} dB", "left_out": str(error)}
                continue
            yield {
                "row": f"{name}, {snr:+g} dB", "frames": len(faces.images) // SHARE,
                "read": round(float(there.mean()), 4), "psnr_read_db": round(float(got[there].mean()), 3),
                "psnr_lost_as_grey_db": round(float(got.mean()), 3), **faces.about(),
            }  # fmt: skip


def _ways(faces: Faces, snr: float, seed: int) -> dict[str, Callable[[], Arrived]]:
    """Each way to the far end by name."""
    symbols, rng = faces.symbols(snr), np.random.default_rng(seed)
    rayleigh, ofdm = channel("rayleigh-block"), Modem(waveform="ofdm")
    return {
        "AWGN, ideal": lambda: faces.ideal(channel("awgn"), symbols, snr, seed),
        "flat Rayleigh, ideal, CSI": lambda: faces.ideal(rayleigh, symbols, snr, seed),
        "flat Rayleigh, ideal, no CSI": lambda: faces.ideal(rayleigh, symbols, snr, seed, told_gains=False),
        "flat Rayleigh, frames": lambda: faces.frames(Modem(), {"fading": "block"}, symbols, snr, rng),
        "3 Rayleigh paths, OFDM frames": lambda: faces.frames(ofdm, RAYLEIGH_PATHS, symbols, snr, rng),
        "3GPP TDL-C 300 ns, OFDM frames": lambda: faces.frames(ofdm, _tdl(), symbols, snr, rng),
    }


def _tdl() -> Row:
    name, spread, rate = TDL
    profile = tdl(name, rate, spread)
    return {"taps": profile.taps, "k_factor": profile.k_factor, "fading": "block"}


def with_faces(model: str, data: Path | None, rows: Callable[[Faces], Iterator[Row]]) -> Iterator[Row]:
    """The rows, or one that says why there are none."""
    try:
        faces = Faces(model, data)
    except UserError as error:
        yield {"row": "pictures", "left_out": str(error)}
        return
    yield from rows(faces)
