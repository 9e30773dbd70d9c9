r"""How far the mean of several samples is likely to lie from the original, told from how far they lie apart.

    e = a·s^b,  s² the variance of the samples at a pixel,  e² = E(mean of the samples − x)² there,

each averaged over the colours, both in units of white, s before the naturalness α brings samples together. Pictures
drawn from the exact posterior would have a = b = 1, but for the number of samples. Those of a walk from the estimate
share its errors and lie closer together than to the original; where they differ most they are wrong most all the same.
a and b are fitted on pictures whose originals are known, for each ρ and SNR.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from commin.receivers.base import Arrival, Receiver
from commin.receivers.commin_table import DIGITS
from commin.receivers.shown import Shown, between, naturalness_of

BINS = 40
"""Groups of pixels of like s, as many in each, that the law is fitted to."""

LEAST = 1e-4
"""s and e below this are taken for it."""


@runtime_checkable
class Tabled(Protocol):
    """A receiver whose table says what is shown of its samples."""

    settings: Shown
    naturalness: float | None


def deviation(samples: Tensor) -> Tensor:
    """s, (..., H, W), of S ≥ 2 samples (..., S, 3, H, W): the root of their variance, averaged over the colours."""
    return samples.var(-4, correction=1).mean(-3).sqrt()


def expected_error(receiver: Receiver, samples: Tensor, arrival: Arrival) -> Tensor | None:
    """e of each pixel, (B, H, W), for samples (B, S, 3, H, W) as the receiver showed them.

    None for a single sample, a receiver without a table or one that was not fitted for it, and for α = 0.
    """
    if samples.shape[1] < 2 or not isinstance(receiver, Tabled):
        return None
    points = receiver.settings.points
    share = naturalness_of(arrival, points, receiver.naturalness)
    if not points or not all(point.expected_error for point in points) or not bool((share > 0).all()):
        return None
    laws = between(points, arrival, lambda point: point.expected_error).to(samples.device)
    a, b = laws[:, :, None, None].unbind(1)
    return a * (deviation(samples) / share[:, None, None]).clamp_min(LEAST) ** b


def fit_expected_error(samples: Tensor, images: Tensor) -> tuple[float, float]:
    """a and b of samples (M, S, 3, H, W) with α = 1 and their originals (M, 3, H, W), all in [0, 1].

    Least squares in the logarithms of s and e, root mean squares over `BINS` groups of pixels, b at least 0.
    """
    s = deviation(samples).clamp_min(LEAST).flatten()
    squared = (samples.mean(1) - images).square().mean(1).clamp_min(LEAST**2).flatten()[s.argsort()]
    groups = zip(s.sort().values.tensor_split(BINS), squared.tensor_split(BINS), strict=True)
    logs = torch.stack([torch.stack([s.square().mean(), e.mean()]).log() / 2 for s, e in groups]).double()
    x, y = logs.unbind(1)
    moved = x - x.mean()
    b = max(0.0, float((moved * y).sum() / moved.square().sum().clamp_min(1e-12)))
    return round(float((y.mean() - b * x.mean()).exp()), DIGITS), round(b, DIGITS)
