"""The flow from the noised estimate: its steps, what the prior gives it, its inputs, its file, its receiver."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from commin.codec.deepjscc import DeepJSCC
from commin.codec.reference import LinkConfig
from commin.diffusion.flow import Flow, FlowConfig, flow_from, integrate, load_flow, save_flow
from commin.errors import UserError
from commin.evaluation.systems import group
from commin.inn.degradation import Degradation, DegradationConfig
from commin.randomness import generator
from commin.receivers.base import Arrival
from commin.receivers.pmrf import Pmrf, PmrfSettings, conditions
from commin.training.prior import PriorConfig, new_prior
from tests.conftest import smooth_images

LINK = LinkConfig(reference_psnr_db={"1/48": (19, 23), "1/192": (16, 20)})
BCR = Fraction(1, 48)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def flow(inn: bool = False, trained: bool = True, **more: Any) -> Flow:
    """A small flow for 16×16 pixels; ``trained``: all its inputs count."""
    torch.manual_seed(0)
    config = PriorConfig(widths=(16, 16), attention=(False, False), head=8, groups=8, steps=1000, **more)
    made = flow_from(new_prior(config, 16), FlowConfig(link=LINK, inn=inn)).eval()
    if trained:
        with torch.no_grad():
            made.prior.unet.conv_in.weight.add_(0.1 * torch.randn(made.prior.unet.conv_in.weight.shape))  # type: ignore[union-attr,operator]
    return made


@pytest.fixture(scope="module")
def inn() -> Degradation:
    torch.manual_seed(1)
    made = Degradation(DegradationConfig(bcr="1/48", width=16, blocks=1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


# steps


@pytest.mark.parametrize("order", [1, 2])
def test_steps_are_of_their_order(order: int) -> None:
    """dx/ds = −(1 + s)·x from x = 2 ends at 2·exp(−3/2); twice the steps, 2^order times less error."""
    calls: list[float] = []

    def velocity(x: Tensor, s: Tensor) -> Tensor:
        calls.append(float(s[0]))
        return -(1 + s)[:, None, None, None] * x

    begin = torch.full((1, 3, 2, 2), 2.0, dtype=torch.float64)
    errors = [abs(float(integrate(velocity, begin, n, order)[0, 0, 0, 0]) - 2 * math.exp(-1.5)) for n in (20, 40)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)
    assert len(calls) == (20 + 40) * order
    assert (min(calls), max(calls)) == (0.0, 1.0 if order == 2 else 39 / 40)


def test_a_straight_path_takes_one_step() -> None:
    x, y = smooth_images(2, 16), smooth_images(2, 16, seed=1)
    for order in (1, 2):
        assert torch.allclose(integrate(lambda state, s: x - y, y, 1, order), x, atol=1e-6)


# from a prior


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_new_flow_is_its_prior(prediction: Any) -> None:
    """v = (x0 − x_s)/(1 − s), x0 the prior's guess where it takes (1 − s)·r for the level of white noise in x_s."""
    made, x, y = flow(trained=False, prediction=prediction), smooth_images(3, 16) * 2 - 1, smooth_images(3, 16, seed=1)
    torch.manual_seed(0)
    config = PriorConfig(widths=(16, 16), attention=(False, False), head=8, groups=8, steps=1000, prediction=prediction)
    prior = new_prior(config, 16).eval()
    s, r = torch.tensor([0.0, 0.3, 0.8]), torch.tensor([0.3, 0.2, 0.3])
    level = (1 - s) * r
    t = torch.tensor([prior.schedule.lowest(float(each) ** 2) for each in level])
    reached = (prior.schedule.noise(t) / prior.schedule.signal(t)).sqrt()
    assert torch.allclose(reached.flatten(), level, rtol=0.05)
    with torch.no_grad():
        x_t = prior.schedule.signal(t).sqrt() * x
        x0 = prior.picture(prior.output(x_t, t), x_t, t)
        expected = (x0 - x) / (1 - s)[:, None, None, None] * (level[:, None, None, None] / reached)
        assert torch.allclose(made.velocity(x, s, r, y), expected, atol=1e-3)


