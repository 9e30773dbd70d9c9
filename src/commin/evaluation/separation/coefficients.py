"""Transform coefficients as bits: one uniform quantiser step for all, entropy-coded, as few bits as the error is worth.

A uniform step over components of unlike variance is reverse water-filling: components below the step fall silent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 1023
"""Quantiser levels to each side of 0; what lies beyond is clipped, and no step is so fine that this befalls a train
picture."""

STEPS, STEPS_PER_OCTAVE = 64, 4
SPREADS = ((0,), (-4, -2, 0, 2, 4), tuple(range(-12, 7)))
"""What a coder may choose from for each picture: steps finer (> 0) or coarser than where the mean picture fits."""

THRIFT = (1.0, 4.0, 16.0, 256.0)
"""Multiples of the exchange rate that a sender tries until a picture fits; the receiver need not know which."""

SMOOTHING, FEW = 0.02, 500
FITTING_ROUNDS = 3


@dataclass(frozen=True)
class Quantiser:
    r"""Levels q of m components at one step Δ, the bits each costs and the value that stands for it.

    q ∈ {round(c/Δ), one nearer to 0, 0} least in (c − ĉ_q)² + thrift·(ln 2/6)·Δ²·bits(q): at thrift 1 the exchange rate
    dD/dR of a uniform quantiser at high rate. bits = −log2 p of the train split's levels, ĉ its mean coefficient at
    each. Source: Chou, Lookabaugh and Gray, Entropy-constrained vector quantization, IEEE Trans. ASSP 37(1), 1989,
    with scalars.

    Attributes:
        step: Δ.
        bits, values: (m, 2·R + 1), level −R first.
    """

    step: float
    bits: Tensor
    values: Tensor

    @classmethod
    def fit(cls, coefficients: Tensor, step: float) -> "Quantiser":
        """To the train split's coefficients (N, d), components of falling variance; those below Δ/6 stay silent."""
        deviation = coefficients.square().mean(0).sqrt()
        active = max(1, int((deviation > step / 6).sum()))
        used = coefficients[:, :active]
        reach = max(1, min(LEVELS, int((used.abs().max() / step).ceil())))
        places = torch.arange(-reach, reach + 1) * step
        bits, values = (places / step).abs().expand(active, -1).clone(), places.expand(active, -1).clone()
        found = cls(step, bits, values)
        for _ in range(FITTING_ROUNDS):
            index = found.levels(used) + reach
            flat = (index + torch.arange(active) * (2 * reach + 1)).flatten()
            counts = torch.zeros(active * (2 * reach + 1), dtype=torch.float64).index_add_(
                0, flat, torch.ones(len(flat), dtype=torch.float64)
            )
            sums = torch.zeros_like(counts).index_add_(0, flat, used.flatten().double())
            means = torch.where(counts > 0, sums / counts.clamp_min(1), places.double().repeat(active))
            shares = (counts + SMOOTHING).view(active, -1)
            bits = (shares.sum(1, keepdim=True) / shares).log2().float()
            found = cls(step, bits, means.float().view(active, -1))
        return found

    @property
    def reach(self) -> int:
        """R."""
        return self.bits.shape[1] // 2

    def levels(self, coefficients: Tensor, thrift: float = 1.0) -> Tensor:
        """q of coefficients (B, ≥ m): int64 (B, m)."""
        used = coefficients[:, : len(self.bits)]
        near = (used / self.step).round().clamp(-self.reach, self.reach)
        best, cost = near.long(), torch.full_like(used, torch.inf)
        for tried in (best, (near - near.sign()).long(), torch.zeros_like(best)):
            price = thrift * math.log(2) / 6 * self.step**2 * self._at(self.bits, tried)
            other = (used - self._at(self.values, tried)).square() + price
            best, cost = torch.where(other < cost, tried, best), torch.minimum(cost, other)
        return best

    def price(self, levels: Tensor) -> Tensor:
        """Σ bits of levels (B, m): (B,)."""
        return self._at(self.bits, levels).sum(-1)

    def decode(self, levels: Tensor) -> Tensor:
        """ĉ of levels (B, m): (B, m)."""
        return self._at(self.values, levels)

    def _at(self, table: Tensor, levels: Tensor) -> Tensor:
        return table.gather(1, (levels + self.reach).T).T


