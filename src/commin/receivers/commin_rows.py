"""The rows of a restoration: every sample of every picture is one, with its own generator, some of them at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from commin.diffusion.prior import Prior
from commin.errors import UserError
from commin.inn.degradation import Degradation
from commin.receivers.base import Arrival

Progress = Callable[[int, int], None]
"""Called after each call of the network with the calls done so far and those needed in all."""


@dataclass(frozen=True)
class Rows:
    """R restorations at once.

    Attributes:
        y: the estimates, (R, 3, H, W) in [−1, 1], the prior's range.
        snr_db: (R,).
        symbols: what arrived, equalised, complex64 (R, k).
        generators: R of them.
        tick: to be called after each call of the network.
    """

    y: Tensor
    snr_db: Tensor
    symbols: Tensor
    generators: Sequence[torch.Generator]
    tick: Callable[[], None]


def sample_generators(generators: Sequence[torch.Generator], samples: int) -> list[torch.Generator]:
    """S generators from each: sample s is the same however many are asked for."""
    seeds = [int(torch.randint(2**62, (1,), generator=g)) for g in generators for _ in range(samples)]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def restore_rows(
    arrival: Arrival,
    generators: Sequence[torch.Generator],
    samples: int,
    limit: int,
    calls: int,
    restore: Callable[[Rows], Tensor],
    progress: Progress | None = None,
) -> Tensor:
    """Lay S samples of B pictures out as rows, restore at most ``limit`` rows at a time, and put them in order.

    Args:
        arrival: what arrived.
        generators: B of them.
        samples: S.
        limit: rows at a time, a matter of memory alone.
        calls: network calls of one restoration.
        restore: rows to pictures (R, 3, H, W) in [−1, 1].
        progress: told of every call.

    Returns:
        (B, S, 3, H, W) in [0, 1].
    """
    spread = sample_generators(generators, samples)
    y = (arrival.estimate * 2 - 1).repeat_interleave(samples, dim=0)
    snr_db, symbols = (part.repeat_interleave(samples, dim=0) for part in (arrival.snr_db, arrival.symbols))
    total, done = -(-len(y) // limit) * calls, 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    spans = [slice(first, first + limit) for first in range(0, len(y), limit)]
    parts = [restore(Rows(y[span], snr_db[span], symbols[span], spread[span], tick)) for span in spans]
    pictures = ((torch.cat(parts) if parts else y) + 1) / 2
    return pictures.clamp(0, 1).view(-1, samples, *y.shape[1:])


def check_parts(arrival: Arrival, prior: Prior, inn: Degradation | None) -> None:
    """Raise UserError unless the pictures are at least as large as the prior's and the INN is made for this ρ."""
    height, width = arrival.estimate.shape[-2:]
    if min(height, width) < prior.size:
        raise UserError(f"the prior restores {prior.size}×{prior.size} pixels, or more in tiles; not {height}×{width}")
    if inn is not None and inn.config.ratio != arrival.bcr:
        raise UserError(f"the INN mimics a link of ρ = {inn.config.bcr}, not {arrival.bcr}; take the INN of that ρ")
