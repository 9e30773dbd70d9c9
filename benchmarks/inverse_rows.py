"""Parts of inverse.py: what the search can do without a channel, the nine points, and its stages one by one."""

from functools import partial

import torch
from inverse_bench import RATIOS, SNRS_DB, Bench, Row, Tasks, beside, means, search_of

from commin.randomness import generator as seeded
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.stylegan2.ilo import IloConfig

CORNERS = (("1/192", -5.0), ("1/48", 0.0), ("1/12", 5.0))
STAGES = (110, 0, 0, 0, 40)
"""Steps of the ablation: over w, and over what enters the last block."""

RECOVERED = 0.05
"""LPIPS up to which a picture counts as found again."""


def sanity_tasks(bench: Bench) -> Tasks:
    """Pictures of known w, no channel: the search must find them again."""
    return {"defaults": partial(sanity_row, bench, IloConfig())}


def sanity_row(bench: Bench, search: IloConfig) -> Row:
    latents = torch.randn(bench.pictures, bench.generator.config.style_dim, generator=seeded(bench.seed, "known w"))
    with torch.no_grad():
        known = torch.cat([bench.generator(part) for part in latents.split(50)]).clamp(0, 1)
    found = bench.clean(search, known)
    names = [str(index) for index in range(len(known))]  # each is nobody
    share = float((found["lpips"] <= RECOVERED).float().mean())
    return {**means(found, names), "worst_lpips": round(float(found["lpips"].max()), 4), "share_recovered": share}


def ceiling_tasks(bench: Bench) -> Tasks:
    """Clean test pictures: what the generator could show at best."""
    images, identities = bench.faces("test")
    tuned: dict[IloConfig, list[str]] = {}
    for bcr, search in bench.settings.ratios.items():
        tuned.setdefault(search, []).append(bcr)
    searches = {f"as tuned for {', '.join(ratios)}": search for search, ratios in tuned.items()}
    return {
        name: lambda search=search: means(bench.clean(search, images), identities)  # type: ignore[misc]
        for name, search in {**searches, "defaults": IloConfig()}.items()
    }


def points_tasks(bench: Bench) -> Tasks:
    """Nine points beside DeepJSCC."""
    return {
        f"{bcr} {snr_db:+g} dB": partial(point_row, bench, bench.at(bcr), bcr, snr_db)
        for bcr in RATIOS
        for snr_db in SNRS_DB
    }


def point_row(bench: Bench, search: IloConfig, bcr: str, snr_db: float, split: str = "test") -> Row:
    """One search at one point."""
    images, identities = bench.faces(split)
    ours = bench.sent(bench.receiver(search), images, bcr, snr_db)
    plain = bench.sent(DeepJSCCReceiver(), images, bcr, snr_db)
    return {"bcr": bcr, "snr_db": snr_db, "calls": search.network_calls, **beside(ours, plain, identities)}


def ablation_tasks(bench: Bench) -> Tasks:
    """As many steps over w alone, over what enters the last block too, over noise maps too, at three points."""
    ways = {
        "w alone": search_of((sum(STAGES),), lpips=0, noises=False),
        "w and layers": search_of(STAGES, lpips=0, noises=False),
        "w, layers and noise": search_of(STAGES, lpips=0),
    }
    return {
        f"{name}, {bcr} {snr_db:+g} dB": partial(point_row, bench, search, bcr, snr_db)
        for bcr, snr_db in CORNERS
        for name, search in ways.items()
    }