class Quantisers:
    """The quantisers of a train split's coefficients (N, d), each fitted when first needed; coarse to fine.

    Attributes:
        steps: Δ of each.
    """

    def __init__(self, coefficients: Tensor) -> None:
        self.coefficients = coefficients
        top = float(coefficients.square().mean(0).max().sqrt()) * 4
        finest = float(coefficients.abs().max()) / LEVELS
        steps = (top * 2 ** (-index / STEPS_PER_OCTAVE) for index in range(STEPS))
        self.steps = [step for step in steps if step >= finest]
        self._found: dict[int, Quantiser] = {}

    def __getitem__(self, index: int) -> Quantiser:
        """That of a step."""
        if index not in self._found:
            self._found[index] = Quantiser.fit(self.coefficients, self.steps[index])
        return self._found[index]


@dataclass(frozen=True)
class Coder:
    """Quantisers of several steps, and the bits that telling each costs: what fits with least error, for each picture.

    A picture fits B bits if log2 1/p(step) + Σ log2 1/p(q) ≤ B. That is the ideal: no more than 2^B messages have a
    probability of 2^−B or more, so each can have a number of B bits; an arithmetic coder needs up to 2 bits more.
    """

    quantisers: tuple[Quantiser, ...]
    prices: tuple[float, ...]

    @classmethod
    def fit(cls, quantisers: Quantisers, budget: int, spread: Sequence[int]) -> "Coder":
        """For pictures of at most ``budget`` bits: the steps about the one whose mean price that is, by `SPREADS`."""
        few, low, last = quantisers.coefficients[:FEW], 0, len(quantisers.steps) - 1
        high = last
        while low < high:  # the coarsest step whose mean price is over the budget
            middle = (low + high) // 2
            over = quantisers[middle].price(quantisers[middle].levels(few)).mean() > budget
            low, high = (low, middle) if over else (middle + 1, high)
        found = tuple(quantisers[index] for index in sorted({min(max(low + s, 0), last) for s in spread}))
        if len(found) == 1:
            return cls(found, (0.0,))
        chosen = cls(found, (0.0,) * len(found)).choose(few, budget)[0]
        counts = torch.bincount(chosen[chosen >= 0], minlength=len(found)).double() + 0.5
        return cls(found, tuple((counts.sum() / counts).log2().tolist()))

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, to be kept in a file."""
        held = {
            "prices": torch.tensor(self.prices, dtype=torch.float64),
            "steps": torch.tensor([each.step for each in self.quantisers], dtype=torch.float64),
        }
        for index, each in enumerate(self.quantisers):
            held |= {f"bits{index}": each.bits.contiguous(), f"values{index}": each.values.contiguous()}
        return held

    @classmethod
    def of_tensors(cls, held: Mapping[str, Tensor]) -> "Coder":
        """What `tensors` gave."""
        steps = held["steps"].tolist()
        found = tuple(Quantiser(step, held[f"bits{i}"], held[f"values{i}"]) for i, step in enumerate(steps))
        return cls(found, tuple(held["prices"].tolist()))

    def choose(self, coefficients: Tensor, budget: int) -> tuple[Tensor, Tensor, Tensor]:
        """For coefficients (B, d): which quantiser, −1 if none fits, (B,); its bits (B,); ĉ (B, d), 0 where none."""
        best = torch.full((len(coefficients),), torch.inf)
        which = torch.full((len(coefficients),), -1)
        bits = torch.zeros(len(coefficients))
        decoded = torch.zeros_like(coefficients)
        for index, (quantiser, price) in enumerate(zip(self.quantisers, self.prices, strict=True)):
            rows = torch.arange(len(coefficients))
            for thrift in THRIFT:
                levels = quantiser.levels(coefficients[rows], thrift)
                needed = quantiser.price(levels) + price
                values = torch.zeros(len(rows), coefficients.shape[1])
                values[:, : levels.shape[1]] = quantiser.decode(levels)
                error = (coefficients[rows] - values).square().sum(1)
                better = (needed <= budget) & (error < best[rows])
                take = rows[better]
                best[take], bits[take], decoded[take] = error[better], needed[better], values[better]
                which[take] = index
                rows = rows[needed > budget]
                if not len(rows):
                    break
        return which, bits, decoded
