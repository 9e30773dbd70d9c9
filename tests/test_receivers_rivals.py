"""Receivers after CommIN's paper: what each is pulled towards, and what its fit recovers."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from commin.codec.deepjscc import DeepJSCC
from commin.diffusion.prior import Prior
from commin.errors import UserError
from commin.inn.degradation import Degradation, DegradationConfig
from commin.randomness import generator
from commin.receivers.base import Arrival
from commin.receivers.commin_fit import Examples
from commin.receivers.commin_fusion import Bands
from commin.receivers.commin_rows import Rows
from commin.receivers.commin_settings import FastPoint
from commin.receivers.commin_table import read_settings, write_settings
from commin.receivers.diffcom import DiffCom, DiffComSettings, HiFiSettings, symbol_distance
from commin.receivers.guided import GuidedPoint, at_size
from commin.receivers.sing_inn import SingINN, SingINNSettings, coarse_distance
from commin.receivers.sing_zero import (
    SingZero,
    ZeroPoint,
    ZeroSettings,
    exchange,
    fit_zero,
    passed,
    undone,
)
from commin.training.prior import PriorConfig, new_prior
from tests.conftest import smooth_images

BCR = Fraction(1, 48)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def generators(count: int) -> list[torch.Generator]:
    return [generator("rivals", index) for index in range(count)]


class Blank(nn.Module):
    """Stands in for a U-Net that knows nothing: its picture is what it is shown, or grey."""

    def __init__(self, share: float = 0.0) -> None:
        super().__init__()
        self.config = {"in_channels": 12, "sample_size": 8}
        self.weight, self.share = nn.Parameter(torch.zeros(1)), share

    def forward(self, planes: Tensor, t: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (planes * self.share,)


def blank(share: float = 0.0) -> Prior:
    return Prior(Blank(share), {"num_train_timesteps": 30, "prediction_type": "sample"})


# SING-Zero


def test_range_is_exchanged_and_null_space_kept() -> None:
    """A(x̂) = y and what A does not see is x0's own, for w = 1 and gains of 0 or more than ½."""
    bands, rng = Bands(16, 16, 2, torch.device("cpu")), torch.Generator().manual_seed(0)
    x0, x = torch.randn(2, 2, 3, 16, 16, generator=rng)
    response = torch.tensor([[0.8, 0.2, 1.0, 0.6]]).expand(2, -1)
    y = bands.inverse(bands.spread(response) * bands.transform(x))
    found = exchange(bands, response, x0, y, torch.ones(2, 1, 1, 1))
    assert torch.allclose(passed(bands, response, found), passed(bands, response, x), atol=1e-5)
    assert torch.allclose(found - passed(bands, response, found), x0 - passed(bands, response, x0), atol=1e-5)
    assert torch.allclose(passed(bands, response, undone(bands, response, y)), undone(bands, response, y), atol=1e-5)
    assert torch.equal(exchange(bands, response, x0, y, torch.zeros(2, 1, 1, 1)), x0)


def test_the_linear_map_is_recovered_and_helps() -> None:
    """y a filtered x with noise: its gains are found, and a prior that knows nothing is led to the picture."""
    x, settings = smooth_images(16, 16, seed=4), ZeroSettings(steps=3, rings=4, limit=5)
    bands, rng = settings.bands(x), torch.Generator().manual_seed(5)
    true = torch.tensor([0.95, 0.8, 0.3, 0.0] * 2)
    filtered = bands.inverse(bands.spread(true.expand(16, -1)) * bands.transform(2 * x - 1))
    y = (filtered + 1) / 2 + 0.002 * torch.randn(x.shape, generator=rng)
    point = fit_zero(blank(), Examples(x, y, BCR, 0.0, generators(16)), settings)
    assert torch.tensor(point.response)[:2].tolist() == pytest.approx(true[:2].tolist(), abs=0.02)
    assert all(0 <= weight <= 1 for weight in point.weights)
    assert point.weights[0] > 0.9
    received = Arrival(y, torch.zeros(16, 4, dtype=torch.complex64), torch.zeros(16), BCR, None)  # type: ignore[arg-type]
    chosen = settings.model_copy(update={"points": (point,)})
    got = SingZero(blank(), chosen, 1.0).restore(received, generators(16), 1)[:, 0]
    assert float((got - x).square().mean()) < 0.5 * float((y - x).square().mean())


