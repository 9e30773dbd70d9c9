"""Can the seams of tiles be seen? The mean gradient across the lines where tiles meet against that elsewhere.

A large picture is sent by the codec in tiles (``--overlaps``, in pixels) and as one frame (``whole``: then only the
diffusion prior works in tiles). For each line between two rows or columns of pixels the mean absolute difference across
it is taken. ``edge`` is the mean over lines where a tile begins or ends, over that of lines that no overlap touches;
``in overlap`` the same with all lines inside overlaps. Both are divided by what they are where nothing is in tiles, in
what the codec alone makes of one frame, so that content does not count; ``prior's`` are the prior's tiles.
1 is a seam that cannot be measured. Overlap 0 shows tiles merely put side by side.

usage: python benchmarks/tiles.py [--receivers deepjscc,commin-fast] [--overlaps whole,0,8,16] [--size 512] [--seeds 1]
       [--bcr 1/48] [--snr 0] [--picture PHOTO] [--out results/tiles.json]
The picture is noise with a 1/f spectrum, drawn from a seed, unless a photo is given.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from torch import Tensor

import commin
from commin.atomic import write_text
from commin.codec.tiled import TiledCodec
from commin.images import open_photo, to_tensor
from commin.link import Link
from commin.metrics.pixels import psnr
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.tiles import Tiles


def natural(size: int, seed: int) -> Tensor:
    """A grey 1/f picture with fainter 1/f colours, mean 0.5, standard deviation 0.2: (3, size, size) in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size))
    frequency[0, 0] = torch.inf
    planes = torch.fft.irfft2(torch.fft.rfft2(torch.randn(4, size, size, generator=rng)) / frequency, s=(size, size))
    planes /= planes.std((1, 2), keepdim=True)
    return (0.5 + 0.2 * (planes[:1] + 0.3 * planes[1:]) / 1.09**0.5).clamp(0, 1)


def profiles(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute difference between pixels p − 1 and p at p = 1 … of rows and of columns of (3, H, W)."""
    return image.diff(dim=1).abs().mean((0, 2)), image.diff(dim=2).abs().mean((0, 1))


def shares(image: Tensor, tiles: Tiles) -> tuple[float, float]:
    """Mean gradient at the edges of tiles and inside overlaps, each over that elsewhere."""
    edges, inside, elsewhere = [], [], []
    for profile, seams in zip(profiles(image), tiles.seams(), strict=True):
        lines = torch.arange(1, len(profile) + 1)
        at = torch.tensor(seams)
        near = torch.zeros(len(lines), dtype=torch.bool)
        pairs = seams if tiles.overlap else [p for p in seams for _ in (0, 1)]
        for first, last in zip(pairs[::2], pairs[1::2], strict=False):
            near |= (lines >= first) & (lines <= last)
        edges.append(profile[at - 1])
        inside.append(profile[near])
        elsewhere.append(profile[~near])
    base = torch.cat(elsewhere).mean()
    return float(torch.cat(edges).mean() / base), float(torch.cat(inside).mean() / base)


def measure(link: Link, image: Tensor, overlap: int | None, snr: float, seed: int) -> dict[str, float]:
    side = link.codec.config.image_size
    codec = link.codec if overlap is None else TiledCodec(link.codec, overlap)
    begin = time.perf_counter()
    result = Link(codec, link.bcr, link.channel, link.receiver).transmit(image[None], snr, seed)
    took = time.perf_counter() - begin
    plain = Link(link.codec, link.bcr, link.channel, DeepJSCCReceiver()).transmit(image[None], snr, seed)
    size = (image.shape[-2], image.shape[-1])
    grids = {"prior's ": Tiles(*size, side, side // 4, extra=1)} if link.receiver.network_calls else {}
    if overlap is not None:
        grids[""] = Tiles(*size, side, overlap)
    found = {"bcr": result.use.bcr, "psnr": float(psnr(result.images, image[None])), "seconds": took}
    for name, tiles in grids.items():
        ours, codecs = shares(result.images[0], tiles), shares(plain.images[0], tiles)
        found |= {f"{name}{what}": ours[i] / codecs[i] for i, what in enumerate(("edge", "in overlap"))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--receivers", default="deepjscc,commin-fast")
    parser.add_argument("--overlaps", default="whole,0,8,16", help="of the codec's tiles in pixels")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=1, help="pictures and noise; figures are means over them")
    parser.add_argument("--bcr", default="1/48")
    parser.add_argument("--snr", type=float, default=0.0)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []

    def tell(row: dict[str, object]) -> None:
        rows.append(row)
        words = (f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
        print(", ".join(words), flush=True)
        if options.out:
            write_text(options.out, json.dumps(rows, indent=1) + "\n")

    def picture(seed: int) -> Tensor:
        return to_tensor(open_photo(options.picture)) if options.picture else natural(options.size, seed)

    for name in options.receivers.split(","):
        link = commin.load(bcr=options.bcr, receiver=name)
        for text in options.overlaps.split(","):
            overlap = None if text == "whole" else int(text)
            found = [measure(link, picture(s), overlap, options.snr, s) for s in range(options.seeds)]
            tell({"receiver": name, "overlap": text, **{k: sum(f[k] for f in found) / len(found) for k in found[0]}})
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
