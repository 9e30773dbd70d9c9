"""
Five-minute tour
================

A photo goes through a terrible radio link and comes back. Every picture here was made when this page was built, from
``examples/astronaut.png``, a public-domain photograph by NASA, on the CPU.
"""

# %%
# A photo
# -------
#
# Photos are opened upright, framed, resized to the model's 64×64 pixels, and are numbers in [0, 1] from there on.

from itertools import chain
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import commin
from commin.images import crop_box, frame, open_photo, to_tensor
from commin.metrics.lpips import try_lpips
from commin.metrics.pixels import psnr

photo = open_photo(Path("../../examples/astronaut.png"))  # or one of your own
image = to_tensor(frame(photo, crop_box(*photo.size, "centre"), (64, 64)))
images = image[None]  # a batch of one: (1, 3, 64, 64)
lpips = try_lpips()  # None until its backbone is here: commin zoo pull lpips-squeeze


def score(restored: torch.Tensor) -> str:
    """PSNR, higher is closer, and LPIPS, lower is more alike to the eye."""
    perceived = f"{float(lpips(restored, images)):.2f}" if lpips else "n/a"
    return f"{float(psnr(restored, images)):.1f} dB, LPIPS {perceived}"


def show(rows: list[list[torch.Tensor]], titles: list[list[str]]) -> None:
    """Pictures (3, H, W) or maps (H, W) in rows, a title above each."""
    side = 8 / len(rows[0])
    size = (8, (side + 0.35) * len(rows))
    _, axes = plt.subplots(len(rows), len(rows[0]), figsize=size, layout="constrained")
    for axis, picture, title in zip(axes.flat, chain(*rows), chain(*titles), strict=True):
        pixels = picture.permute(1, 2, 0) if picture.ndim == 3 else picture
        axis.imshow(pixels.numpy(), cmap="inferno", vmin=0)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    plt.show()


# %%
# Send it
# -------
#
# A link is a codec at one ρ, a channel and a receiver. At ρ = 1/48 the 12,288 numbers of the photo become 256 complex
# symbols, one for every 4×4 pixels. At 0 dB the noise is as strong as they are.

link = commin.load("faces64", bcr="1/48", receiver="commin-fast", naturalness=1.0)
sent = {snr: link.transmit(images, snr_db=snr, seed=0) for snr in (-5, 0, 5)}
for snr, result in sent.items():
    k, n, measured = result.use.symbols, result.use.samples, result.measured_snr_db.item()
    print(f"{snr:2d} dB asked, {measured:5.2f} dB measured, k = {k}, n = {n}")

# %%
# Above, what was sent on the left, and what DeepJSCC's decoder makes of the noisy symbols: faithful, and blurred, for
# it is the mean of all that could have been sent. Below, CommIN's restoration of the very same picture: sharper, closer
# to the eye (LPIPS), farther in squared error (PSNR).

show(
    [
        [image, *(result.estimate[0] for result in sent.values())],
        [torch.ones_like(image), *(result.images[0] for result in sent.values())],
    ],
    [
        ["original", *(f"DeepJSCC, {snr} dB\n{score(sent[snr].estimate)}" for snr in sent)],
        ["", *(f"CommIN, {snr} dB\n{score(sent[snr].images)}" for snr in sent)],
    ],
)

# %%
# What the radio sees
# -------------------
#
# No constellation of points, no bits: the symbols are whatever the encoder found best, with mean power 1. Grey is what
# was sent, red what arrived.

figure, axes = plt.subplots(1, 3, sharex=True, sharey=True, layout="constrained")
figure.set_size_inches(8, 3)
for axis, (snr, result) in zip(axes, sent.items(), strict=True):
    arrived, z = result.received.symbols[0].numpy(), result.symbols[0].numpy()
    axis.scatter(arrived.real, arrived.imag, s=5, color="tab:red", alpha=0.6)
    axis.scatter(z.real, z.imag, s=5, color="0.3", alpha=0.6)
    axis.set_title(f"{snr} dB", fontsize=9)
    axis.set_aspect("equal")
plt.show()

# %%
# What is imagined
# ----------------
#
# The prior fills in what did not arrive, and fills it in differently each time. Draw several pictures: where they
# differ they are imagined. Where they agree they may be so too, as they all begin at the same estimate. So the map says
# how wrong their mean likely is at each pixel, learnt from pictures whose originals were known.

result = link.transmit(images, snr_db=-5, seed=0, samples=8)
samples, error = result.samples[0], result.expected_error[0]  # (8, 3, 64, 64), (64, 64)
names = ["a sample", "another", "a third", "mean of 8", f"expected error ≤ {error.max():.2f}"]
show([[*samples[:3], samples.mean(0), error]], [names])

# %%
# How natural?
# ------------
#
# Between the safe blur and the sharp guess lies a line, and ``naturalness`` α says where on it to stand:
# (1 − α)·estimate + α·sample. Shipped settings choose an α for each ρ and SNR that costs little PSNR.

shares = (0.0, 0.25, 0.5, 0.75, 1.0)
mixed = [torch.lerp(sent[0].estimate, sent[0].images, share) for share in shares]
labels = (f"α = {share:g}\n" for share in shares)
names = [label + score(picture) for label, picture in zip(labels, mixed, strict=True)]
show([[picture[0] for picture in mixed]], [names])

# %%
# The same from the command line
# ------------------------------
#
# ``commin transmit photo.jpg --bcr 1/48 --snr -5,0,5 --samples 4 --naturalness 0.7 -o out`` writes each picture, the
# map of what is likely wrong, a labelled panel and a JSON record.
#
# Go on with the :doc:`concepts </concepts>` or with :doc:`your own pictures </own-data>`, and see
# :doc:`what it cannot do </limits>` before you believe a face.