def test_a_table_without_a_fit_keeps_half_the_frequencies(tmp_path: Path) -> None:
    settings = ZeroSettings()
    assert settings.response(BCR, torch.zeros(2))[0].tolist() == [1.0] * 4 + [0.0] * 4 + [1.0] * 4 + [0.0] * 4
    assert ZeroSettings(rings=2, points=(ZeroPoint(bcr="1/48", snr_db=0),)).response(BCR, torch.zeros(1)).shape == (
        1,
        4,
    )
    fitted = settings.model_copy(update={"points": (ZeroPoint(bcr="1/48", snr_db=0, response=(0.5,) * 16),)})
    write_settings(fitted, tmp_path / "zero.json")
    assert read_settings(ZeroSettings, tmp_path / "zero.json") == fitted
    with pytest.raises(ValidationError, match="16 bands"):
        ZeroSettings(points=(ZeroPoint(bcr="1/48", snr_db=0, response=(0.5,) * 4),))
    with pytest.raises(ValidationError):
        ZeroSettings.model_validate({"points": [FastPoint(bcr="1/48", snr_db=0).model_dump() | {"gain": 1}]})


# gradient guidance


def test_larger_zeta_ends_nearer_to_the_symbols(codec: DeepJSCC) -> None:
    """A prior that believes what it is shown is led to pictures whose symbols are those received."""
    x, snrs = smooth_images(2, 16), torch.full((2,), 20.0)
    with torch.no_grad():
        symbols = codec.encode(x, snrs, BCR)
    received = Arrival(smooth_images(2, 16, seed=1), symbols, snrs, BCR, codec)
    rows = Rows(received.estimate * 2 - 1, snrs, symbols, [], lambda: None)
    distances = []
    for zeta in (0.0, 10.0):
        points = (GuidedPoint(bcr="1/48", snr_db=0, zeta=zeta, start=0.1),)
        settings = DiffComSettings(steps=20, eta=0.0, points=points)
        got = DiffCom(blank(1.0), settings).restore(received, generators(2), 1)[:, 0]
        with torch.no_grad():
            distances.append(symbol_distance(received, rows, 0.0)(got * 2 - 1))
    assert (distances[1] < 0.7 * distances[0]).all()


def test_distances_are_zero_at_the_picture_sent(codec: DeepJSCC) -> None:
    x, snrs = smooth_images(2, 16), torch.tensor([0.0, 5.0])
    with torch.no_grad():
        symbols = codec.encode(x, snrs, BCR)
        y = codec.decode(symbols, snrs, (16, 16))
        inn = Degradation(DegradationConfig(bcr="1/48", width=8, blocks=1)).eval()
        coarse = inn(x, snrs)[0]
        received = Arrival(y, symbols, snrs, BCR, codec)
        rows = Rows(y * 2 - 1, snrs, symbols, [], lambda: None)
        for confirm in (0.0, 1.0):
            distance = symbol_distance(received, rows, confirm)
            assert distance(x * 2 - 1).max() < 1e-3
            assert distance(-x).min() > 0.02
        plain, hifi = (symbol_distance(received, rows, share)(-x) for share in (0.0, 1.0))
        assert (hifi > plain).all()
        of_coarse = coarse_distance(inn, Rows(coarse * 2 - 1, snrs, symbols, [], lambda: None))
        assert of_coarse(x * 2 - 1).max() < 1e-3


def test_zeta_grows_with_the_picture() -> None:
    assert at_size(torch.tensor([0.4, 0.8]), torch.zeros(2, 3, 64, 64)).flatten().tolist() == pytest.approx([0.1, 0.2])


def test_published_settings_and_names() -> None:
    prior = new_prior(PriorConfig(widths=(8, 8), attention=(False, False), head=8, groups=4, steps=20), 16)
    assert (DiffCom(prior).name, DiffCom(prior, HiFiSettings()).name) == ("diffcom", "diffcom-hifi")
    assert (HiFiSettings().points[0].zeta, HiFiSettings().confirm) == (0.25, 1.0)
    assert DiffCom(prior).network_calls == 20  # no more than the prior has levels
    with pytest.raises(ValidationError):
        SingINNSettings.model_validate({"guide": "nothing"})
    single = Degradation(DegradationConfig(bcr="1/48", snr_range_db=(0, 0), width=8, blocks=1))
    with pytest.raises(UserError, match="told the SNR"):
        SingINN(prior, single)
