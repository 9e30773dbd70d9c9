"""Frames to pictures in a folder, ``0000-00.png`` and so on, and a line of ``frames.jsonl`` for each event."""

import json
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from commin.errors import UserError
from commin.iq.frame import FrameUse, Modem
from commin.iq.header import Header, model_id
from commin.iq.receive import Event, Frame, Loss
from commin.units import IMAGE_CHANNELS

if TYPE_CHECKING:
    from commin.link import Link

Known = tuple[int, Fraction]


def model_name(model: str) -> str:
    """What a frame's model id is made from: the zoo's name, or a codec file's name without its folder and suffix."""
    return Path(model).stem if model.endswith(".safetensors") else model


def frame_bcr(header: Header, modem: Modem) -> tuple[float, float]:
    """ρ of the payload, and ρ of the whole frame with all that it adds."""
    use = FrameUse.of(header, modem)
    samples = header.pictures * IMAGE_CHANNELS * header.image_size**2
    return use.payload / samples, use.total / samples


class PictureWriter:
    """Restores the pictures of frames as they come, and keeps what it has written whatever comes after."""

    def __init__(
        self, folder: Path, modem: Modem, sample_rate: float, model: str, receiver: str, device: str, seed: int = 0
    ) -> None:
        """Check the names before any sample is read.

        Args:
            folder: where pictures go.
            modem, sample_rate: of the frames; the rate in Hz.
            model: one that frames may name, beside the zoo's.
            receiver: what restores the pictures; several names by commas give a file each.
            device: where it runs.
            seed: of the receiver's own draws.

        Raises:
            UserError: an unknown receiver.
        """
        from commin.zoo.cards import cards
        from commin.zoo.receivers import receiver_names

        self.folder, self.modem, self.sample_rate = folder, modem, sample_rate
        self.receivers, self.device, self.seed = receiver_names(receiver), device, seed
        names = {card.model for card in cards().values() if card.model and card.kind == "codec"}
        self._models = {model_id(name): name for name in sorted(names)} | {model_id(model_name(model)): model}
        self._links: dict[Known, dict[str, Link]] = {}
        self.frames = self.losses = self.pictures = 0

    def __enter__(self) -> Self:
        self._log = (self.folder / "frames.jsonl").open("w", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._log.close()

    def take(self, event: Event) -> str:
        """Write an event's pictures and record; returns a line about it."""
        if isinstance(event, Frame):
            try:
                return self._write(event)
            except UserError as error:
                event = Loss(event.start, str(error))
        self.losses += 1
        self._record({"sample": round(event.start), "lost": event.reason})
        return f"sample {event.start:.0f}: lost: {event.reason}"

    def _write(self, frame: Frame) -> str:
        from commin.images import save_picture, to_picture
        from commin.randomness import generator

        header, digest, names = frame.header, frame.digest(), list[str]()
        size = (header.image_size, header.image_size)
        for receiver, link in self._known(header).items():
            generators = [generator(self.seed, digest, place, "receiver") for place in range(header.pictures)]
            try:
                pictures = link.receive(frame.received(), size, generators).images
            except ValueError as error:
                raise UserError(str(error)) from None
            suffix = f".{receiver}.png" if len(self.receivers) > 1 else ".png"
            for place, picture in enumerate(pictures):
                names.append(f"{self.frames:04d}-{place:02d}{suffix}")
                save_picture(to_picture(picture), self.folder / names[-1])
        payload, whole = frame_bcr(header, self.modem)
        offset = frame.frequency * self.sample_rate
        self._record(
            {
                "frame": self.frames, "sample": round(frame.start), "samples": frame.samples, "files": names,
                "model": self._models[header.model], "bcr": str(header.bcr), "k": header.symbols,
                "design_snr_db": header.design_snr_db, "snr_db": round(frame.snr_db, 3),
                "frequency_hz": round(offset, 3), "clock_ppm": round(frame.clock * 1e6, 2),
                "statistic": round(frame.statistic, 4), "bcr_payload": payload, "bcr_frame": whole,
                "receiver": ",".join(self.receivers), "seed": self.seed,
            }
        )  # fmt: skip
        self.frames += 1
        self.pictures += header.pictures
        about = f"SNR {frame.snr_db:.2f} dB, offset {offset:+.1f} Hz, ρ = {header.bcr}, {header.pictures} pictures"
        return f"sample {frame.start:.0f}: frame {self.frames - 1}: {about}"

    def _known(self, header: Header) -> "dict[str, Link]":
        from commin.zoo.load import load

        if header.model not in self._models:
            known = ", ".join(f"{name} ({key})" for key, name in sorted(self._models.items()))
            raise UserError(f"its model id {header.model} is unknown here; there are {known}: give --model")
        key = (header.model, header.bcr)
        if key not in self._links:
            model = self._models[header.model]
            self._links[key] = {r: load(model, header.bcr, r, device=self.device) for r in self.receivers}
        return self._links[key]

    def _record(self, facts: dict[str, Any]) -> None:
        self._log.write(json.dumps(facts) + "\n")
        self._log.flush()
