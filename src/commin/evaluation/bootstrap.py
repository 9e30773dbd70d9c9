"""95 % intervals and paired differences, resampling the persons and not the pictures.

Pictures of one person are alike: 460 pictures of 22 persons are 22 independent draws. A resample draws G of the G
persons with replacement and takes all their pictures, mean = Σ_g s_g/Σ_g n_g with a person's sum s_g and count n_g.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from commin.randomness import generator

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and the 2.5 % and 97.5 % quantiles of its resamples; NaN where there was nothing to resample."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0: a paired difference that counts."""
        return self.low > 0 or self.high < 0


def interval(values: Tensor, identities: Sequence[str], draws: int = DRAWS) -> Interval:
    """The mean of values (N,) with its interval over identities, one name for each value.

    With a single identity there is no spread to see: the interval is NaN.

    Raises:
        ValueError: no values, or not one identity for each.
    """
    if not len(values) or len(values) != len(identities):
        raise ValueError(f"bootstrap: {len(values)} values with {len(identities)} identities")
    values = values.double()
    names = {name: index for index, name in enumerate(sorted(set(identities)))}
    members = torch.tensor([names[name] for name in identities])
    sums = torch.zeros(len(names), dtype=torch.float64).index_add_(0, members, values)
    counts = torch.bincount(members, minlength=len(names)).double()
    mean = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return Interval(mean, torch.nan, torch.nan)
    picks = torch.randint(len(names), (draws, len(names)), generator=generator("bootstrap", draws, len(names)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(mean, low, high)


def paired(a: Tensor, b: Tensor, identities: Sequence[str], draws: int = DRAWS) -> Interval:
    """The mean of a − b with its interval: values (N,) of two systems for the same N pictures, in the same order."""
    if a.shape != b.shape:
        raise ValueError(f"paired: {tuple(a.shape)} values against {tuple(b.shape)}")
    return interval(a.double() - b.double(), identities, draws)
