"""InverseJSCC: a known picture is found again, phases help, rows do not touch each other, the record."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from commin.channels.awgn import Awgn
from commin.codec.deepjscc import DeepJSCC
from commin.errors import UserError
from commin.link import Link
from commin.randomness import generator as seeded
from commin.receivers.base import Arrival
from commin.receivers.inverse_jscc import InverseJSCC, InverseSettings
from commin.stylegan2.generator import Generator, GeneratorConfig
from commin.stylegan2.ilo import Ilo, IloConfig, gaussian_fit, geocross, ramp

QUICK = {"steps": (12, 6, 4), "rates": (0.1, 0.1, 0.1), "fit_samples": 500}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(blocks: int = 3, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    made = Generator(GeneratorConfig(widths=(16, 12, 8, 8, 8)[:blocks], style_dim=16, mapping_layers=2)).eval()
    with torch.no_grad():
        for key, value in made.named_parameters():
            if key.endswith("strength"):
                value.fill_(0.05)
    return made


def sources(*seeds: int) -> list[torch.Generator]:
    return [seeded("test", seed) for seed in seeds]


def blurred(a: Tensor, b: Tensor) -> Tensor:
    """A stand-in for LPIPS."""
    return (F.avg_pool2d(a, 4) - F.avg_pool2d(b, 4)).abs().mean((1, 2, 3))


def arrival(estimate: Tensor, codec: DeepJSCC) -> Arrival:
    count = len(estimate)
    return Arrival(estimate, torch.zeros(count, 64, dtype=torch.complex64), torch.zeros(count), Fraction(1, 192), codec)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny()


@pytest.fixture(scope="module")
def known(generator: Generator) -> Tensor:
    """Three pictures that the generator can make."""
    with torch.no_grad():
        return generator(torch.randn(3, 16, generator=seeded("known"))).clamp(0, 1)


@pytest.mark.parametrize("lpips", [None, blurred])
def test_a_known_picture_is_found_again(
    generator: Generator, known: Tensor, lpips: Callable[[Tensor, Tensor], Tensor] | None
) -> None:
    losses = {}
    for name, steps in {"start": (1,), "w": (40,), "w and layers": (40, 20, 10)}.items():
        config = IloConfig(steps=steps, rates=(0.1,) * len(steps), fit_samples=500)
        losses[name] = Ilo(generator, config, lpips).invert(known, sources(1, 2, 3)).loss
    assert (losses["w"] < 0.3 * losses["start"]).all()
    assert (losses["w and layers"] < losses["w"]).all()


def test_the_point_makes_the_picture(generator: Generator, known: Tensor) -> None:
    ilo = Ilo(generator, IloConfig(**QUICK), None)
    found = ilo.invert(known, sources(1, 2, 3))
    point = found.point
    _, picture = generator.run(ilo.styles(point.latents), point.noises, 2, None, point.features, point.skip)
    assert torch.allclose((picture + 1) / 2, found.images, atol=1e-5)
    assert torch.allclose(4 * (found.images - known).square().mean((1, 2, 3)), found.loss, rtol=1e-4)
    begin = ilo.start(sources(1, 2, 3))
    assert torch.allclose(point.latents.norm(dim=2), begin.latents.norm(dim=2), rtol=1e-4)
    for now, then in zip(point.noises, begin.noises, strict=True):
        assert torch.allclose(now.norm(dim=(2, 3)), then.norm(dim=(2, 3)), rtol=1e-4)


def test_each_part_can_be_switched_off(generator: Generator, known: Tensor) -> None:
    begin = Ilo(generator, IloConfig(**QUICK), None).start(sources(1, 2, 3))
    still = Ilo(generator, IloConfig(**QUICK, noises=False), None).invert(known, sources(1, 2, 3)).point
    assert all(torch.equal(now, then) for now, then in zip(still.noises, begin.noises, strict=True))
    loose = Ilo(generator, IloConfig(**QUICK, project=False), None).invert(known, sources(1, 2, 3)).point
    assert not torch.allclose(loose.latents.norm(dim=2), begin.latents.norm(dim=2), rtol=1e-3)
    skipped = IloConfig(steps=(12, 0, 6), rates=(0.1, 0.1, 0.1), fit_samples=500)
    found = Ilo(generator, skipped, None).invert(known, sources(1, 2, 3))
    assert found.point.features is not None
    assert found.point.features.shape[1:] == (12, 8, 8)


def test_batch_and_order_do_not_matter(codec: DeepJSCC, generator: Generator, known: Tensor) -> None:
    for extra in ({}, {"patience": 3, "gain": 0.05}, {"restarts": 2}):
        receiver = InverseJSCC(generator, IloConfig(**QUICK, **extra, batch=4), blurred)
        together = receiver.restore(arrival(known, codec), sources(1, 2, 3), 2)
        assert together.shape == (3, 2, 3, 16, 16)
        for row in range(3):
            alone = receiver.restore(arrival(known[row : row + 1], codec), sources(row + 1), 2)
            assert torch.equal(alone[0], together[row])
        turned = receiver.restore(arrival(known.flip(0), codec), sources(3, 2, 1), 2)
        assert torch.equal(turned.flip(0), together)
        parts = InverseJSCC(generator, IloConfig(**QUICK, **extra, batch=3), blurred)
        assert torch.allclose(parts.restore(arrival(known, codec), sources(1, 2, 3), 2), together, atol=1e-4)
        assert (together[:, 0] - together[:, 1]).abs().amax() > 1e-3  # samples begin elsewhere


def test_restarts_help_and_early_stop_saves(generator: Generator, known: Tensor) -> None:
    one, four = (
        Ilo(generator, IloConfig(steps=(8,), rates=(0.1,), restarts=count, fit_samples=500), None) for count in (1, 4)
    )
    assert four.config.network_calls == 32
    assert (four.invert(known, sources(1, 2, 3)).loss <= one.invert(known, sources(1, 2, 3)).loss + 1e-6).all()
    seen: list[int] = []
    patient = IloConfig(steps=(60,), rates=(0.1,), patience=4, gain=0.5, fit_samples=500)
    Ilo(generator, patient, None).invert(known, sources(1, 2, 3), seen.append)
    assert seen
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) < 60


def test_the_record_and_the_progress(codec: DeepJSCC, generator: Generator, known: Tensor) -> None:
    assert InverseJSCC(generator, IloConfig(**QUICK)).loss_name == "mse"
    assert InverseJSCC(generator, IloConfig(**QUICK, lpips=0.0), blurred).loss_name == "mse"
    seen: list[tuple[int, int]] = []
    receiver = InverseJSCC(
        generator, IloConfig(**QUICK, batch=2), blurred, lambda done, total: seen.append((done, total))
    )
    assert (receiver.name, receiver.loss_name, receiver.network_calls) == ("inverse-jscc", "mse+lpips", 22)
    receiver.restore(arrival(known, codec), sources(1, 2, 3), 1)
    assert seen == [(done, 44) for done in range(1, 45)]
    assert not any(value.requires_grad for value in receiver.parameters())


def test_on_the_link(codec: DeepJSCC, images: Tensor) -> None:
    config = IloConfig(steps=(3, 2), rates=(0.1, 0.1), fit_samples=500)
    link = Link(codec, Fraction(1, 48), Awgn(), InverseJSCC(tiny(5), config, blurred))
    sent = link.transmit(images, 0.0, seed=3, samples=2)
    assert sent.samples.shape == (4, 2, 3, 64, 64)
    assert sent.samples.dtype == torch.float32
    assert sent.samples.min() >= 0
    assert sent.samples.max() <= 1
    assert torch.equal(link.transmit(images, 0.0, seed=3, samples=2).samples, sent.samples)
    with torch.inference_mode():
        inside = link.transmit(images[:1], 0.0, seed=3, samples=2)
    assert torch.allclose(inside.samples, sent.samples[:1], atol=1e-4)


def test_a_larger_generator_is_averaged_down(codec: DeepJSCC, generator: Generator) -> None:
    smaller = torch.rand(1, 3, 8, 8, generator=seeded("small"))
    sizes: list[int] = []

    def watching(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(a.shape[3])
        return blurred(a, b)

    receiver = InverseJSCC(generator, IloConfig(**QUICK, lpips_size=4), watching)
    assert receiver.restore(arrival(smaller, codec), sources(1), 1).shape == (1, 1, 3, 8, 8)
    assert set(sizes) == {4}
    for shape in ((1, 3, 32, 32), (1, 3, 16, 8)):
        with pytest.raises(UserError, match="16×16 pixels and cannot match"):
            receiver.restore(arrival(torch.rand(shape), codec), sources(1), 1)


def test_gaussian_fit_and_proxy(generator: Generator) -> None:
    mean, std = gaussian_fit(generator, 4000)
    w = generator.mapping(torch.randn(4000, 16, generator=seeded("other draws")))
    before = torch.where(w < 0, 5 * w, w)
    assert torch.allclose(mean, before.mean(0), atol=0.25)
    assert torch.allclose(std, before.std(0), rtol=0.1)
    ilo = Ilo(generator, IloConfig(fit_samples=4000, steps=(1,), rates=(0.1,)), None)
    made = ilo.styles(torch.randn(4000, 6, 16, generator=seeded("proxy")))
    assert torch.allclose(made.mean((0, 1)), w.mean(0), atol=0.25)


def test_geocross_and_ramp() -> None:
    rows = torch.randn(2, 1, 12).expand(2, 5, 12)
    assert torch.allclose(geocross(rows), torch.zeros(2), atol=1e-4)
    opposite = torch.cat([rows[:, :1], -rows[:, :1]], dim=1)
    assert torch.allclose(geocross(opposite), torch.full((2,), torch.pi**2 / 2 * 12 / 8), rtol=1e-3)
    assert ramp(0.0, 0.05, 0.75) == 0
    assert ramp(0.1, 0.05, 0.75) == 1
    assert ramp(0.025, 0.05, 0.75) == pytest.approx(0.5)
    assert ramp(0.625, 0.05, 0.75) == pytest.approx(0.5)
    assert ramp(1.0, 0.05, 0.75) == 0


def test_configs_that_cannot_be(generator: Generator) -> None:
    assert IloConfig().network_calls == 150
    for wrong in ({"steps": (1, 1)}, {"steps": (0, 1, 1, 1)}, {"steps": (1, -1, 1, 1)}, {"step": 3}):
        with pytest.raises(ValidationError):
            IloConfig.model_validate(wrong)
    with pytest.raises(UserError, match="4 phases for a generator of 3 blocks"):
        Ilo(generator, IloConfig(), None)
    with pytest.raises(UserError, match="nothing to minimise"):
        Ilo(generator, IloConfig(**QUICK, mse=0.0), None)


def test_settings_by_ratio() -> None:
    assert InverseSettings().at(Fraction(1, 48)) == IloConfig()
    settings = InverseSettings.model_validate({"ratios": {"1/192": {"lpips": 2.0}, "1/12": {"lpips": 0.5}}})
    for below, weight in ((192, 2.0), (100, 2.0), (40, 0.5), (3, 0.5)):
        assert settings.at(Fraction(1, below)).lpips == weight
    for wrong in ({"1/0": {}}, {"much": {}}, {"1/48": {"step": 3}}):
        with pytest.raises(ValidationError):
            InverseSettings.model_validate({"ratios": wrong})
