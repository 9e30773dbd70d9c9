"""How long commin-fast takes, one picture at a time and 64, and its U-Net beside the machine's matrix product.

usage: python benchmarks/receivers_speed.py [--data FOLDER|ZIP]
ρ = 1/48, 0 dB, test pictures; the median of five runs after a first, from the picture to the restored one.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from receivers import BCR, fast, other, pictures, with_calls

import commin
from commin.link import Link
from commin.precision import fast_dtype
from commin.receivers.commin_fast import CommINFast

BATCHES, CALLS = (1, 64), (8, 13, 20)


def unet_gflop(receiver: CommINFast) -> float:
    """GFLOP of one denoising of one picture."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        receiver.prior.denoise(torch.zeros(1, 3, 64, 64), torch.zeros(1, dtype=torch.int64))
    return counter.get_total_flops() / 1e9


def median_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    run()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[repeats // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    images, receiver, plain = pictures("test", max(BATCHES), parser.parse_args().data), fast(), commin.load(bcr=BCR)
    for batch, calls in itertools.product(BATCHES, CALLS):
        changed = other(receiver, with_calls(receiver.settings, calls - 1))
        link, part = Link(plain.codec, plain.bcr, plain.channel, changed), images[:batch]
        seconds = median_seconds(lambda link=link, part=part: link.transmit(part, 0.0))  # type: ignore[misc]
        print(f"{batch} at a time, {calls} calls: {seconds:.3f} s, {batch / seconds:.2f} pictures/s", flush=True)
    x, t = images[:32] * 2 - 1, torch.full((32,), 500)
    a = torch.randn(2048, 2048, dtype=fast_dtype(torch.device("cpu")))
    with torch.no_grad():
        product = 2 * 2048**3 / median_seconds(lambda: a @ a) / 1e9
        network = unet_gflop(receiver) * len(x) / median_seconds(lambda: receiver.prior.denoise(x, t))
    print(f"U-Net, {len(x)} at a time: {network:.0f} of {product:.0f} GFLOP/s, {100 * network / product:.0f} %")


if __name__ == "__main__":
    main()
