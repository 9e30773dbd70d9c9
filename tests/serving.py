"""Shared by the tests of the page: a quick receiver that draws, photos, and a server in a thread."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from commin.images import to_picture
from commin.receivers.base import Arrival
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.zoo import receivers as registry
from tests.conftest import smooth_images

EXAMPLE = Path(__file__).parent.parent / "examples" / "astronaut.png"


class Slow:
    """Samples that are the estimate and a little noise, in steps that take ``pause`` seconds each."""

    name = "commin-fast"
    network_calls = 5

    def __init__(self, progress: Callable[[int, int], None] | None, pause: float) -> None:
        self.progress, self.pause, self.naturalness = progress, pause, None
        self.settings = FastSettings(points=(FastPoint(bcr="1/48", snr_db=0, expected_error=(0.5, 0.4)),))

    def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> Tensor:
        for step in range(self.network_calls):
            time.sleep(self.pause)
            if self.progress:
                self.progress(step + 1, self.network_calls)
        rows = [torch.rand(samples, *arrival.estimate.shape[1:], generator=g) for g in generators]
        noise = (torch.stack(rows) - 0.5) * (0.2 if self.naturalness is None else self.naturalness)
        return (arrival.estimate.unsqueeze(1) + noise).clamp(0, 1)


def offer_slow(monkeypatch: pytest.MonkeyPatch, pause: float = 0.0) -> None:
    """Put `Slow` in the place of commin-fast, needing no weights."""
    makers = {**registry.RECEIVERS, "commin-fast": lambda parts: Slow(parts.progress, pause)}
    monkeypatch.setattr(registry, "RECEIVERS", makers)
    monkeypatch.setattr(registry, "NEEDS", {**registry.NEEDS, "commin-fast": ()})


def photo_bytes(width: int = 200, height: int = 150, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    to_picture(smooth_images(1, max(width, height))[0]).crop((0, 0, width, height)).save(buffer, kind)
    return buffer.getvalue()


def example_in_a_photo() -> Image.Image:
    """The example's face, small and off the middle of a larger picture."""
    photo = Image.new("RGB", (700, 500), (90, 110, 120))
    photo.paste(Image.open(EXAMPLE).convert("RGB"), (400, 200))
    return photo


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address of an application that listens on a free port of this machine."""
    import socket

    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