def test_velocity_is_finite_to_the_end() -> None:
    made, x = flow(), smooth_images(2, 16)
    with torch.no_grad():
        last = made.velocity(x, torch.ones(2), torch.full((2,), 0.2), x)
    assert torch.isfinite(last).all()
    assert last.abs().max() < 10


@pytest.mark.parametrize("with_inn", [False, True])
def test_inputs_begin_without_effect(with_inn: bool) -> None:
    new, trained = flow(with_inn, trained=False), flow(with_inn)
    assert new.prior.unet.conv_in.weight.shape[1] == 12 * (3 if with_inn else 2)  # type: ignore[union-attr,index]
    assert (new.prior.patch, new.prior.size) == (2, 16)
    x, s, r = smooth_images(2, 16), torch.tensor([0.2, 0.7]), torch.full((2,), 0.2)
    seen = [smooth_images(2, 16, seed=seed) for seed in range(1, 2 + with_inn)]
    with torch.no_grad():
        for index in range(len(seen)):
            other = [1 - part if number == index else part for number, part in enumerate(seen)]
            assert torch.equal(new.velocity(x, s, r, *seen), new.velocity(x, s, r, *other))
            assert (trained.velocity(x, s, r, *seen) - trained.velocity(x, s, r, *other)).abs().max() > 1e-3


def test_the_corrected_picture_is_the_inns(inn: Degradation) -> None:
    x, y, snrs = smooth_images(2, 16), smooth_images(2, 16, seed=1), torch.tensor([-5.0, 5.0])
    with torch.no_grad():
        shown = conditions(inn, x * 2 - 1, y * 2 - 1, snrs)
        expected = inn.inverse(y, inn(x, snrs)[1], snrs) * 2 - 1
    assert torch.equal(shown[0], y * 2 - 1)
    assert torch.allclose(shown[1], expected, atol=1e-5)
    assert len(conditions(None, x, y, snrs)) == 1


def test_deviation_is_that_of_the_link() -> None:
    made, snrs = flow(), torch.tensor([-5.0, 0.0, 5.0, 30.0])
    r = made.deviation(torch.full((4,), made.number(BCR)), snrs)
    expected = [math.sqrt(4 * 10 ** (-psnr / 10) + 0.01) for psnr in (19, 21, 23, 23)]
    assert r.tolist() == pytest.approx(expected, rel=1e-4)
    assert made.number(Fraction(1, 192)) == 0  # ascending, in whatever order the config names them
    with pytest.raises(UserError, match=r"ρ = 1/192, 1/48, not 1/12"):
        made.number(Fraction(1, 12))


def test_larger_pictures_go_in_tiles() -> None:
    made = flow()
    x, y = smooth_images(2, 28), smooth_images(2, 28, seed=1)
    with torch.no_grad():
        v = made.velocity(x, torch.tensor([0.1, 0.5]), torch.full((2,), 0.2), y)
        middle = (part[..., 6:22, 6:22] for part in (x, y))  # the second tile of three, alone from its fifth pixel on
        tile = made.velocity(next(middle), torch.tensor([0.1, 0.5]), torch.full((2,), 0.2), next(middle))
    assert v.shape == x.shape
    assert torch.allclose(v[..., 10:18, 10:18], tile[..., 4:12, 4:12], atol=1e-4)


# files


