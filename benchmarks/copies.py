"""Another person, or a copy? Restored faces, and samples of the prior, beside the training faces nearest to them.

usage: python benchmarks/copies.py [--data FOLDER|ZIP] [--receivers deepjscc,commin-fast,jscc-lpips,pmrf,one-step]
       [--points 1/192:-5,1/48:0,1/12:5] [--pictures 16] -o FOLDER [--json results/copies.json]
       [--figure docs/images/copies.png]

Nearest by LPIPS-Squeeze, among the 100 nearest by pixels and the 100 nearest by pooled SqueezeNet features of all train
pictures and their mirror images. For each system: LPIPS to the original and to the nearest train face, how often that
is the nearer one, and how often it is the original's own nearest. Beside them the test pictures themselves, so what
faces that are no copies come to, and as many samples of the prior by 50 DDIM steps. FOLDER gets what to look at, for
each system in rows: original, restored, the train face nearest to it, the train face nearest to the original. Those are
the data set's pictures, not to be passed on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import commin
from commin.atomic import write_text
from commin.data.imageset import ImageSet, load_pixels
from commin.diffusion.prior import load_prior
from commin.evaluation.figures import PALETTE, matplotlib
from commin.home import data_path, home
from commin.images import from_uint8, grid, save_picture
from commin.metrics.lpips import Lpips, load_lpips
from commin.training.prior import samples
from commin.zoo.fetch import find

CANDIDATES = 100
PART = 64


class Faces:
    """The training faces, and which of them is nearest to a picture."""

    def __init__(self, pixels: Tensor, lpips: Lpips) -> None:
        self.pixels, self.lpips = torch.cat([pixels, pixels.flip(-1)]), lpips
        parts = [from_uint8(part) for part in self.pixels.split(PART)]
        self.features = torch.cat([lpips.backbone.pooled(part) for part in parts])
        self.flat = torch.cat(parts).flatten(1)
        self.squares = self.flat.square().sum(1)

    def nearest(self, picture: Tensor) -> tuple[int, float]:
        """The number of the face nearest to a picture (3, H, W) in [0, 1], and its LPIPS."""
        alike = (self.features - self.lpips.backbone.pooled(picture[None])).square().sum(1)
        near = self.squares - 2 * self.flat @ picture.flatten()
        picks = torch.cat([each.topk(CANDIDATES, largest=False).indices for each in (alike, near)]).unique()
        faces = from_uint8(self.pixels[picks])
        distances = torch.cat([self.lpips(part, picture.expand_as(part)) for part in faces.split(PART)])
        return int(picks[distances.argmin()]), float(distances.min())

    def pictures(self, found: list[tuple[int, float]]) -> Tensor:
        """Those that `nearest` found, (N, 3, H, W)."""
        return from_uint8(self.pixels[[number for number, _ in found]])


def mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)


def look(rows: list[Tensor], path: Path) -> None:
    """Pictures of one kind in a row, rows below each other."""
    save_picture(grid([list(row) for row in rows], scale=2), path)


def draw(points: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """LPIPS to the nearest train face over LPIPS to the original; on the dashed line both are as near."""
    plot = matplotlib()
    figure, axis = plot.subplots(figsize=(3.5, 3.2))
    for (name, pairs), colour in zip(points.items(), PALETTE, strict=False):
        axis.plot(*zip(*pairs, strict=True), "o", color=colour, label=name, markersize=3)
    top = 1.05 * max(far for pairs in points.values() for pair in pairs for far in pair)
    axis.plot([0, top], [0, top], "--", color="grey", linewidth=0.8)
    axis.set(xlabel="LPIPS to the original", ylabel="LPIPS to the nearest training face", xlim=(0, top), ylim=(0, top))
    axis.legend(frameon=False)
    figure.savefig(path)
    plot.close(figure)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--receivers", default="deepjscc,commin-fast,jscc-lpips,pmrf,one-step")
    parser.add_argument("--points", default="1/192:-5,1/48:0,1/12:5", help="ρ:SNR in dB, separated by commas")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    source, lpips, cache = ImageSet(data_path(options.data)), load_lpips(), home() / "cache"
    faces = Faces(load_pixels(source, source.split("train"), 64, "celeba", cache), lpips)
    images = from_uint8(load_pixels(source, source.split("test", options.pictures), 64, "celeba", cache))
    real = [faces.nearest(image) for image in images]
    rows: list[dict[str, Any]] = [
        {"system": "test pictures themselves", "lpips_to_train": mean([far for _, far in real])}
    ]
    points: dict[str, list[tuple[float, float]]] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    for bcr, snr in (point.split(":") for point in options.points.split(",")):
        for name in options.receivers.split(","):
            restored = commin.load(bcr=bcr, receiver=name).transmit(images, float(snr)).images
            own, found = lpips(restored, images).tolist(), [faces.nearest(picture) for picture in restored]
            other = [far for _, far in found]
            points.setdefault(name, []).extend(zip(own, other, strict=True))
            rows.append({
                "system": name, "bcr": bcr, "snr_db": float(snr), "lpips_to_original": mean(own),
                "lpips_to_train": mean(other), "train_nearer": sum(b < a for a, b in zip(own, other, strict=True)),
                "originals_nearest": sum(a == b for (a, _), (b, _) in zip(found, real, strict=True)),
            })  # fmt: skip
            path = options.out / f"{name}_{bcr.replace('/', '-')}_{snr}dB.png"
            look([images, restored, faces.pictures(found), faces.pictures(real)], path)
            print(json.dumps(rows[-1]), flush=True)
    drawn = samples(load_prior(find("faces64-prior")), 0, range(options.pictures), torch.device("cpu")).clamp(0, 1)
    found = [faces.nearest(picture) for picture in drawn]
    rows.append({"system": "samples of the prior", "lpips_to_train": mean([far for _, far in found])})
    look([drawn, faces.pictures(found)], options.out / "samples.png")
    print(*(json.dumps(row) for row in (rows[0], rows[-1])), sep="\n")
    if options.json:
        about = {"data": source.path.name, "split": "test", "images": options.pictures, "seed": 0}
        write_text(options.json, json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    if options.figure:
        draw(points, options.figure)


if __name__ == "__main__":
    main()
