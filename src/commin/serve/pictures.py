"""Pictures for the page: PNGs inside URLs, and maps of what differs between samples and of what is likely wrong."""

import base64
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from commin.images import to_picture

MAP_TOP = 0.25
"""The deviation or error, in units of white, that the map's last colour stands for."""

COLOURS = ((4, 5, 20), (80, 18, 110), (180, 55, 100), (245, 125, 60), (252, 250, 190))
"""From none to `MAP_TOP`: dark to bright, so that it also reads without colour."""


def data_url(picture: Image.Image, kind: str = "PNG") -> str:
    """The picture as a ``data:`` URL."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded(picture, kind)).decode()}"


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    """The picture as the bytes of a file."""
    buffer = BytesIO()
    picture.save(buffer, format=kind)
    return buffer.getvalue()


def image_url(image: Tensor) -> str:
    """Float (3, H, W) in [0, 1] as a ``data:`` URL."""
    return data_url(to_picture(image.cpu()))


def heat(deviation: Tensor) -> Tensor:
    """A deviation or error (H, W) as colours (3, H, W): `COLOURS` spread evenly over 0 … `MAP_TOP`."""
    stops = torch.tensor(COLOURS, dtype=torch.float32) / 255
    place = (deviation / MAP_TOP).clamp(0, 1) * (len(stops) - 1)
    low = place.floor().long().clamp(max=len(stops) - 2)
    share = (place - low).unsqueeze(-1)
    return torch.lerp(stops[low], stops[low + 1], share).permute(2, 0, 1)