@pytest.mark.parametrize("with_inn", [False, True])
def test_a_file_holds_the_whole_flow(with_inn: bool, tmp_path: Path) -> None:
    made = flow(with_inn)
    save_flow(made, tmp_path / "flow.safetensors")
    loaded = load_flow(tmp_path / "flow.safetensors")
    assert loaded.config == made.config
    x, s, r = smooth_images(2, 16), torch.tensor([0.2, 0.7]), torch.full((2,), 0.2)
    seen = [smooth_images(2, 16, seed=1)] * (1 + with_inn)
    with torch.no_grad():
        assert (loaded.velocity(x, s, r, *seen) - made.velocity(x, s, r, *seen)).abs().max() < 0.02
    assert load_flow(tmp_path / "flow.safetensors", torch.bfloat16).prior.unet.dtype == torch.bfloat16  # type: ignore[union-attr]


def test_other_files_are_refused(tmp_path: Path, codec_file: Path) -> None:
    with pytest.raises(UserError, match="holds deepjscc, not a flow"):
        load_flow(codec_file)
    with pytest.raises(UserError, match="no such model file"):
        load_flow(tmp_path / "none.safetensors")
    made = flow()
    del made.prior.unet.conv_out
    save_flow(made, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=r"missing .*conv_out"):
        load_flow(tmp_path / "less.safetensors")
    wrong = flow()
    wrong.config = wrong.config.model_copy(update={"inn": True})  # says that it sees more than it does
    save_flow(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match="24 input channels"):
        load_flow(tmp_path / "wrong.safetensors")


# the receiver; what every receiver must hold is in test_receivers_commin


def arrival(codec: DeepJSCC, bcr: Fraction = BCR) -> Arrival:
    symbols = torch.zeros(3, 16, dtype=torch.complex64)
    return Arrival(smooth_images(3, 16), symbols, torch.tensor([-5.0, 0.0, 5.0]), bcr, codec)


def test_names_calls_and_class(inn: Degradation) -> None:
    plain, both = Pmrf(flow()), Pmrf(flow(True), inn, PmrfSettings(steps=3, order=1))
    assert (plain.name, plain.network_calls, group("pmrf", plain)) == ("pmrf", 10, "plain")
    assert (both.name, both.network_calls, group("pmrf-inn", both)) == ("pmrf-inn", 3, "plain")
    with pytest.raises(UserError, match="needs a flow-inn"):
        Pmrf(flow(), inn)
    with pytest.raises(UserError, match="needs a flow; "):
        Pmrf(flow(True))
    with pytest.raises(ValidationError):
        PmrfSettings.model_validate({"order": 3})


@pytest.mark.parametrize("order", [1, 2])
def test_the_path_begins_at_the_noised_estimate(order: Any, codec: DeepJSCC, monkeypatch: pytest.MonkeyPatch) -> None:
    """With v = z − y the receiver ends at z + σ·n; the network is told s, the link's r and y."""
    made, whole = flow(), arrival(codec)
    y, z = whole.estimate * 2 - 1, 0.3 * smooth_images(3, 16, seed=5)
    deviation, times = made.deviation(torch.ones(3, dtype=torch.int64), whole.snr_db), []

    def velocity(x: Tensor, s: Tensor, r: Tensor, seen: Tensor) -> Tensor:
        assert torch.equal(r, deviation.repeat_interleave(2))
        assert torch.equal(seen, y.repeat_interleave(2, 0))
        times.append(float(s[0]))
        return z.repeat_interleave(2, 0) - seen

    monkeypatch.setattr(made, "velocity", velocity)
    receiver = Pmrf(made, None, PmrfSettings(steps=2, order=order))
    got = receiver.restore(whole, [generator("flow", index) for index in range(3)], 2)
    noise = (got * 2 - 1 - z[:, None]) / 0.1
    assert times == ([0, 0.5] if order == 1 else [0, 0.5, 0.5, 1])
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert abs(float((noise[:, 0] * noise[:, 1]).mean())) < 0.1


def test_links_that_the_flow_does_not_know_are_named(codec: DeepJSCC) -> None:
    with pytest.raises(UserError, match="not 1/12"):
        Pmrf(flow()).restore(arrival(codec, Fraction(1, 12)), [generator(index) for index in range(3)], 1)
