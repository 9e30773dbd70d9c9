"""What a training reads: the order of pictures, and the next step's rows made while the present one is computed."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from commin.randomness import generator
from commin.training.recipe import LoopConfig

Rows = dict[str, Tensor]


class Pixels(Protocol):
    """Pictures by number: a uint8 tensor (N, 3, H, W), or something that reads them when asked."""

    @property
    def shape(self) -> torch.Size:
        """(N, 3, H, W)."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, chosen: Tensor, /) -> Tensor:
        """The pictures of these numbers, int64 (B,), uint8 (B, 3, H, W)."""


def batch_indices(config: LoopConfig, count: int, step: int) -> Tensor:
    """Which of ``count`` images step ``step`` sees: (batch,) int64, one random permutation after another."""
    positions = torch.arange(step * config.batch, (step + 1) * config.batch)
    chosen = torch.empty_like(positions)
    for epoch in torch.unique(positions // count).tolist():
        order = torch.randperm(count, generator=generator(config.seed, "epoch", epoch))
        here = positions // count == epoch
        chosen[here] = order[positions[here] % count]
    return chosen


class Ahead:
    """Makes the rows of a step in a thread of its own, and those of the next before they are asked for.

    Attributes:
        waited: seconds that the training has waited for rows.
    """

    def __init__(self, make: Callable[[int], Rows]) -> None:
        self.make = make
        self.waited = 0.0
        self._thread = ThreadPoolExecutor(1, "rows", initializer=torch.set_num_threads, initargs=(1,))
        self._coming: tuple[int, Future[Rows]] | None = None

    def rows(self, step: int) -> Rows:
        """The rows of a step, as ``make`` gives them."""
        begun = time.perf_counter()
        if self._coming is None or self._coming[0] != step:
            self._coming = (step, self._thread.submit(self.make, step))
        rows = self._coming[1].result()
        self._coming = (step + 1, self._thread.submit(self.make, step + 1))
        self.waited += time.perf_counter() - begun
        return rows
