"""Part ``time`` of inverse.py: seconds a picture of each system, and LPIPS against the steps of the search."""

import time
from dataclasses import replace
from functools import partial

import torch
from inverse_bench import BCR, MODEL, Bench, Row, Tasks, beside, search_of, shared
from speed_receivers import Walk
from torch import Tensor

import commin
from commin.link import Link
from commin.metrics.lpips import load_lpips
from commin.metrics.pixels import psnr
from commin.receivers.base import Receiver
from commin.receivers.commin import CommIN
from commin.receivers.deepjscc import DeepJSCCReceiver

SNR_DB = 0.0
STEPS = (10, 30, 100, 300, 1000)
FEW = 20
"""Calls of ``commin`` that are run where it is not run whole."""


def time_tasks(bench: Bench) -> Tasks:
    """Each system on the same pictures, one at a time; then the search with more and more steps, a batch at a time."""
    systems: Tasks = {name: partial(zoo_row, bench, name) for name in ("deepjscc", "commin-fast")}
    literal, counted = partial(zoo_row, bench, "commin"), partial(counted_row, bench, "commin")
    systems |= {"commin": literal} if bench.literal else {"commin, counted": counted}
    single = replace(bench, batch=1)
    systems["inverse-jscc"] = partial(timed_row, single, single.receiver(bench.at(BCR)))
    return systems | {f"{steps} steps": partial(curve_row, bench, steps) for steps in STEPS}


def alone(receiver: Receiver, images: Tensor, seed: int) -> tuple[float, Tensor]:
    """Seconds a picture and the pictures, sent one at a time."""
    plain, restored = commin.load(MODEL, BCR), []
    link = Link(plain.codec, plain.bcr, plain.channel, receiver)
    begin = time.perf_counter()
    for image in images:
        restored.append(link.transmit(image[None], SNR_DB, seed).images)
    return (time.perf_counter() - begin) / len(images), torch.cat(restored)


def timed_row(bench: Bench, receiver: Receiver) -> Row:
    images, _ = bench.faces("test")
    if receiver.network_calls < 100:
        alone(receiver, images[:1], bench.seed)  # what happens only once is not counted, where it could be seen
    seconds, restored = alone(receiver, images, bench.seed)
    with torch.no_grad():
        lpips = float(load_lpips()(restored, images).mean())
    return {
        "calls": receiver.network_calls, "seconds": round(seconds, 4),
        "psnr_db": round(float(psnr(restored, images).mean()), 3), "lpips": round(lpips, 4),
    }  # fmt: skip


def zoo_row(bench: Bench, name: str) -> Row:
    return timed_row(bench, commin.load(MODEL, BCR, name).receiver)


def counted_row(bench: Bench, name: str) -> Row:
    """A few calls with their gradients, counted up to all of them; no pictures."""
    images, _ = bench.faces("test")
    whole = commin.load(MODEL, BCR, name).receiver
    assert isinstance(whole, CommIN)
    short = Walk(whole.prior, whole.inn, FEW)
    once = alone(DeepJSCCReceiver(), images, bench.seed)[0]
    few = alone(short, images, bench.seed)[0]
    seconds = once + (few - once) * whole.network_calls / FEW
    return {"calls": whole.network_calls, "seconds": round(seconds, 2), "counted_from": FEW}


def curve_row(bench: Bench, steps: int) -> Row:
    images, identities = bench.faces("test")
    found = bench.at(BCR)
    receiver = bench.receiver(search_of(shared(steps, found.steps), found.rates[0], found.lpips, found.noises))
    plain = bench.sent(DeepJSCCReceiver(), images, BCR, SNR_DB)
    begin = time.perf_counter()
    ours = bench.sent(receiver, images, BCR, SNR_DB)
    seconds = (time.perf_counter() - begin) / len(images)
    return {"calls": steps, "seconds": round(seconds, 3), "batch": bench.batch, **beside(ours, plain, identities)}
