"""What holds commin-fast back: each part replaced by an ideal one, which knows what only the sender knows.

usage: python benchmarks/ideals.py [--pictures 32] [--out results/ideals.json]
* as it is: from the noised y, drawn to y by the INN.
* no noise: y = D(z), the symbols as they were sent; what is left is the codec's blur.
* exact INN: the codec itself in the place of c, E[y|x0], the mean over 4 draws of the noise, in D_y and in
  f⁻¹(c + w·(y − E[y|x0]), d).
* exact INN, no noise: the same with y = D(z) and D(E(x0)), neither with noise.
* true start: from the noised x, drawn to y. The best that this prior makes of its start level.
* agreed: the picture nearest to 16 samples by LPIPS itself, by its gradient: how far samples alone lead.
* true detail: f⁻¹(y, d) with the d of x, no walk: what a prior would reach that knew all that y does not tell.
Drawn by the fitted weights and σ², or by 1 throughout and a tenth of σ², what has the lower LPIPS on 16 pictures of
``valid``. Points: one of
each ρ; samples as they are drawn; pictures evenly spaced over the test split, seed 0. A killed run
goes on with --out.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from receivers import Row, as_drawn, fast, pictures, weighed, weights
from torch import Tensor

import commin
from commin.atomic import write_text
from commin.channels.base import Csi
from commin.diffusion.sampler import Denoiser
from commin.diffusion.schedule import Schedule
from commin.inn.degradation import Degradation
from commin.link import Link
from commin.metrics.lpips import load_lpips
from commin.metrics.pixels import psnr
from commin.randomness import image_generators
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import CommINFast, Correct, Ways, restore_fast
from commin.receivers.commin_fusion import Bands
from commin.receivers.commin_rows import Rows
from commin.receivers.commin_settings import FastSettings, RowSettings
from commin.receivers.posterior import posterior_mean

POINTS = (("1/192", -5.0), ("1/48", 0.0), ("1/12", 5.0))
WAYS = ("as it is", "no noise", "exact INN", "exact INN, no noise", "true start", "agreed", "true detail")
FITTED = ("as it is", "agreed", "true detail")
"""Ways by the fitted weights alone."""
DRAWS, VALID, SAMPLES = 4, 16, 16
STEPS, RATE = 150, 0.01
"""Of the descent to what samples agree on."""
Mimic = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def restored(way: str, weight: float | None, images: Tensor, bcr: str, snr_db: float) -> Iterator[tuple[Tensor, ...]]:
    """Pictures by one way, their DeepJSCC estimates and the originals, 32 at a time."""
    link, receiver = commin.load(bcr=bcr), fast(bcr)
    inn = receiver.inn
    assert inn is not None
    settings = as_drawn(receiver.settings if weight is None else trusting(receiver.settings, weight))
    for x in images.split(32):
        sent = link.send(x, snr_db)
        snrs = torch.full((len(x),), snr_db)
        y = link.codec.decode(sent.received.symbols, snrs)
        clean = link.codec.decode(sent.symbols, snrs)
        if way == "true detail":
            yield inn.inverse(y, inn(x, snrs)[1], snrs).clamp(0, 1), y, x
            continue
        target, draws = (clean, 0) if "no noise" in way else (y, DRAWS)
        coarse: Mimic = partial(mimicked, link, draws) if "exact" in way else inn.coarse
        correct, guide = partial(towards, inn, target, coarse), partial(guided, receiver.prior.schedule, target, coarse)
        arrival = Arrival(x if way == "true start" else target, sent.received.symbols, snrs, link.bcr, link.codec)
        generators = image_generators(x, sent.seed, "receiver")
        if way == "agreed":
            yield agreed(CommINFast(receiver.prior, inn, settings).restore(arrival, generators, SAMPLES)), y, x
            continue
        ways = Ways(correct, guide)
        yield restore_fast(receiver.prior, settings, ways, arrival, generators, 1, 1.0, None)[:, 0], y, x


def agreed(samples: Tensor) -> Tensor:
    """The pictures (B, 3, H, W) of the least mean LPIPS to samples (B, S, 3, H, W), by Adam from the first of them."""
    lpips, count = load_lpips(), samples.shape[1]
    features = lpips.backbone(samples.flatten(0, 1))
    picture = samples[:, 0].clone().requires_grad_()
    optimizer = torch.optim.Adam([picture], RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    with torch.enable_grad():
        for _ in range(STEPS):
            own = [part.repeat_interleave(count, dim=0) for part in lpips.backbone(picture.clamp(0, 1))]
            optimizer.zero_grad()
            lpips.distance(own, features).sum().backward()
            optimizer.step()
            schedule.step()
    return picture.detach().clamp(0, 1)


def trusting(settings: FastSettings, weight: float) -> FastSettings:
    """The same walk with one weight everywhere and a tenth of the noise."""
    points = tuple(p.model_copy(update={"noise": p.noise / 10}) for p in weighed(settings, weight).points)
    return settings.model_copy(update={"points": points})


def guided(
    schedule: Schedule, target: Tensor, coarse: Mimic, rows: Rows, chosen: RowSettings, denoise: Denoiser
) -> Denoiser:
    """D_y towards the target (R, 3, H, W), by the INN's c or by an exact one."""

    def measured(x: Tensor) -> Tensor:
        return coarse((x + 1) / 2, rows.snr_db) * 2 - 1

    return posterior_mean(denoise, schedule, measured, target * 2 - 1, chosen.noise)


