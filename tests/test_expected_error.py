"""How wrong the mean of samples is, told from how far they lie apart."""

from typing import Any

import pytest
import torch
from torch import Tensor

from commin.receivers.base import Arrival
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.receivers.expected_error import deviation, expected_error, fit_expected_error
from commin.receivers.shown import ShownPoint, show
from commin.units import parse_bcr


class Known:
    """A receiver with a table, of which only that is asked."""

    def __init__(self, *points: ShownPoint, naturalness: float | None = None) -> None:
        self.settings, self.naturalness = self, naturalness
        self.points = points


def arrival(y: Tensor, snr_db: float = 0.0) -> Arrival:
    symbols = torch.zeros(len(y), 4, dtype=torch.complex64)
    return Arrival(y, symbols, torch.full((len(y),), snr_db), parse_bcr("1/48"), None)  # type: ignore[arg-type]


def point(snr_db: float, law: Any, naturalness: float = 1.0) -> ShownPoint:
    return ShownPoint(bcr="1/48", snr_db=snr_db, naturalness=naturalness, expected_error=law)


def error_of(samples: Tensor, *points: ShownPoint, naturalness: float | None = None) -> Tensor | None:
    known = Known(*points, naturalness=naturalness)
    return expected_error(known, samples, arrival(samples[:, 0]))  # type: ignore[arg-type]


@pytest.fixture
def samples() -> Tensor:
    return 0.5 + 0.05 * torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_deviation_over_samples_and_colours() -> None:
    samples = torch.tensor([[0.4, 0.5, 0.5], [0.6, 0.5, 0.7]])[:, :, None, None].expand(2, 3, 4, 5)
    variance = (0.02 + 0 + 0.02) / 3
    assert torch.allclose(deviation(samples), torch.full((4, 5), variance**0.5))


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.45), (2.0, 1.0), (0.1, 0.0)])
def test_the_fit_finds_the_law_that_made_the_originals(a: float, b: float) -> None:
    rng = torch.Generator().manual_seed(1)
    s = 0.005 * 10 ** torch.rand(256, 1, 16, 16, generator=rng)
    draws = torch.randn(256, 8, 3, 16, 16, generator=rng)
    middle = 0.5 + s[:, None] * (draws - draws.mean(1, keepdim=True))
    images = middle.mean(1) + a * s**b * torch.randn(256, 3, 16, 16, generator=rng)
    found_a, found_b = fit_expected_error(middle, images)
    for apart in (0.01, 0.03):
        assert found_a * apart**found_b == pytest.approx(a * apart**b, rel=0.1)


def test_samples_that_are_the_original_have_a_law_too() -> None:
    images = torch.full((2, 3, 8, 8), 0.5)
    a, b = fit_expected_error(images[:, None].expand(-1, 2, -1, -1, -1), images)
    assert a == pytest.approx(1e-4)
    assert b == 0


def test_the_law_of_the_table_is_applied_and_linear_in_decibels(samples: Tensor) -> None:
    expected = 0.5 * deviation(samples) ** 0.4
    for points in ((point(0, (0.5, 0.4)),), (point(-5, (0.4, 0.2)), point(5, (0.6, 0.6)))):
        assert torch.allclose(error_of(samples, *points), expected)  # type: ignore[arg-type]


def test_naturalness_does_not_change_how_wrong_the_mean_is(samples: Tensor) -> None:
    points = (point(0, (0.5, 0.4), naturalness=0.6),)
    shown = [show(samples, arrival(samples[:, 0]), points, alpha) for alpha in (None, 0.2, 1.0)]
    errors = [error_of(each, *points, naturalness=a) for each, a in zip(shown, (None, 0.2, 1.0), strict=True)]
    for error in errors:
        assert torch.allclose(error, errors[-1], rtol=1e-3)  # type: ignore[arg-type]


def test_none_where_nothing_is_known(samples: Tensor) -> None:
    known = point(0, (0.5, 0.4))
    assert error_of(samples[:, :1], known) is None
    assert error_of(samples, known, point(5, ())) is None
    assert error_of(samples) is None
    assert error_of(samples, known, naturalness=0.0) is None
    assert expected_error(DeepJSCCReceiver(), samples, arrival(samples[:, 0])) is None
