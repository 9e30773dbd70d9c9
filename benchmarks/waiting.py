"""How long a training waits for its pictures, by where they lie: in memory, or decoded when needed from files.

Photos of noise with a 1/f spectrum are written as JPEG: 178×218 pixels for a model of 64×64 (as CelebA's), 1024×1024
for 256×256 (as CelebA-HQ's). The codec of ``recipes/faces64-codec.yaml`` is trained on them for a few steps at each
size; at 256×256 it needs fewer FLOPs than the paper's, the harder case for the reader. ``alone`` is what the reader
gives with nothing else running: images/s up to which a faster machine would not wait with so many workers.

usage: python -P benchmarks/waiting.py [--sizes 64,256] [--readers memory,folder,zip,tar] [--steps 20] [--batch 32]
       [--photos 200] [--workers 4] [--out results/waiting.json]
"""

import argparse
import json
import os
import platform
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from commin.atomic import write_text
from commin.data.imageset import ImageSet, load_pixels
from commin.data.stream import Stream
from commin.images import to_picture
from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.loop import Run
from commin.training.reader import Pixels
from commin.training.recipe import parse, read_yaml

RECIPE = Path(__file__).parent.parent / "recipes" / "faces64-codec.yaml"
PHOTOS = {64: (218, 178), 256: (1024, 1024)}


def write_photos(folder: Path, count: int, height: int, width: int) -> dict[str, Path]:
    """The same JPEGs as a folder, a zip and a tar."""
    (folder / "photos").mkdir(parents=True)
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    frequency[0, 0] = torch.inf
    for index in range(count):
        noise = torch.randn(3, height, width, generator=torch.Generator().manual_seed(index))
        planes = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
        picture = to_picture(0.5 + 0.2 * planes / planes.std((1, 2), keepdim=True))
        picture.save(folder / "photos" / f"{index:05d}.jpg", quality=90)
    files = sorted((folder / "photos").iterdir())
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive, tarfile.open(folder / "photos.tar", "w") as tar:
        for file in files:
            archive.write(file, file.name)
            tar.add(file, file.name)
    return {"folder": folder / "photos", "zip": folder / "photos.zip", "tar": folder / "photos.tar"}


def measure(pixels: Pixels, size: int, options: argparse.Namespace) -> dict[str, float]:
    content = read_yaml(RECIPE)
    content["model"] = {**content["model"], "image_size": size}
    content["data"] = {**content["data"], "size": size}
    recipe = parse(CodecRecipe, content, RECIPE)
    batch = options.batch if size == 64 else max(2, options.batch // 8)
    loop = recipe.loop.model_copy(update={"batch": batch, "micro_batch": 0})
    validation = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    run = Run(CodecTraining(recipe, validation), loop, pixels, Path(), torch.device("cpu"))
    run.train_step()
    run.ahead.waited, begin = 0.0, time.perf_counter()
    for _ in range(options.steps):
        run.train_step()
    took = time.perf_counter() - begin
    return {"batch": batch, "images/s": options.steps * batch / took, "waiting %": 100 * run.ahead.waited / took}


def alone(pixels: Pixels) -> float:
    """Images/s of a reader, over all its pictures."""
    begin = time.perf_counter()
    for chosen in torch.arange(len(pixels)).split(32):
        pixels[chosen].float()
    return len(pixels) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="64,256")
    parser.add_argument("--readers", default="memory,folder,zip,tar")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32, help="at 64×64; an eighth of it at 256×256")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    about = {"machine": platform.machine(), "threads": torch.get_num_threads(), "load": os.getloadavg()[0],
             "torch": torch.__version__, "workers": options.workers, "steps": options.steps}  # fmt: skip
    rows: list[dict[str, Any]] = []
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as name:
            places = write_photos(Path(name), options.photos, *PHOTOS[size])
            for reader in options.readers.split(","):
                source = ImageSet(places[reader if reader in places else "folder"])
                entries = source.split(None)
                streamed = reader in places
                pixels: Pixels = (
                    Stream(source, entries, size, "centre", options.workers)
                    if streamed
                    else load_pixels(source, entries, size, "centre")
                )
                row = {"size": size, "reader": reader, "alone": alone(pixels), **measure(pixels, size, options)}
                rows.append(row)
                print(
                    "{size}×{size} from {reader}: {images/s:.2f} images/s trained, waiting {waiting %:.2f} %, "
                    "reader alone {alone:.0f} images/s".format(**row), flush=True,
                )  # fmt: skip
                if options.out:
                    write_text(options.out, json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
