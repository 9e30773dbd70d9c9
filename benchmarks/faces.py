"""How well the face finder finds: faces pasted at random scale, place and tilt into larger pictures.

    python benchmarks/faces.py --faces ffhq256_100.zip --out results/faces.json

The faces are 256×256 pictures aligned as FFHQ, in which the training frame is x 0..256, y −12..244 (edge repeated).
Each goes, turned by up to ±15°, into a larger picture of noise of many scales and rectangles, as 20 to 90 % of its
height. A face counts as found if a frame overlaps the true one by half or more (intersection over union). The error of
the eyes' centre is its distance from the true one over the side of the true frame.
"""

import argparse
import io
import json
import math
import random
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from commin.images import Box
from commin.serve.faces import EYES, find_faces

SHIFT = -12 / 256


def background(rng: random.Random, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(rng.randrange(2**32))
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 7):
        cells = noise.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        layers = [Image.fromarray(cells[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        total += np.stack([np.asarray(layer) for layer in layers], -1) * 0.7**octave
    picture = Image.fromarray((total * 45 + 110 + noise.normal(size=3) * 30).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randrange(12)):
        x, y = rng.randrange(width), rng.randrange(height)
        colour = tuple(rng.randrange(256) for _ in range(3))
        draw.rectangle((x, y, x + rng.randrange(20, width // 3), y + rng.randrange(20, height // 3)), colour)
    return picture


def paste(rng: random.Random, face: Image.Image) -> tuple[Image.Image, Box, tuple[float, float], float]:
    """The picture, the true frame, the middle of the eyes, the tilt in degrees, clockwise positive."""
    width, height = rng.randrange(480, 1601), rng.randrange(480, 1201)
    tilt = rng.uniform(-15, 15)
    side = rng.uniform(0.2, 0.9) * min(width, height)
    picture = background(rng, width, height)
    small = face.resize((round(side), round(side)), Image.Resampling.LANCZOS)
    turned = small.convert("RGBA").rotate(-tilt, Image.Resampling.BICUBIC, expand=True)
    left, top = rng.uniform(0, max(0, width - turned.width)), rng.uniform(0, max(0, height - turned.height))
    left, top = round(left), round(top)
    picture.paste(turned, (left, top), turned)
    down = (EYES[1] + SHIFT - 0.5) * side  # from the pasted picture's centre to the eyes
    angle = math.radians(tilt)
    x = left + turned.width / 2 - down * math.sin(angle)
    y = top + turned.height / 2 + down * math.cos(angle)
    corner = (x - EYES[0] * side, y - EYES[1] * side)
    return picture, Box(*corner, corner[0] + side, corner[1] + side), (x, y), tilt


def overlap(a: Box, b: Box) -> float:
    wide = max(0.0, min(a.right, b.right) - max(a.left, b.left))
    tall = max(0.0, min(a.bottom, b.bottom) - max(a.top, b.top))
    both = wide * tall
    return both / ((a.right - a.left) * (a.bottom - a.top) + (b.right - b.left) * (b.bottom - b.top) - both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="zip of aligned 256×256 faces")
    parser.add_argument("--repeats", type=int, default=1, help="pastes of each face")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    errors, sides, tilts, seconds, others, first = [], [], [], [], 0, 0
    total = 0
    with zipfile.ZipFile(options.faces) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".png", ".jpg", ".jpeg")))
        for name in names:
            face = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            for repeat in range(options.repeats):
                rng = random.Random(f"{options.seed} {name} {repeat}")
                picture, box, eyes, tilt = paste(rng, face)
                begin = time.perf_counter()
                found = find_faces(picture)
                seconds.append(time.perf_counter() - begin)
                total += 1
                hits = [f for f in found if overlap(f.box, box) >= 0.5]
                others += len(found) - len(hits)
                if not hits:
                    print(f"missed: {name}, tilt {tilt:+.1f}, {box}, of {picture.size}")
                    continue
                first += hits[0] is found[0]
                side = box.right - box.left
                errors.append(math.dist(hits[0].eyes, eyes) / side)
                sides.append((hits[0].box.right - hits[0].box.left) / side)
                tilts.append(abs(hits[0].tilt - tilt))
    low, high = np.quantile(sides, (0.05, 0.95))
    report = {
        "pictures": total, "seed": options.seed, "found": len(errors) / total, "first_offered": first / total,
        "found_within_8_percent": sum(error <= 0.08 for error in errors) / total,
        "eye_error_mean": float(np.mean(errors)), "eye_error_95": float(np.quantile(errors, 0.95)),
        "eye_error_max": max(errors), "side_ratio_mean": float(np.mean(sides)), "side_ratio_5_95": [low, high],
        "tilt_error_mean_degrees": float(np.mean(tilts)), "false_faces_per_picture": others / total,
        "seconds_median": float(np.median(seconds)),
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
