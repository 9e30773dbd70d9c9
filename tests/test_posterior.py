"""E[x | x_t, y] by two calls of a denoiser: exact where everything is Gaussian, and without a gradient through it."""

import torch
from torch import Tensor

from commin.diffusion.schedule import Schedule
from commin.receivers.posterior import derivative, for_first, posterior_mean, products

SPREAD = 0.3
"""Variance of a sample of x."""

SCHEDULE = Schedule.from_config({"num_train_timesteps": 100, "beta_schedule": "linear"})
T = torch.tensor([20, 60])


def denoise(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x | x_t] for x ~ N(0, SPREAD·I)."""
    signal, noise = SCHEDULE.signal(t), SCHEDULE.noise(t)
    return signal.sqrt() * SPREAD / (signal * SPREAD + noise) * x_t


def draws(count: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 8, 8, generator=rng) for _ in range(count)]


def test_exact_for_a_gaussian_measured_in_part() -> None:
    x, n, e = draws(3)
    x = SPREAD**0.5 * x
    seen = (torch.arange(64).view(8, 8) % 3 == 0).float()
    variance = torch.tensor([0.1, 0.4])
    x_t, y = SCHEDULE.add_noise(x, n, T), seen * (x + variance.sqrt()[:, None, None, None] * e)
    got = posterior_mean(denoise, SCHEDULE, lambda x: seen * x, y, variance)(x_t, T)
    # a product of Gaussians: precisions add, of the prior, of x_t and, where it is seen, of y
    signal, noise = SCHEDULE.signal(T), SCHEDULE.noise(T)
    sigma2 = variance[:, None, None, None]
    precision = 1 / SPREAD + signal / noise + seen / sigma2
    right = (signal.sqrt() / noise * x_t + seen * y / sigma2) / precision
    assert (got - right).abs().max() < 1e-3
    assert (got - denoise(x_t, T)).abs().max() > 0.1


def test_no_noise_is_met_and_much_noise_is_ignored() -> None:
    x, n = draws(2)
    x_t = SCHEDULE.add_noise(x, n, T)
    for variance, wanted in ((1e-6, x), (1e6, denoise(x_t, T))):
        got = posterior_mean(denoise, SCHEDULE, lambda x: x, x, torch.full((2,), variance))(x_t, T)
        assert (got - wanted).abs().max() < 1e-2


def test_two_calls_none_with_a_gradient() -> None:
    calls: list[bool] = []

    def counted(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(x_t.requires_grad or torch.is_grad_enabled())
        return denoise(x_t, t)

    x, y = draws(2)
    with torch.no_grad():
        got = posterior_mean(counted, SCHEDULE, torch.tanh, y, torch.ones(2))(x, T)
    assert calls == [False, False]
    assert not got.requires_grad


def test_one_denoiser_after_another() -> None:
    one, two = (lambda x, t, add=add: x + add for add in (1, 2))
    both = for_first(2, one, two)
    assert [float(both(torch.zeros(()), T)) for _ in range(4)] == [1, 1, 2, 2]


def test_nothing_to_correct() -> None:
    (x,) = draws(1)
    x0 = denoise(x, T)
    got = posterior_mean(denoise, SCHEDULE, lambda x: x, x0, torch.ones(2))(x, T)
    assert torch.equal(got, x0)


def test_derivatives_and_products_of_rows() -> None:
    x, v = draws(2)
    got = derivative(lambda x: x.square(), x, x.square(), 1e-3 * v)
    assert (got - 2e-3 * x * v).norm() < 0.05 * got.norm()
    assert torch.allclose(products(x, v)[:, 0, 0, 0], torch.stack([(a * b).sum() for a, b in zip(x, v, strict=True)]))
