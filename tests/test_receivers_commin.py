"""The CommIN receivers: what every receiver must hold, guidance, the table, calibrated fusion, resuming."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from commin.channels.awgn import Awgn
from commin.codec.deepjscc import DeepJSCC
from commin.codec.reference import LinkConfig
from commin.diffusion.flow import Flow, FlowConfig, flow_from
from commin.diffusion.prior import Prior
from commin.diffusion.sampler import ddpm_step
from commin.diffusion.schedule import Schedule
from commin.errors import UserError
from commin.inn.degradation import Degradation, DegradationConfig
from commin.link import Link
from commin.randomness import generator
from commin.receivers.base import Arrival
from commin.receivers.commin import CommIN, CommINConfig, replaced_distance, zeta
from commin.receivers.commin_fast import CommINFast, start
from commin.receivers.commin_fit import Examples, fit_doubt, fit_fusion, fit_start, fit_weights
from commin.receivers.commin_fusion import Bands, fuse, solve_gains
from commin.receivers.commin_late import CommINLate, CommINLateConfig
from commin.receivers.commin_rows import Rows
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_symbol import CommINSymbol, conjugate_gradients, encoder_of, towards_symbols
from commin.receivers.commin_table import interpolate, interpolate_link, read_settings, write_settings
from commin.receivers.diffcom import DiffCom, DiffComSettings, HiFiSettings
from commin.receivers.guided import gradient_walk
from commin.receivers.pmrf import Pmrf, PmrfSettings
from commin.receivers.sing_inn import SingINN, SingINNSettings
from commin.receivers.sing_zero import SingZero, ZeroSettings
from commin.training.prior import PriorConfig, new_prior
from tests.conftest import smooth_images

BCR = Fraction(1, 48)
SNRS = torch.tensor([-5.0, 0.0, 4.0])
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def prior() -> Prior:
    torch.manual_seed(0)
    config = PriorConfig(widths=(16, 16), attention=(False, False), head=8, groups=8, steps=30)
    return new_prior(config, 16).eval()


@pytest.fixture(scope="module")
def inn() -> Degradation:
    torch.manual_seed(1)
    inn = Degradation(DegradationConfig(bcr="1/48", width=16, blocks=1))
    with torch.no_grad():
        for parameter in inn.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return inn.eval()


def arrival(codec: DeepJSCC, size: int = 16) -> Arrival:
    return Arrival(
        smooth_images(3, size), torch.randn(3, 16, dtype=torch.complex64, generator=generator("z")), SNRS, BCR, codec
    )


def row_of(whole: Arrival, row: int) -> Arrival:
    part = slice(row, row + 1)
    return Arrival(whole.estimate[part], whole.symbols[part], whole.snr_db[part], whole.bcr, whole.codec)


def generators(*keys: object) -> list[torch.Generator]:
    return [generator("test", key) for key in keys]


def fused_settings(steps: int = 4) -> FastSettings:
    def gains(value: float) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(value / (1 + i) + 0.01 * step for i in range(4)) for step in range(3))

    points = (
        FastPoint(
            bcr="1/48",
            snr_db=-5,
            start=0.4,
            cutoff=0.1,
            inn_gains=gains(0.1),
            direct_gains=gains(0.2),
            error=(0.01,) * 4,
        ),
        FastPoint(
            bcr="1/48",
            snr_db=5,
            start=0.8,
            cutoff=0.2,
            detail=1.2,
            inn_gains=gains(0.5),
            direct_gains=gains(0.6),
            error=(0.02,) * 4,
        ),
    )
    return FastSettings(steps=steps, rings=2, points=points)


def two_calls() -> FastSettings:
    """With much noise: a network that is no denoiser takes a step of up to 1/σ², and its rounding along."""
    points = tuple(FastPoint(bcr="1/48", snr_db=snr, weights=(0.1,), noise=0.5 / (6 + snr)) for snr in (-5, 5))
    return FastSettings(steps=3, doubled=2, points=points)


def flow_of(prior: Prior, inn: bool = False, sample: bool = False) -> Flow:
    """A flow from the prior; all its inputs count."""
    link = LinkConfig(reference_psnr_db={"1/48": (19, 23)})
    flow = flow_from(prior, FlowConfig(link=link, inn=inn, sample=sample)).eval()
    first: Tensor = flow.prior.unet.conv_in.weight  # type: ignore[union-attr,assignment]
    with torch.no_grad():
        first.add_(0.1 * torch.randn(first.shape, generator=generator("flow")))
    return flow


Make = Callable[..., Any]
RECEIVERS: dict[str, Make] = {
    "commin": lambda p, i, **more: CommIN(p, i, CommINConfig(limit=2), **more),
    "commin-late": lambda p, i, **more: CommINLate(p, i, CommINLateConfig(steps=5), **more),
    "commin-fast": lambda p, i, **more: CommINFast(p, i, FastSettings(steps=5), **more),
    "fast, order 2": lambda p, i, **more: CommINFast(p, i, FastSettings(steps=5, order=2, spacing="logsnr"), **more),
    "fast, two calls": lambda p, i, **more: CommINFast(p, i, two_calls(), **more),
    "fast, finished": lambda p, i, **more: CommINFast(p, i, two_calls(), finish=flow_of(p, sample=True), **more),
    "fast, fusion": lambda p, i, **more: CommINFast(p, i, fused_settings(), **more),
    "symbol": lambda p, i, **more: CommINSymbol(p, FastSettings(steps=3, limit=2), **more),
    "sing-zero": lambda p, i, **more: SingZero(p, ZeroSettings(steps=3, rings=4, limit=2), **more),
    "sing-inn": lambda p, i, **more: SingINN(p, i, SingINNSettings(steps=4, limit=2), **more),
    "sing-inn, coarse": lambda p, i, **more: SingINN(p, i, SingINNSettings(steps=50, guide="coarse"), **more),
    "diffcom": lambda p, i, **more: DiffCom(p, DiffComSettings(steps=4, limit=2), **more),
    "diffcom-hifi": lambda p, i, **more: DiffCom(p, HiFiSettings(steps=4), **more),
    "pmrf": lambda p, i, **more: Pmrf(flow_of(p, False), None, PmrfSettings(steps=2, limit=2), **more),
    "pmrf-inn": lambda p, i, **more: Pmrf(flow_of(p, True), i, PmrfSettings(steps=3, order=1), **more),
    "fast, no INN": lambda p, i, **more: CommINFast(p, None, FastSettings(steps=3, eta=0, limit=2), **more),
}


@pytest.fixture(params=RECEIVERS.values(), ids=RECEIVERS.keys())
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


# what every receiver must hold


def test_pictures_calls_and_progress(make: Make, prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    seen: list[tuple[int, int]] = []
    passes: list[int] = []
    receiver = make(prior, inn, progress=lambda done, total: seen.append((done, total)))
    networks = [part.prior.unet for part in (receiver, *receiver.children()) if hasattr(part, "prior")]
    hooks = [n.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0]))) for n in networks]
    samples = 1 if getattr(receiver, "finish", None) is not None else 2  # the last call is for one alone
    with torch.no_grad():  # as inside Link
        pictures = receiver.restore(arrival(codec), generators(0, 1, 2), samples)
    for hook in hooks:
        hook.remove()
    assert pictures.shape == (3, samples, 3, 16, 16)
    assert pictures.dtype == torch.float32
    assert torch.isfinite(pictures).all()
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert sum(passes) == 3 * samples * receiver.network_calls
    assert [done for done, _ in seen] == list(range(1, len(passes) + 1))
    assert seen[-1] == (len(passes), len(passes))
    assert not pictures.requires_grad
    assert samples == 1 or (pictures[:, 0] - pictures[:, 1]).abs().max() > 1e-3


def test_rows_do_not_depend_on_the_batch(make: Make, prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    receiver, whole = make(prior, inn), arrival(codec)
    together = receiver.restore(whole, generators(0, 1, 2), 1)
    for row in range(3):
        alone = receiver.restore(row_of(whole, row), generators(row), 1)
        assert (alone[0] - together[row]).abs().max() < 1e-4


def test_same_generators_same_pictures(make: Make, prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    receiver, one = make(prior, inn), row_of(arrival(codec), 1)
    first, again, other = (receiver.restore(one, generators(key), 1) for key in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_wrong_sizes_and_ratios_are_named(make: Make, prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    receiver = make(prior, inn)
    with pytest.raises(UserError, match=r"16×16 pixels.* not 8×8"):
        receiver.restore(arrival(codec, 8), generators(0, 1, 2), 1)
    if getattr(receiver, "inn", None) is not None:
        other = Arrival(smooth_images(3, 16), arrival(codec).symbols, SNRS, Fraction(1, 12), codec)
        with pytest.raises(UserError, match="ρ = 1/48, not 1/12"):
            receiver.restore(other, generators(0, 1, 2), 1)


def test_inside_a_link(codec: DeepJSCC, images: Tensor) -> None:
    torch.manual_seed(0)
    prior = new_prior(PriorConfig(patch=4, widths=(8, 8), attention=(False, False), head=8, groups=4, steps=20), 64)
    inn = Degradation(DegradationConfig(bcr="1/48", width=8, blocks=1))
    receiver = CommINFast(prior, inn, FastSettings(steps=2))
    link = Link(codec, BCR, Awgn(), receiver).to("cpu")
    sent = link.transmit(images, [-5, 0, 5, 20], seed=3, samples=2)
    assert sent.samples.shape == (4, 2, 3, 64, 64)
    alone = link.transmit(images[2:3], 5, seed=3, samples=2)
    assert torch.allclose(alone.samples[0], sent.samples[2], atol=1e-4)


def test_the_weight_counts_in_single_steps_alone(prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    whole = arrival(codec)

    def restored(inn: Degradation | None, weights: tuple[float, ...]) -> Tensor:
        points = tuple(point.model_copy(update={"weights": weights}) for point in two_calls().points)
        settings = two_calls().model_copy(update={"points": points})  # the first two of three steps are doubled
        return CommINFast(prior, inn, settings).restore(whole, generators(0, 1, 2), 1)

    usual = restored(inn, (0.1, 0.1, 0.1))
    assert torch.equal(usual, restored(inn, (0.9, 0.5, 0.1)))
    assert not torch.allclose(usual, restored(inn, (0.1, 0.1, 0.9)))
    assert not torch.allclose(restored(None, (0.1, 0.1, 0.1)), restored(None, (0.9, 0.5, 0.1)))


# samples and naturalness


def test_a_sample_does_not_depend_on_how_many_are_asked_for(prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    receiver = CommINFast(prior, inn, FastSettings(steps=3), naturalness=1.0)
    one, three = (receiver.restore(arrival(codec), generators(0, 1, 2), samples) for samples in (1, 3))
    assert (one[:, 0] - three[:, 0]).abs().max() < 1e-5


def test_naturalness_runs_from_the_estimate_or_the_mean(prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    whole, table = arrival(codec), FastSettings(steps=3)
    plain = CommINFast(prior, inn, table, naturalness=0.0).restore(whole, generators(0, 1, 2), 1)
    assert torch.allclose(plain[:, 0], whole.estimate, atol=1e-6)
    none, full, half = (
        CommINFast(prior, inn, table, naturalness=alpha).restore(whole, generators(0, 1, 2), 3)
        for alpha in (0.0, 1.0, 0.5)
    )
    mean = full.mean(1, keepdim=True)
    assert torch.allclose(none, mean.expand_as(full), atol=1e-6)
    assert torch.allclose(half, (mean + full) / 2, atol=1e-6)


# gradient guidance


class LinearLink:
    """Stands in for an INN: the coarse part is the local mean, exchanged outright."""

    def replace(self, x: Tensor, y: Tensor, weight: float, snr_db: Tensor) -> Tensor:
        return x + weight * F.interpolate(F.avg_pool2d(y - x, 4), scale_factor=4)


class GaussianPrior:
    """Stands in for a prior: pictures of independent samples N(0, ½²)."""

    def __init__(self) -> None:
        self.schedule = Schedule.from_config({"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"})

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        signal = self.schedule.signal(t)
        return 0.25 * signal.sqrt() * x_t / (0.25 * signal + self.schedule.noise(t))


def test_guidance_reduces_the_norm() -> None:
    """Linear and Gaussian: the larger ζ, the nearer the local means come to those received."""
    prior, link = GaussianPrior(), LinearLink()
    rng = torch.Generator().manual_seed(0)
    y = 0.5 * F.interpolate(torch.randn(2, 3, 4, 4, generator=rng), scale_factor=4)
    rows = Rows(y, torch.zeros(2), torch.empty(2, 0), [], lambda: None)
    begin = torch.randn(y.shape, generator=rng)
    draws = torch.randn(100, *y.shape, generator=rng)

    def step(x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return ddpm_step(prior.schedule, x, x0, t, s, draws[int(t[0])])

    times = prior.schedule.timesteps(99, 0, 100)
    norms = []
    for size in (0.0, 0.05, 0.5):
        distance = replaced_distance(link, rows)  # type: ignore[arg-type]
        x = gradient_walk(prior, distance, rows, begin, times, step, torch.full((2, 1, 1, 1), size))
        norms.append(F.avg_pool2d(y - x, 4).flatten(1).norm(dim=1))
    assert (norms[2] < norms[1]).all()
    assert (norms[1] < norms[0]).all()
    assert (norms[2] < 0.5 * norms[0]).all()


def test_zeta_is_the_papers_at_256_pixels_and_a_quarter_at_64() -> None:
    for size in (256, 64):
        rows = Rows(
            torch.zeros(4, 3, size, size), torch.tensor([-20.0, -5.0, 2.5, 5.0]), torch.empty(4, 0), [], lambda: None
        )
        values = zeta(CommINConfig().zeta, rows)
        assert torch.allclose(values.flatten(), torch.tensor([0.3, 0.3, 0.45, 0.5]) * size / 256)


def test_unfinished_pictures_go_on(prior: Prior, inn: Degradation, codec: DeepJSCC, tmp_path: Path) -> None:
    expected = CommIN(prior, inn).restore(arrival(codec), generators(0, 1, 2), 1)

    def interrupt(done: int, total: int) -> None:
        if done == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CommIN(prior, inn, progress=interrupt, resume=tmp_path).restore(arrival(codec), generators(0, 1, 2), 1)
    assert len(list(tmp_path.iterdir())) == 1
    other = CommIN(prior, inn, CommINConfig(zeta={0: 0.1}), resume=tmp_path)
    other.restore(arrival(codec), generators(0, 1, 2), 1)  # other settings: not its file
    passes: list[int] = []
    hook = prior.unet.register_forward_pre_hook(lambda module, inputs: passes.append(1))
    again = CommIN(prior, inn, resume=tmp_path).restore(arrival(codec), generators(0, 1, 2), 1)
    hook.remove()
    assert len(passes) == 5
    assert torch.equal(again, expected)
    assert list(tmp_path.iterdir()) == []


# correction by the symbols


def test_conjugate_gradients_solve_each_row() -> None:
    rng = torch.Generator().manual_seed(0)
    roots = torch.randn(3, 6, 6, generator=rng)
    matrices, b = roots @ roots.mT + torch.eye(6), torch.randn(3, 6, generator=rng)
    found = conjugate_gradients(lambda u: (matrices @ u[..., None])[..., 0], b, 6)
    assert torch.allclose(found, torch.linalg.solve(matrices, b), atol=1e-3)


def test_a_linear_encoder_gives_the_posterior_mean() -> None:
    """x ~ N(x0, r²I), z = Ax + w: x0 + r²Aᵀ(r²AAᵀ + σ²/2·I)⁻¹(z − Ax0)."""
    rng = torch.Generator().manual_seed(0)
    a = 0.1 * torch.randn(4, 12, generator=rng)
    x0, z = 0.2 * torch.randn(2, 3, 2, 2, generator=rng), 0.3 * torch.randn(2, 4, generator=rng)
    snrs, doubt = torch.tensor([0.0, 5.0]), torch.tensor([0.5, 0.1])
    symbols = torch.view_as_complex(z.view(2, 2, 2))
    found = towards_symbols(lambda x: x.flatten(1) @ a.T, x0, symbols, snrs, doubt)
    for row in range(2):
        r2, noise = float(doubt[row]), 0.5 * 10 ** (-float(snrs[row]) / 10)
        inverse = torch.linalg.inv(r2 * a @ a.T + noise * torch.eye(4))
        expected = x0[row].flatten() + r2 * a.T @ inverse @ (z[row] - a @ x0[row].flatten())
        assert torch.allclose(found[row].flatten(), expected, atol=1e-4)


def test_symbols_pull_a_picture_towards_themselves(codec: DeepJSCC) -> None:
    x, other, snrs = smooth_images(2, 32) * 2 - 1, smooth_images(2, 32, seed=1) * 2 - 1, torch.full((2,), 20.0)
    encode = encoder_of(codec, BCR, snrs)
    with torch.no_grad():
        symbols = torch.view_as_complex(encode(x).view(2, -1, 2))
        found = towards_symbols(encode, other, symbols, snrs, torch.full((2,), 1e-3))
        before, after = ((encode(each) - encode(x)).norm(dim=1) for each in (other, found))
    assert (after < before).all()


def test_fitted_doubt_is_the_distance_to_the_picture(prior: Prior, codec: DeepJSCC) -> None:
    x, y = smooth_images(4, 16), smooth_images(4, 16, seed=1)
    with torch.no_grad():
        symbols = codec.encode(x, torch.zeros(4), BCR)
    examples = Examples(x, y, BCR, 0.0, generators(*range(4)), symbols)
    point = fit_doubt(prior, codec, examples, FastSettings(steps=2, limit=3))
    assert len(point.weights) == 2
    assert all(0 < doubt < 4 for doubt in point.weights)


# the table


def test_interpolation_is_linear_inside_and_constant_outside() -> None:
    grid, values = torch.tensor([-5.0, 0.0, 5.0]), torch.tensor([[1.0], [2.0], [6.0]])
    at = torch.tensor([-9.0, -5.0, -2.5, 0.0, 1.0, 5.0, 9.0])
    assert interpolate(grid, values, at).flatten().tolist() == pytest.approx([1, 1, 1.5, 2, 2.8, 6, 6])
    assert interpolate(grid[:1], values[:1], at).flatten().tolist() == [1.0] * 7


def test_link_interpolation_is_linear_in_db_and_in_log_ratio() -> None:
    points = [
        (Fraction(1, 48), 5.0, torch.tensor([3.0])),
        (Fraction(1, 48), -5.0, torch.tensor([1.0])),
        (Fraction(1, 12), 0.0, torch.tensor([8.0])),
    ]
    snrs = torch.tensor([-5.0, 0.0])
    assert interpolate_link(points, Fraction(1, 48), snrs).flatten().tolist() == pytest.approx([1, 2])
    assert interpolate_link(points, Fraction(1, 24), snrs).flatten().tolist() == pytest.approx([4.5, 5])
    assert interpolate_link(points, Fraction(1, 768), snrs).flatten().tolist() == pytest.approx([1, 2])


def test_settings_between_points() -> None:
    chosen = fused_settings(steps=5).at(BCR, torch.tensor([-5.0, 0.0, 50.0]))
    assert chosen.start.tolist() == pytest.approx([0.4, 0.6, 0.8])
    assert chosen.error[:, 0].tolist() == pytest.approx([0.01, 0.015, 0.02])
    assert chosen.weights.shape == (3, 5)
    assert chosen.gains is not None
    assert chosen.gains.shape == (3, 5, 2, 4)
    assert chosen.gains[0, :, 0, 0].tolist() == pytest.approx([0.1, 0.105, 0.11, 0.115, 0.12])
    assert chosen.gains[2, 0, 1].tolist() == pytest.approx([0.6, 0.3, 0.2, 0.15])


def test_each_row_has_its_own_times() -> None:
    schedule = Schedule.from_config({"num_train_timesteps": 1000, "beta_schedule": "linear"})
    times = FastSettings(steps=4, end=0.1).times(schedule, torch.tensor([0.5, 0.8, 0.0001]))
    assert times[:, 0].tolist() == [499, 799, 103]
    assert times[:, -1].tolist() == [100, 100, 100]


def test_settings_are_files(tmp_path: Path) -> None:
    settings = fused_settings()
    write_settings(settings, tmp_path / "table.json")
    assert read_settings(FastSettings, tmp_path / "table.json") == settings
    (tmp_path / "zeta.yaml").write_text("zeta: {-5: 0.2, 5: 0.4}\n")
    assert read_settings(CommINConfig, tmp_path / "zeta.yaml").zeta == {-5: 0.2, 5: 0.4}
    for text, message in (("stepps: 3", "stepps: .*the keys are steps"), ("steps: 0", "greater than 0"), ("[", "YAML")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            read_settings(FastSettings, tmp_path / "bad.yaml")
    with pytest.raises(UserError, match="no such file"):
        read_settings(FastSettings, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "points",
    [
        [{"weights": (0.1,)}, {"snr_db": 5, "weights": (0.1, 0.2)}],
        [{}, {}],
        [{"inn_gains": ((0.1, 0.1),), "direct_gains": ((0.1, 0.1),)}],
        [{"inn_gains": ((0.1,) * 16,)}],
        [{"error": (0.1,)}],
    ],
)
def test_tables_that_do_not_fit_are_refused(points: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError):
        FastSettings(points=tuple(FastPoint(**{"bcr": "1/48", "snr_db": 0, **point}) for point in points))


def test_a_fitted_point_keeps_its_noise(prior: Prior, inn: Degradation, codec: DeepJSCC) -> None:
    whole = arrival(codec)
    examples = Examples(whole.estimate, whole.estimate, BCR, 5.0, generators(0, 1, 2))
    point = fit_weights(prior, inn, examples, two_calls())
    assert point.noise == pytest.approx(two_calls().points[1].noise)


def test_doubled_steps_need_a_noise() -> None:
    assert FastSettings(steps=3).calls == 3
    assert two_calls().calls == 5
    with pytest.raises(ValidationError):
        FastSettings(doubled=1)


# calibrated fusion


def test_bands_are_orthonormal_and_complete() -> None:
    bands = Bands(16, 24, 3, CPU)
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    coefficients = bands.transform(x)
    assert coefficients.norm() == pytest.approx(float(x.norm()), rel=1e-5)
    assert torch.allclose(bands.inverse(coefficients), x, atol=1e-5)
    values = torch.rand(2, bands.count, generator=torch.Generator().manual_seed(1))
    for row in range(2):
        assert torch.allclose(bands.mean(bands.spread(values)[row : row + 1]), values[row], atol=1e-5)
    grey = bands.transform(torch.full((1, 3, 16, 24), 0.5))
    assert grey[0, 0, 0, 0] == pytest.approx(0.5 * (3 * 16 * 24) ** 0.5, rel=1e-5)
    assert grey.flatten()[1:].abs().max() < 1e-4


def test_gains_are_recovered() -> None:
    bands, rng = Bands(16, 16, 2, CPU), torch.Generator().manual_seed(0)
    x0, a, b = torch.randn(3, 8, 3, 16, 16, generator=rng)
    gains = torch.tensor([[[0.1, 0.5, 0.3, 0.0], [0.7, 0.2, 0.0, 1.0]]])
    x = fuse(bands, x0, a, b, gains.expand(8, -1, -1)) + 0.01 * torch.randn(x0.shape, generator=rng)
    assert torch.allclose(solve_gains(bands, x - x0, a, b), gains[0], atol=0.01)
    alone = solve_gains(bands, x - x0, torch.zeros_like(a), b)
    assert torch.equal(alone[0], torch.zeros(4))
    twice = solve_gains(bands, b, b, b)
    assert torch.allclose(twice, torch.full((2, 4), 0.5), atol=1e-3)


class Blank(nn.Module):
    """Stands in for a U-Net that knows nothing: its picture is grey."""

    def __init__(self) -> None:
        super().__init__()
        self.config = {"in_channels": 12, "sample_size": 8}
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, planes: Tensor, t: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (planes * 0,)


def test_fitted_gains_bring_the_picture_nearer(inn: Degradation) -> None:
    """With a prior that knows nothing the fit is a Wiener filter of y: better than y and than fixed weights."""
    prior = Prior(Blank(), {"num_train_timesteps": 30, "prediction_type": "sample"})
    x = smooth_images(24, 16, seed=4)
    y = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))).clamp(0, 1)
    settings = FastSettings(steps=4, rings=4, limit=7)
    examples = Examples(x[:16], y[:16], BCR, 0.0, generators(*range(16)))
    point = fit_fusion(prior, inn, examples, settings)
    assert len(point.inn_gains) == len(point.direct_gains) == 4
    table = settings.model_copy(update={"points": (point,)})
    FastSettings.model_validate(table.model_dump())
    received = Arrival(y[16:], torch.zeros(8, 4, dtype=torch.complex64), torch.zeros(8), BCR, None)  # type: ignore[arg-type]

    def error(chosen: FastSettings) -> float:
        got = CommINFast(prior, inn, chosen).restore(received, generators(*range(8)), 1)
        return float((got[:, 0] - x[16:]).square().mean())

    assert error(table) < 0.5 * error(settings)
    assert error(table) < 0.8 * float((y - x)[16:].square().mean())


def test_fit_is_that_of_one_chunk(prior: Prior, inn: Degradation) -> None:
    x, y = smooth_images(5, 16, seed=4), smooth_images(5, 16, seed=6)
    points = [
        fit_fusion(
            prior, inn, Examples(x, y, BCR, 0.0, generators(*range(5))), FastSettings(steps=2, rings=2, limit=limit)
        )
        for limit in (2, 64)
    ]
    for a, b in zip(points[0].inn_gains, points[1].inn_gains, strict=True):
        assert a == pytest.approx(b, abs=1e-3)


def test_weights_grow_with_what_y_is_worth(prior: Prior, inn: Degradation) -> None:
    x = smooth_images(8, 16, seed=4)
    with torch.no_grad():
        coarse = inn(x, torch.zeros(8))[0]
    fitted = []
    for deviation in (0.02, 0.2):
        y = coarse + deviation * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
        point = fit_weights(prior, inn, Examples(x, y, BCR, 0.0, generators(*range(8))), FastSettings(steps=3))
        assert all(0 <= weight <= 1 for weight in point.weights)
        fitted.append(point.weights)
    assert fitted[0][0] > 0.9
    assert fitted[1][0] < fitted[0][0]


def test_whitened_start_is_white(prior: Prior) -> None:
    """y's error plus the start's noise has variance 1 − ᾱ in every band, at the lowest level where it can."""
    schedule, settings = prior.schedule, FastSettings(rings=2)
    bands, rng = settings.bands(torch.zeros(1, 3, 16, 16)), torch.Generator().manual_seed(0)
    shape, error = (400, 3, 16, 16), torch.tensor([[0.2, 0.05, 0.02, 0.01]])
    x = torch.rand(shape, generator=rng)
    noise = bands.inverse(bands.spread(error).sqrt() * bands.transform(torch.randn(shape, generator=rng)))
    y = x + noise / 2
    point = fit_start(schedule, Examples(x, y, BCR, 0.0, []), FastPoint(bcr="1/48", snr_db=0), settings)
    assert point.error == pytest.approx(error[0].tolist(), rel=0.1)
    t = torch.full((400,), round(point.start * schedule.steps) - 1)
    assert schedule.noise(t)[0] >= schedule.signal(t)[0] * max(point.error)
    assert schedule.noise(t - 1)[0] < schedule.signal(t - 1)[0] * max(point.error)
    spread = torch.tensor(point.error).expand(400, -1)
    x_t = start(schedule, 2 * y - 1, torch.randn(shape, generator=rng), t, spread, bands)
    left = bands.mean(bands.transform(x_t - schedule.signal(t).sqrt() * (2 * x - 1)).square())
    assert left.tolist() == pytest.approx([schedule.noise(t)[0].item()] * 4, rel=0.05)


def test_plain_start_is_noised_y(prior: Prior) -> None:
    y, noise, t = torch.zeros(2, 3, 16, 16), torch.randn(2, 3, 16, 16), torch.tensor([3, 20])
    bands = Bands(16, 16, 2, CPU)
    plain = start(prior.schedule, y, noise, t, torch.zeros(2, 4), bands)
    assert torch.allclose(plain, prior.schedule.add_noise(y, noise, t), atol=1e-5)
