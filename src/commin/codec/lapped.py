"""A lapped transform: pictures to low frequencies of their squares of 16×16 pixels, 8 more around each, and back.

Each window of 32×32 pixels is a sine's, whose squares overlap to 1 (Malvar and Staelin, IEEE Trans. ASSP 37, 1989, but
with the DCT-II of the whole window). That gives four times as many frequencies as pixels; the lower quarter is kept,
about half of the highest frequency. Each pixel is painted by up to four squares, and no edges stand between them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commin.units import DOWNSAMPLING, IMAGE_CHANNELS

MARGIN = DOWNSAMPLING // 2  # pixels around a square that belong to it too
WINDOW = DOWNSAMPLING + 2 * MARGIN
COUNT = IMAGE_CHANNELS * DOWNSAMPLING**2  # frequencies kept of a square, as many as it has pixels × colours
OPPONENT = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # brightness, red against blue, green against both
EMPHASIS = (0.5, 2.0, 3.0)  # of these three
POWER, LEVEL = 0.75, 0.25  # with the emphasis, so that faces have numbers of about the same size


class Lapped(nn.Module):
    r"""x̃_{c,u,v} = ¼·(e_c·(1 + √(u² + v²)))^¾ · Σ_{i,j} w_i·w_j·D_{ui}·D_{vj}·x_{c,i,j}, D the DCT-II, w the sine.

    c is one of three opponent colours and e_c its emphasis. The factor lifts the weak high frequencies, which a network
    would else learn last; in float32. By it the frequencies are in order, and the first `COUNT` are kept.
    """

    dct: Tensor
    colours: Tensor
    scale: Tensor
    order: Tensor
    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        i = torch.arange(WINDOW)
        dct = (torch.pi / WINDOW * (i + 0.5) * i[:, None]).cos() * (2 / WINDOW) ** 0.5
        dct[0] /= 2**0.5
        colours = torch.tensor(OPPONENT)
        frequency = 1 + (i[:, None].square() + i.square()).sqrt()
        scale = LEVEL * (torch.tensor(EMPHASIS)[:, None, None] * frequency) ** POWER
        order = scale.flatten().argsort(stable=True)
        buffers = {
            "dct": dct * (torch.pi / WINDOW * (i + 0.5)).sin(),
            "colours": colours / colours.norm(dim=1, keepdim=True),
            "scale": scale,
            "order": order[:COUNT],
            "place": order.argsort(),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, 16·h, 16·w), mirrored at their edges, to (B, h·w, COUNT)."""
        padded = F.pad(images.float(), (MARGIN,) * 4, mode="reflect")
        x = F.unfold(padded, WINDOW, stride=DOWNSAMPLING).mT.unflatten(-1, self.scale.shape)
        with torch.autocast(x.device.type, enabled=False):
            x = torch.einsum("bpcij,ui,vj,dc->bpduv", x, self.dct, self.dct, self.colours) * self.scale
        return x.flatten(2)[..., self.order]

    def inverse(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Numbers of squares (B, rows·columns, COUNT) to pictures (B, 3, 16·rows, 16·columns).

        What overlaps is added, and divided by the squares of the windows there, 1 but at a picture's edges.
        """
        x = F.pad(x.float(), (0, self.scale.numel() - COUNT))[..., self.place].unflatten(-1, self.scale.shape)
        with torch.autocast(x.device.type, enabled=False):
            squares = torch.einsum("bpduv,ui,vj,dc->bpcij", x / self.scale, self.dct, self.dct, self.colours)
        window = self.dct.square().sum(0)  # of the sine
        overlap = (window[:, None] * window).flatten()[None, :, None].expand(1, -1, rows * columns)
        return _added(squares.flatten(2).mT, rows, columns) / _added(overlap, rows, columns)


def _added(squares: Tensor, rows: int, columns: int) -> Tensor:
    size = (rows * DOWNSAMPLING + 2 * MARGIN, columns * DOWNSAMPLING + 2 * MARGIN)
    return F.fold(squares, size, WINDOW, stride=DOWNSAMPLING)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