def towards(inn: Degradation, target: Tensor, coarse: Mimic, rows: Rows, chosen: RowSettings, bands: Bands) -> Correct:
    """The correction towards the target (R, 3, H, W), by the INN's c or by an exact one."""

    def move(step: int, x0: Tensor) -> Tensor:
        guess = (x0 + 1) / 2
        c, detail = inn(guess, rows.snr_db)
        wrong = target - coarse(guess, rows.snr_db)
        return inn.inverse(c + chosen.weights[:, step, None, None, None] * wrong, detail, rows.snr_db) * 2 - 1

    return move


def mimicked(link: Link, draws: int, images: Tensor, snrs: Tensor) -> Tensor:
    """What the codec makes of pictures: the mean over so many draws of the noise, or without noise for 0."""
    sent = link.codec.encode(images.clamp(0, 1), snrs, link.bcr)
    if not draws:
        return link.codec.decode(sent, snrs)
    deviation, rng = Csi(snrs).noise_variance().sqrt().view(-1, 1), torch.Generator().manual_seed(1)
    noise = torch.randn(draws, *sent.shape, dtype=sent.dtype, generator=rng)
    return torch.stack([link.codec.decode(sent + deviation * each, snrs) for each in noise]).mean(0)


def score(way: str, weight: float | None, images: Tensor, bcr: str, snr_db: float) -> Row:
    """Mean PSNR and LPIPS, and LPIPS over DeepJSCC's."""
    lpips, parts = load_lpips(), restored(way, weight, images, bcr, snr_db)
    with torch.no_grad():
        figures = [torch.stack([psnr(ours, x), lpips(ours, x), lpips(y, x)]) for ours, y, x in parts]
    own_psnr, own, plain = torch.cat(figures, 1).mean(1).tolist()
    return {"psnr_db": round(own_psnr, 2), "lpips": round(own, 4), "lpips_ratio": round(own / plain, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images, valid = (pictures(split, n, options.data) for split, n in (("test", options.pictures), ("valid", VALID)))
    about = {"pictures": len(images), "commin": commin.__version__, "weights": weights()}
    kept = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    rows: list[Row] = kept["rows"] if kept.get("about") == about else []
    for bcr, snr_db in POINTS:
        for way in WAYS:
            if any((row["way"], row["bcr"]) == (way, bcr) for row in rows):
                continue
            weight = None
            if way not in FITTED:
                ways = (None, 1.0)
                weight = min(ways, key=lambda w: score(way, w, valid, bcr, snr_db)["lpips"])
            row = {"way": way, "bcr": bcr, "snr_db": snr_db, "weight": "fitted" if weight is None else weight}
            rows.append(row | score(way, weight, images, bcr, snr_db))
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if options.out:
                write_text(options.out, json.dumps({"about": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
