"""What is shown of samples: detail above a cutoff, naturalness, and the fit of both."""

import math

import pytest
import torch
from torch import Tensor

from commin.metrics.pixels import psnr
from commin.receivers.base import Arrival
from commin.receivers.commin_fusion import Bands
from commin.receivers.shown import ShownPoint, above, fit_naturalness, fit_shown, show, with_detail
from commin.units import parse_bcr

BCR = parse_bcr("1/48")


def arrival(y: Tensor, snr_db: float = 0.0) -> Arrival:
    symbols = torch.zeros(len(y), 4, dtype=torch.complex64)
    return Arrival(y, symbols, torch.full((len(y),), snr_db), BCR, None)  # type: ignore[arg-type]


@pytest.fixture
def y() -> Tensor:
    return torch.full((2, 3, 16, 24), 0.5)


@pytest.fixture
def drawn() -> Tensor:
    return 0.5 + 0.05 * torch.randn(2, 4, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_detail_above_the_cutoff_is_the_samples_and_the_rest_the_estimates(y: Tensor, drawn: Tensor) -> None:
    bands = Bands(16, 24, 2, torch.device("cpu"))

    def coefficients(cutoff: float, detail: float) -> Tensor:
        point = ShownPoint(bcr="1/48", snr_db=0, cutoff=cutoff, detail=detail)
        moved = show(drawn, arrival(y), (point,), None) - y[:, None]
        return bands.transform(moved.flatten(0, 1))

    whole = coefficients(0, 1)
    assert torch.allclose(whole, bands.transform((drawn - y[:, None]).flatten(0, 1)), atol=1e-5)
    assert torch.allclose(coefficients(0, 1.5), 1.5 * whole, atol=1e-5)
    moved = coefficients(0.25, 1.5)
    assert moved[..., 0, 0].abs().max() < 1e-5
    assert torch.allclose(moved[..., 0, 6], 1.5 * (1 - math.exp(-1)) * whole[..., 0, 6], atol=1e-5)
    assert torch.allclose(moved[..., 15, 23], 1.5 * whole[..., 15, 23], atol=1e-5)


def test_without_a_cutoff_nothing_changes(drawn: Tensor) -> None:
    assert torch.equal(above(drawn, torch.zeros(2, 4)), drawn)


def test_without_a_table_samples_are_shown_as_they_are(y: Tensor, drawn: Tensor) -> None:
    assert torch.equal(show(drawn, arrival(y), (), None), drawn)
    assert torch.allclose(show(drawn, arrival(y), (), 0.0), drawn.mean(1, keepdim=True).expand_as(drawn), atol=1e-6)
    assert torch.allclose(show(drawn[:, :1], arrival(y), (), 0.25)[:, 0], torch.lerp(y, drawn[:, 0], 0.25), atol=1e-6)


def test_the_table_is_linear_in_decibels(y: Tensor, drawn: Tensor) -> None:
    low, high, middle = (
        ShownPoint(bcr="1/48", snr_db=snr, naturalness=a, cutoff=f, detail=g)
        for snr, a, f, g in ((-5, 0.2, 0.1, 1.3), (5, 0.8, 0.3, 0.9), (0, 0.5, 0.2, 1.1))
    )
    between, known = (show(drawn, arrival(y), table, None) for table in ((low, high), (middle,)))
    assert torch.allclose(between, known, atol=1e-6)
    other = show(drawn, arrival(y), (low, high), 1.0)
    assert torch.allclose(other, with_detail(y[:, None], drawn, torch.tensor(0.2), torch.tensor(1.1)), atol=1e-6)


def test_naturalness_costs_what_was_allowed(y: Tensor, drawn: Tensor) -> None:
    images = y + 0.1 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    share = fit_naturalness(y, drawn[:, 0], images, 0.3)
    assert 0 < share < 1
    blend = torch.lerp(y, drawn[:, 0], share)
    loss = 10 * math.log10(float((blend - images).square().mean() / (y - images).square().mean()))
    assert loss == pytest.approx(0.3, abs=1e-3)
    assert fit_naturalness(y, drawn[:, 0], images, 20) == 1
    assert fit_naturalness(y, drawn[:, 0], images, 0) < 0.1


def test_the_fit_finds_what_made_the_pictures(y: Tensor, drawn: Tensor) -> None:
    """Originals that are the sample above a cutoff and the estimate below: the least loss is at these numbers."""
    images = with_detail(y, drawn[:, 0], torch.full((2,), 0.2), torch.full((2,), 1.2))
    choices = [(f, g) for f in (0.0, 0.1, 0.2, 0.4) for g in (0.8, 1.0, 1.2)]
    found = fit_shown(y, drawn[:, 0], images, 0.5, choices, lambda a, b: -psnr(a, b))
    assert found == {"naturalness": 1.0, "cutoff": 0.2, "detail": 1.2}
