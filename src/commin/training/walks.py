"""Samples of commin-fast for pictures that random links carried, made before a training and kept in its run folder.

A sample costs several times what a step of training does for a picture, so that a recipe says how many are made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from rich.console import Console
from rich.progress import track
from torch import Tensor

from commin.codec.deepjscc import DeepJSCC
from commin.errors import UserError
from commin.images import from_uint8, to_uint8
from commin.modelfile import read_model, write_model
from commin.precision import fast_dtype
from commin.randomness import generator
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_settings import FastSettings
from commin.training import ranks
from commin.training.link import MixedLink
from commin.training.reader import Pixels, batch_indices
from commin.training.recipe import LoopConfig, Strict
from commin.zoo.receivers import Parts

PER_FILE = 192
"""Walks made and written at a time."""

KIND = "walks"
"""What a file of them says that it holds."""

Made = dict[str, Tensor]


class WalksConfig(Strict):
    """Which samples a training is shown.

    Attributes:
        count: how many are made, each for a picture, ρ, SNR and noise of its own.
        share: of pictures that are compared with the sample by LPIPS, in the original's place.
    """

    count: int = Field(gt=0)
    share: float = Field(ge=0, le=1)


@dataclass(frozen=True)
class Walks:
    """`Pixels` of nine channels: what was sent, what arrived of it, and a sample.

    Attributes:
        pictures: x, y and s, uint8 (N, 9, H, W).
        bcr: the numbers of their ρ, int64 (N,).
        snr_db: (N,) in dB.
    """

    pictures: Tensor
    bcr: Tensor
    snr_db: Tensor

    @property
    def shape(self) -> torch.Size:
        """(N, 9, H, W)."""
        return self.pictures.shape

    def __len__(self) -> int:
        """N."""
        return len(self.pictures)

    def __getitem__(self, chosen: Tensor, /) -> Tensor:
        """Those of these numbers, (B, 9, H, W)."""
        return self.pictures[chosen]


class Walker:
    """The walk of a model's commin-fast behind links of several ρ: samples as they are drawn, without the last call.

    Args:
        model: of the zoo, with a prior and an INN for each ρ.
        codec: the model's.
        link: the links.
        device: where to walk.
    """

    def __init__(self, model: str, codec: DeepJSCC, link: MixedLink, device: torch.device) -> None:
        self.codec, self.link, self.device = codec, link, device
        self.receivers = [_receiver(Parts(model, bcr, device)).to(device) for bcr in link.bcrs]

    @torch.no_grad()
    def pictures(self, rows: Mapping[str, Tensor], y: Tensor, *purpose: object) -> Made:
        """What a file holds, of rows with ``images``, ``bcr`` and ``snr_db`` and their y (B, 3, H, W) in [0, 1].

        Row i is random by the purpose and i. Tensors are moved to the walker's device, and back to the CPU.
        """
        rows, y = {key: value.to(self.device) for key, value in rows.items()}, y.to(self.device)
        samples = torch.empty_like(y)
        for number, (bcr, receiver) in enumerate(zip(self.link.bcrs, self.receivers, strict=True)):
            here = (rows["bcr"] == number).nonzero().squeeze(1)
            symbols = torch.empty(len(here), 0, dtype=torch.complex64, device=self.device)
            arrival = Arrival(y[here], symbols, rows["snr_db"][here], bcr, self.codec)
            drawn = [generator(*purpose, row) for row in here.tolist()]
            samples[here] = receiver.restore(arrival, drawn, 1)[:, 0]
        pictures = to_uint8(torch.cat([rows["images"], y, samples], 1))
        return {"pictures": pictures.cpu(), "bcr": rows["bcr"].cpu(), "snr_db": rows["snr_db"].cpu()}

    @torch.no_grad()
    def sent(self, pixels: Pixels, config: LoopConfig, piece: int) -> Made:
        """`PER_FILE` pictures of a training, half of them mirrored, each at a random point of the links."""
        chosen = batch_indices(config.model_copy(update={"batch": PER_FILE}), len(pixels), piece)
        rng = generator(config.seed, "walks", piece)
        images = from_uint8(pixels[chosen])
        images = torch.where(torch.rand(len(images), 1, 1, 1, generator=rng) < 0.5, images.flip(3), images)
        rows = {key: value.to(self.device) for key, value in self.link.draw(images, rng).items()}
        return self.pictures(rows, self.link.estimate(self.codec, rows), config.seed, "walk", piece)


def pieces(count: int) -> range:
    """The numbers of the files that hold so many walks."""
    return range(-(-count // PER_FILE))


def kept(
    jobs: Mapping[str, Callable[[], Made]], folder: Path | None, about: dict[str, Any], console: Console
) -> list[Walks]:
    """The walks of each job: read where its file is there, else made by one of the ranks and written.

    Args:
        jobs: by the names of their files.
        folder: where they are kept; None to keep none.
        about: what they depend on, written into the files.
        console: where progress is shown.

    Raises:
        UserError: a file of other walks, or one that cannot be written.
    """
    if folder is None:
        return [Walks(**job()) for job in jobs.values()]
    paths = {folder / f"{name}.safetensors": job for name, job in jobs.items()}
    missing = [path for path in paths if not path.is_file()]
    ranks.wait()
    for path in track(missing[ranks.rank() :: ranks.size()], "walks", console=console, disable=console.quiet):
        try:
            write_model(path, KIND, about, paths[path](), torch.float32)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    ranks.wait()
    return [_read(path, about) for path in paths]


def joined(parts: Sequence[Walks], count: int) -> Walks:
    """The first ``count`` of several files' walks."""
    columns = ([part.pictures for part in parts], [part.bcr for part in parts], [part.snr_db for part in parts])
    return Walks(*(torch.cat(column)[:count] for column in columns))


def _read(path: Path, about: dict[str, Any]) -> Walks:
    held, tensors = read_model(path, KIND)
    if held != about:
        raise UserError(f"{path}: walks of another recipe; remove {path.parent}, or rename the run")
    return Walks(**tensors)


def _receiver(parts: Parts) -> CommINFast:
    settings = parts.settings("commin-fast", FastSettings)
    plain = settings.model_copy(update={"points": tuple(point.plain() for point in settings.points)})
    dtype = fast_dtype(parts.device)
    return CommINFast(parts.prior(dtype), parts.inn(dtype), plain)
