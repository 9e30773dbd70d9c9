"""The prior and its samplers: against diffusers, against closed forms of Gaussian pictures, and as files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commin.diffusion.guidance import norm_gradient
from commin.diffusion.prior import Prior, load_prior, save_prior
from commin.diffusion.sampler import ddim_step, ddpm_step, normal, second_order, walk
from commin.diffusion.schedule import CLEAN, Schedule
from commin.errors import UserError
from commin.training.prior import PriorConfig, new_prior

COSINE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
LINEAR = {"num_train_timesteps": 1000, "beta_schedule": "linear"}
ZERO_SNR = {**COSINE, "rescale_betas_zero_snr": True}
TINY = PriorConfig(widths=(16, 16), attention=(False, True), head=8, groups=8)


def gaussian(count: int, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


class FixedOutput(nn.Module):
    """Stands in for a U-Net: puts out the planes it is given beforehand."""

    def __init__(self, planes: Tensor) -> None:
        super().__init__()
        self.config = {"in_channels": planes.shape[1], "sample_size": planes.shape[-1]}
        self.planes = nn.Parameter(planes)

    def forward(self, planes: Tensor, t: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (self.planes,)


# schedule


@pytest.mark.parametrize(
    "config",
    [COSINE, LINEAR, ZERO_SNR, {**LINEAR, "beta_schedule": "scaled_linear"}, {**LINEAR, "beta_schedule": "sigmoid"}],
)
def test_schedule_is_that_of_diffusers(config: dict[str, Any]) -> None:
    from diffusers import DDPMScheduler

    expected = DDPMScheduler(**config).alphas_cumprod
    schedule = Schedule.from_config({**config, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"})
    t = torch.arange(1000)
    assert torch.equal(schedule.signal(t).flatten(), expected)
    assert torch.allclose(schedule.noise(t).flatten(), 1 - expected, atol=1e-7)
    assert schedule.signal(torch.tensor([CLEAN])).item() == 1
    assert schedule.noise(torch.tensor([CLEAN])).item() == 0


def test_trained_betas_are_kept() -> None:
    betas = [0.1, 0.2, 0.3]
    schedule = Schedule.from_config({"num_train_timesteps": 3, "trained_betas": betas})
    assert schedule.signal(torch.tensor([2])).item() == pytest.approx(0.9 * 0.8 * 0.7, rel=1e-5)


@pytest.mark.parametrize("spacing", ["uniform", "logsnr"])
@pytest.mark.parametrize("config", [COSINE, ZERO_SNR])
def test_times_fall_strictly(config: dict[str, Any], spacing: Any) -> None:
    schedule = Schedule.from_config(config)
    for start, end, count in ((999, 0, 1000), (999, 0, 50), (500, 20, 12), (11, 0, 12), (300, 0, 1), (998, 5, 4)):
        times = schedule.timesteps(start, end, count, spacing)
        assert len(times) == count
        assert times[0] == start
        assert count == 1 or times[-1] == end
        assert (times.diff() < 0).all()


@pytest.mark.parametrize(("start", "end", "count"), [(10, 0, 12), (1000, 0, 5), (5, 6, 1), (5, 0, 0)])
def test_impossible_times_are_refused(start: int, end: int, count: int) -> None:
    with pytest.raises(ValueError, match="levels"):
        Schedule.from_config(COSINE).timesteps(start, end, count)


def test_lowest_level_of_a_noise() -> None:
    schedule = Schedule.from_config(COSINE)
    t = schedule.lowest(0.25)
    here, below = (schedule.noise(torch.tensor([s])) / schedule.signal(torch.tensor([s])) for s in (t, t - 1))
    assert below < 0.25 <= here
    assert schedule.lowest(0.0) == 0
    assert schedule.lowest(float("inf")) == 999


# what a network predicts


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_gives_the_same_picture(prediction: str, patch: int) -> None:
    x, noise = gaussian(6).clamp(-1, 1), gaussian(6, seed=1)
    t = torch.tensor([0, 10, 200, 500, 800, 950])
    schedule = Schedule.from_config(COSINE)
    x_t = schedule.add_noise(x, noise, t)
    probe = Prior(
        FixedOutput(torch.zeros(6, 3 * patch**2, 8 // patch, 8 // patch)), {**COSINE, "prediction_type": prediction}
    )
    right = F.pixel_unshuffle(probe.target(x, noise, t), patch)
    prior = Prior(FixedOutput(right), {**COSINE, "prediction_type": prediction})
    assert prior.patch == patch
    assert prior.size == 8
    x0 = prior.denoise(x_t, t)
    assert (x0 - x).abs().max() < 1e-4
    assert (schedule.noise_in(x_t, x0, t) - noise)[1:].abs().max() < 2e-3


def test_velocity_needs_no_division_at_the_noisiest_level() -> None:
    """Where ᾱ = 0 the v-prediction of x is −x exactly, and ε leaves a finite picture."""
    x, noise, t = gaussian(2).clamp(-1, 1), gaussian(2, seed=1), torch.tensor([999, 999])
    for prediction, output in (("v_prediction", -x), ("epsilon", noise)):
        prior = Prior(FixedOutput(output), {**ZERO_SNR, "prediction_type": prediction})
        x0 = prior.denoise(noise, t)
        assert torch.isfinite(x0).all()
        assert prediction == "epsilon" or torch.allclose(x0, x, atol=1e-6)


def test_network_sees_orthonormal_planes_and_the_scheduler_time() -> None:
    prior = new_prior(TINY, 16).eval()
    x_t, t = gaussian(2, 16), torch.tensor([3, 700])
    planes = F.pixel_unshuffle(x_t, 2)
    assert planes.shape == (2, 12, 8, 8)
    assert planes.norm() == pytest.approx(float(x_t.norm()), rel=1e-6)
    with torch.no_grad():
        expected = F.pixel_shuffle(prior.unet(planes, t).sample, 2)
        assert torch.equal(prior.output(x_t, t), expected)


def test_learned_variances_are_dropped() -> None:
    x = gaussian(1).clamp(-1, 1)
    unet = FixedOutput(torch.cat([x, 100 * x], dim=1))
    unet.config["in_channels"] = 3
    assert torch.equal(Prior(unet, {**COSINE, "prediction_type": "sample"}).denoise(x, torch.tensor([5])), x)


# samplers


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_step_is_that_of_diffusers(eta: float) -> None:
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(**COSINE, clip_sample=False, prediction_type="sample", set_alpha_to_one=True)
    theirs.set_timesteps(20)
    schedule = Schedule.from_config(COSINE)
    x_t, x0, noise = gaussian(1), gaussian(1, seed=1), gaussian(1, seed=2)
    for t in theirs.timesteps.tolist():
        expected = theirs.step(x0, t, x_t, eta=eta, variance_noise=noise if eta else None).prev_sample
        s = torch.tensor([max(t - 50, CLEAN)])
        assert torch.allclose(ddim_step(schedule, x_t, x0, torch.tensor([t]), s, noise, eta), expected, atol=2e-5)


def test_ddpm_step_is_that_of_diffusers_and_ddim_with_eta_1() -> None:
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(**COSINE, clip_sample=False, prediction_type="sample")
    schedule = Schedule.from_config(COSINE)
    x_t, x0 = gaussian(1), gaussian(1, seed=1)
    for level in (999, 998, 500, 30, 1, 0):
        expected = theirs.step(x0, level, x_t, generator=torch.Generator().manual_seed(5)).prev_sample
        noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5))
        t, s = torch.tensor([level]), torch.tensor([level - 1])
        ours = ddpm_step(schedule, x_t, x0, t, s, noise)
        assert torch.allclose(ours, expected, atol=1e-4, rtol=1e-4)
        assert torch.allclose(ours, ddim_step(schedule, x_t, x0, t, s, noise, 1.0), atol=1e-4, rtol=1e-4)


def ideal_denoiser(schedule: Schedule, mean: float, deviation: float) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x | x_t] of pictures whose samples are independent N(mean, deviation²)."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = schedule.signal(t), schedule.noise(t)
        return (mean * noise + deviation**2 * signal.sqrt() * x_t) / (deviation**2 * signal + noise)

    return denoise


@pytest.mark.parametrize(
    ("eta", "order", "steps"), [(1.0, 1, 250), (0.5, 1, 250), (0.0, 1, 250), (0.0, 2, 25), (1.0, 2, 60)]
)
def test_samplers_reproduce_gaussian_pictures(eta: float, order: int, steps: int) -> None:
    schedule = Schedule.from_config(COSINE)
    denoise = ideal_denoiser(schedule, 0.3, 0.4)
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 32, 32, generator=rng)
    times = schedule.timesteps(999, 0, steps, "logsnr").expand(4, -1)
    sampled = walk(schedule, denoise, x, times, lambda: torch.randn(x.shape, generator=rng), eta, order)
    assert sampled.mean().item() == pytest.approx(0.3, abs=0.02)
    assert sampled.std().item() == pytest.approx(0.4, rel=0.05)


def test_algorithm_of_the_paper_reproduces_gaussian_pictures() -> None:
    schedule = Schedule.from_config(COSINE)
    denoise = ideal_denoiser(schedule, -0.2, 0.5)
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, 48, 48, generator=rng)
    for level in reversed(range(schedule.steps)):
        t, s = torch.tensor([level]), torch.tensor([level - 1])
        x = ddpm_step(schedule, x, denoise(x, t), t, s, torch.randn(x.shape, generator=rng))
    assert x.mean().item() == pytest.approx(-0.2, abs=0.02)
    assert x.std().item() == pytest.approx(0.5, rel=0.03)


def test_second_order_is_nearer_the_exact_path() -> None:
    """The probability-flow path of Gaussian pictures is known: x_T scaled by the ratio of standard deviations."""
    schedule = Schedule.from_config(COSINE)
    denoise = ideal_denoiser(schedule, 0.0, 0.5)
    start, x = torch.tensor([900]), gaussian(1)
    exact = x * 0.5 / (0.25 * schedule.signal(start) + schedule.noise(start)).sqrt()
    times = schedule.timesteps(900, 0, 12, "logsnr").unsqueeze(0)
    errors = [(walk(schedule, denoise, x, times, lambda: x, order=order) - exact).norm() for order in (1, 2)]
    assert errors[1] < 0.4 * errors[0]


def test_second_order_goes_straight_at_the_end() -> None:
    schedule = Schedule.from_config(COSINE)
    x0, previous = gaussian(1), gaussian(1, seed=1)
    times = [torch.tensor([t]) for t in (200, 100, CLEAN)]
    assert torch.equal(second_order(schedule, x0, previous, *times), x0)


def test_walk_counts_calls_and_takes_corrections() -> None:
    schedule = Schedule.from_config(COSINE)
    calls: list[list[int]] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t.tolist())
        return x

    times = torch.tensor([[400, 200, 0], [900, 100, 50]])
    aim = gaussian(2, seed=3)
    out = walk(schedule, denoise, gaussian(2), times, lambda: gaussian(2), correct=lambda step, x0: aim + step)
    assert calls == [[400, 900], [200, 100], [0, 50]]
    assert torch.equal(out, aim + 2)


def test_noise_of_a_row_is_its_own() -> None:
    def rows(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    cpu = torch.device("cpu")
    assert torch.equal(normal((3, 4, 4), rows(1, 2, 3), cpu)[1:2], normal((3, 4, 4), rows(2), cpu))


# guidance


def test_norm_gradient_is_of_the_norm_not_squared_for_each_picture() -> None:
    schedule = Schedule.from_config(COSINE)
    denoise, t = ideal_denoiser(schedule, 0.0, 0.5), torch.tensor([300, 700])
    x, y = gaussian(2), gaussian(2, seed=1)
    x0, gradient, norms = norm_gradient(denoise, lambda x0: y - x0, x, t)
    slope = 0.25 * schedule.signal(t).sqrt() / (0.25 * schedule.signal(t) + schedule.noise(t))
    assert torch.allclose(gradient, slope * (x0 - y) / norms[:, None, None, None], atol=1e-5)
    assert torch.allclose(norms, (y - x0).flatten(1).norm(dim=1))


def test_norm_gradient_is_zero_where_nothing_is_wrong_and_works_without_grad_outside() -> None:
    with torch.no_grad():
        _, gradient, norms = norm_gradient(lambda x, t: x, lambda x0: x0 * 0, gaussian(1), torch.tensor([5]))
    assert norms.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


# files


def test_saved_prior_is_a_diffusers_folder_that_loads_the_same(tmp_path: Path) -> None:
    from diffusers import DDPMScheduler, UNet2DModel

    prior = new_prior(TINY, 16).eval()
    for _ in range(2):  # the second takes the place of the first
        save_prior(prior, tmp_path / "prior", torch.float32)
    x, t = gaussian(2, 16), torch.tensor([10, 600])
    with torch.no_grad():
        expected = prior.denoise(x, t)
        assert torch.allclose(load_prior(tmp_path / "prior").denoise(x, t), expected, atol=1e-5)
        unet = UNet2DModel.from_pretrained(tmp_path / "prior" / "unet")
        assert torch.allclose(
            unet(F.pixel_unshuffle(x, 2), t).sample, F.pixel_unshuffle(prior.output(x, t), 2), atol=1e-5
        )
    assert DDPMScheduler.from_pretrained(tmp_path / "prior" / "scheduler").config.prediction_type == "v_prediction"
    assert [path.name for path in tmp_path.iterdir()] == ["prior"]
    assert str(tmp_path) not in (tmp_path / "prior" / "unet" / "config.json").read_text()


def test_flat_folder_and_half_precision_load(tmp_path: Path) -> None:
    prior = new_prior(TINY, 16).eval()
    save_prior(prior, tmp_path / "prior")
    for path in (tmp_path / "prior").glob("*/*"):
        path.rename(tmp_path / "prior" / path.name)
    x, t = gaussian(2, 16), torch.tensor([10, 600])
    with torch.no_grad():
        rounded = load_prior(tmp_path / "prior", torch.bfloat16).denoise(x, t)
        assert rounded.dtype == torch.float32
        assert (rounded - prior.denoise(x, t)).abs().max() < 0.1


def spoil_class(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')


def spoil_json(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text("{")


def spoil_prediction(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "flow"}')


def spoil_weights(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")


def spoil_width(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block_out_channels": [8, 16]}))


def spoil_channels(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": 5}))


def spoil_labels(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_class_embeds": 10}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_class, "must be a UNet2DModel"),
        (spoil_json, "cannot be read as JSON"),
        (spoil_prediction, "predicts 'flow'"),
        (spoil_weights, "not a usable prior"),
        (spoil_width, "weights do not fit"),
        (spoil_channels, r"3·p²"),
        (spoil_labels, "class label"),
        (lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "no diffusion_pytorch"),
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), "no scheduler/scheduler_config"),
    ],
)
def test_unusable_folders_are_named(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    save_prior(new_prior(TINY, 16), tmp_path / "prior")
    spoil(tmp_path / "prior")
    with pytest.raises(UserError, match=message):
        load_prior(tmp_path / "prior")


def test_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_prior(tmp_path / "none")
