"""Every channel under the same properties: measured SNR, symmetry, gains, and noise that belongs to the row."""

import math

import pytest
import torch
from torch import nn

from commin.channels import CHANNELS, Csi, Received, channel, equalize
from commin.errors import UserError
from commin.randomness import generator
from commin.units import measured_snr_db, normalize_power


class Doubler(nn.Module):
    """A module without an SNR: y = 2z."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Noisy(nn.Module):
    """A module of the Kaira kind: complex in, complex out, an SNR parameter, torch's global generator."""

    def __init__(self, snr_db: float) -> None:
        super().__init__()
        self.snr_db = snr_db

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x) * 10 ** (-self.snr_db / 20)


class Needy(Noisy):
    """A module that an SNR alone does not make."""

    def __init__(self, coherence_time: int, snr_db: float) -> None:
        super().__init__(snr_db)


PLUGGED = f"{__name__}:Noisy"
ALL = [*CHANNELS, PLUGGED]


def symbols(rows: int, k: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return normalize_power(torch.randn(rows, k, dtype=torch.complex64, generator=rng))


def rngs(rows: int, name: str = "t") -> list[torch.Generator]:
    return [generator(name, row) for row in range(rows)]


def faded(z: torch.Tensor, received: Received) -> torch.Tensor:
    assert received.csi is not None
    return z if received.csi.gains is None else received.csi.gains * z


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("snr", [-5.0, 0.0, 5.0, 20.0])
def test_measured_noise_over_a_million_symbols(name: str, snr: float) -> None:
    z = symbols(1, 1_000_000)
    received = channel(name)(z, torch.tensor([snr]), rngs(1))
    noise = received.symbols - faded(z, received)
    assert float(measured_snr_db(z, noise)) == pytest.approx(snr, abs=0.05)


@pytest.mark.parametrize("name", ALL)
def test_noise_is_circularly_symmetric_and_white(name: str) -> None:
    z = symbols(1, 1_000_000)
    received = channel(name)(z, torch.zeros(1), rngs(1))
    noise = (received.symbols - faded(z, received))[0]
    assert noise.real.var().item() == pytest.approx(0.5, rel=0.01)
    assert noise.imag.var().item() == pytest.approx(0.5, rel=0.01)
    assert abs((noise * noise).mean()) < 5e-3
    assert abs((noise[1:] * noise[:-1].conj()).mean()) < 5e-3
    assert abs((noise * z[0].conj()).mean()) < 5e-3


@pytest.mark.parametrize("name", ALL)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    z, snr = symbols(64, 32), torch.linspace(-5, 5, 64)
    together = channel(name)(z, snr, rngs(64))
    for row in (0, 17, 63):
        alone = channel(name)(z[row : row + 1], snr[row : row + 1], [generator("t", row)])
        assert torch.equal(alone.symbols[0], together.symbols[row])


@pytest.mark.parametrize("name", ALL)
def test_global_generator_is_left_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    channel(name)(symbols(2, 8), torch.zeros(2), rngs(2))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", list(CHANNELS))
def test_gradient_reaches_the_symbols(name: str) -> None:
    z = symbols(2, 8).requires_grad_()
    channel(name)(z, torch.zeros(2), rngs(2)).symbols.abs().square().sum().backward()
    assert z.grad is not None
    assert z.grad.abs().min() > 0


@pytest.mark.parametrize("name", list(CHANNELS))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_snr_is_refused(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match="SNR"):
        channel(name)(symbols(1, 4), torch.tensor([bad]), rngs(1))


def test_bad_symbols_are_refused() -> None:
    with pytest.raises(ValueError, match="complex"):
        channel("awgn")(torch.zeros(1, 4), torch.zeros(1), rngs(1))
    with pytest.raises(ValueError, match="NaN"):
        channel("awgn")(symbols(1, 4) * math.nan, torch.zeros(1), rngs(1))
    with pytest.raises(ValueError, match="snr_db"):
        channel("awgn")(symbols(2, 4), torch.zeros(1), rngs(2))


def gains(name: str, rows: int, k: int) -> torch.Tensor:
    csi = channel(name)(symbols(rows, k), torch.zeros(rows), rngs(rows)).csi
    assert csi is not None
    assert csi.gains is not None
    return csi.gains


@pytest.mark.parametrize(("name", "k_factor"), [("rayleigh-fast", 0.0), ("rician-fast", 4.0)])
def test_gain_moments(name: str, k_factor: float) -> None:
    h = gains(name, 1, 1_000_000)[0]
    strength = h.abs().square()
    assert strength.mean().item() == pytest.approx(1.0, rel=0.01)
    # E|h|⁴ of Rician fading with unit mean power: 2 − (K/(K+1))².
    assert strength.square().mean().item() == pytest.approx(2 - (k_factor / (k_factor + 1)) ** 2, rel=0.02)
    assert h.mean().real.item() == pytest.approx(math.sqrt(k_factor / (k_factor + 1)), abs=0.01)
    assert abs(h.mean().imag) < 0.01


def test_block_channels_have_one_gain_a_picture() -> None:
    assert gains("rayleigh-block", 3, 16).shape == (3, 1)
    assert gains("rayleigh-fast", 3, 16).shape == (3, 16)
    strength = gains("rayleigh-block", 20_000, 1).abs().square()
    assert strength.mean().item() == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("kind", ["zf", "mmse"])
@pytest.mark.parametrize("name", list(CHANNELS))
def test_equalizer_inverts_the_gain_at_high_snr(name: str, kind: str) -> None:
    z = symbols(4, 256)
    received = channel(name)(z, torch.full((4,), 120.0), rngs(4))
    got, snr = equalize(received, kind)  # type: ignore[arg-type]
    assert torch.allclose(got, z, atol=2e-2)
    assert (snr > 50).all()


def test_equalizer_leaves_awgn_alone() -> None:
    received = channel("awgn")(symbols(2, 8), torch.tensor([-3.0, 3.0]), rngs(2))
    got, snr = equalize(received)
    assert torch.equal(got, received.symbols)
    assert snr.tolist() == [-3.0, 3.0]


def test_block_equalizers_agree_and_tell_the_faded_snr() -> None:
    received = channel("rayleigh-block")(symbols(8, 64), torch.zeros(8), rngs(8))
    (mmse, mmse_snr), (zf, zf_snr) = equalize(received, "mmse"), equalize(received, "zf")
    assert received.csi is not None
    assert received.csi.gains is not None
    assert torch.allclose(mmse, zf, rtol=1e-4, atol=1e-5)
    assert torch.allclose(mmse_snr, 20 * received.csi.gains.abs().log10()[:, 0], atol=1e-3)
    assert torch.allclose(zf_snr, mmse_snr, atol=1e-3)


# Zero forcing's noise has no finite mean under fading, E[1/|h|²] = ∞: its sample scatters.
@pytest.mark.parametrize(("kind", "tolerance_db"), [("zf", 1.5), ("mmse", 0.1)])
def test_effective_snr_is_what_is_measured(kind: str, tolerance_db: float) -> None:
    z = symbols(1, 200_000)
    received = channel("rician-fast")(z, torch.tensor([3.0]), rngs(1))
    got, snr = equalize(received, kind)  # type: ignore[arg-type]
    gain = (got * z.conj()).mean() / z.abs().square().mean()
    assert gain.real.item() == pytest.approx(1.0, abs=0.02)
    assert measured_snr_db(z, got - z).item() == pytest.approx(snr.item(), abs=tolerance_db)


def test_mmse_beats_zero_forcing_in_fast_fading() -> None:
    received = channel("rayleigh-fast")(symbols(4, 4096), torch.zeros(4), rngs(4))
    assert (equalize(received, "mmse")[1] > equalize(received, "zf")[1] + 3).all()


def test_equalizer_needs_channel_state() -> None:
    with pytest.raises(ValueError, match="channel state"):
        equalize(Received(symbols(1, 4)))


def test_a_dead_gain_gives_finite_symbols() -> None:
    received = Received(symbols(1, 4), Csi(torch.zeros(1), torch.zeros(1, 1, dtype=torch.complex64)))
    for kind in ("mmse", "zf"):
        got, snr = equalize(received, kind)  # type: ignore[arg-type]
        assert torch.isfinite(torch.view_as_real(got)).all()
        assert torch.isfinite(snr).all()


def test_plugged_module_without_snr() -> None:
    z = symbols(2, 8)
    assert torch.allclose(channel(f"{__name__}:Doubler")(z, torch.zeros(2), rngs(2)).symbols, 2 * z)


@pytest.mark.parametrize("name", ["nothing", "no.such:Class", f"{__name__}:symbols", f"{__name__}:Absent", ":"])
def test_unknown_channels_are_one_line(name: str) -> None:
    with pytest.raises(UserError, match="--channel"):
        channel(name)


def test_a_module_that_needs_more_than_an_snr_is_named() -> None:
    with pytest.raises(UserError, match="needs coherence_time"):
        channel(f"{__name__}:Needy")
