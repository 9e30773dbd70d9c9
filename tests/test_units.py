import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from commin import units


@given(st.floats(-100, 100))
def test_db_round_trip(db: float) -> None:
    assert units.linear_to_db(units.db_to_linear(db)) == pytest.approx(db, abs=1e-9)
    assert float(units.linear_to_db(units.db_to_linear(torch.tensor(db, dtype=torch.float64)))) == pytest.approx(db)


def test_zero_power_is_minus_infinity() -> None:
    assert units.linear_to_db(0.0) == -math.inf
    assert float(units.linear_to_db(torch.tensor(0.0))) == -math.inf


@given(st.integers(1, 200), st.integers(0, 2**31))
def test_power_is_one_per_row(k: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    scale = 10 ** torch.empty(3, 1).uniform_(-4, 4, generator=rng)
    symbols = scale * torch.randn(3, k, dtype=torch.complex64, generator=rng)
    assert torch.allclose(units.power(units.normalize_power(symbols)), torch.ones(3), atol=1e-5)


def test_zero_row_stays_zero() -> None:
    assert not units.normalize_power(torch.zeros(1, 4, dtype=torch.complex64)).abs().any()


@pytest.mark.parametrize(("text", "channels"), [("1/768", 2), ("1/192", 8), ("1/48", 32), ("1/12", 128), (1 / 48, 32)])
def test_bcr_gives_latent_channels(text: str, channels: int) -> None:
    assert units.latent_channels(units.parse_bcr(text)) == channels


@pytest.mark.parametrize("text", ["", "x", "1/0", "0", "-1/48", "2", "nan", "inf"])
def test_bad_bcr_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ratio"):
        units.parse_bcr(text)


def test_bcr_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="1/768"):
        units.latent_channels(Fraction(1, 100))


def test_channel_use_is_counted_from_tensors() -> None:
    use = units.ChannelUse.of(torch.zeros(2, 3, 64, 64), torch.zeros(2, 256, dtype=torch.complex64))
    assert (use.symbols, use.samples, use.bcr) == (256, 12288, 1 / 48)


@pytest.mark.parametrize(("k", "snr", "bits"), [(256, -5, 101), (256, 0, 256), (256, 5, 527), (1024, 5, 2107)])
def test_capacity(k: int, snr: float, bits: int) -> None:
    assert round(units.capacity_bits(k, snr)) == bits
