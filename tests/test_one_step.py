"""One call from y to a picture: what it is, its receiver, its training and the changes under which LPIPS is trained."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from commin.channels.awgn import Awgn
from commin.codec.deepjscc import DeepJSCC
from commin.codec.reference import LinkConfig
from commin.diffusion.flow import Flow, FlowConfig, flow_from, integrate, load_flow, one_step, save_flow
from commin.diffusion.prior import save_prior
from commin.errors import UserError
from commin.evaluation.systems import group
from commin.images import from_uint8, to_uint8
from commin.link import Link
from commin.metrics.lpips import Lpips
from commin.metrics.lpips_ensemble import ensemble_lpips
from commin.metrics.pixels import mse
from commin.randomness import generator
from commin.receivers.one_step import OneStep
from commin.training.codec import arrivals
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.one_step import OneStepRecipe, OneStepTraining
from commin.training.prior import PriorConfig, new_prior
from commin.training.recipe import parse, read_yaml
from commin.units import linear_to_db
from commin.zoo.add import add
from commin.zoo.receivers import Parts, make_receiver
from tests.conftest import Slopes, smooth_images

RECIPE = Path(__file__).parent.parent / "recipes" / "faces64-one-step.yaml"
BCRS = ("1/192", "1/48")
BCR = Fraction(1, 48)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("commin.training.one_step.load_lpips", lambda name: Slopes())


def network(trained: bool = True, size: int = 64, inn: bool = False) -> Flow:
    """A small one; ``trained``: all its inputs count."""
    torch.manual_seed(0)
    config = PriorConfig(patch=4, widths=(16, 16), attention=(False, False), head=8, groups=8, steps=100)
    link = LinkConfig(reference_psnr_db=dict.fromkeys(BCRS, (10, 20)))
    made = flow_from(new_prior(config, size), FlowConfig(link=link, sigma=0.0, inn=inn)).eval()
    if trained:
        weight: Tensor = made.prior.unet.conv_in.weight  # type: ignore[union-attr,assignment]
        with torch.no_grad():
            weight.add_(0.1 * torch.randn(weight.shape))
    return made


# what it is


def test_it_is_the_whole_path_in_one_step() -> None:
    """One Euler step of the flow from y; the network is told ρ's number and the SNR by r alone."""
    made, y = network(), smooth_images(3)
    bcr, snr = torch.tensor([0, 1, 1]), torch.tensor([-5.0, 0.0, 5.0])
    x, r = y * 2 - 1, made.deviation(bcr, snr)
    with torch.no_grad():
        expected = integrate(lambda state, s: made.velocity(state, s, r, x), x, 1, 1)
        got = one_step(made, y, bcr, snr)
        other = one_step(made, y, bcr, snr + 3)
    assert torch.allclose(got, (expected + 1) / 2, atol=1e-6)
    assert r.tolist() == pytest.approx([(4 * 10 ** (-psnr / 10)) ** 0.5 for psnr in (10, 15, 20)])  # y's error alone
    assert (got - other)[:2].abs().amax((1, 2, 3)).min() > 1e-4


# the receiver


def test_receiver_restores_what_the_decoder_gives(codec: DeepJSCC, images: Tensor) -> None:
    receiver = OneStep(network())
    assert (receiver.name, receiver.network_calls, group("one-step", receiver)) == ("one-step", 1, "lpips")
    link = Link(codec, BCR, Awgn(), receiver)
    snrs = [-5.0, 0.0, 5.0, 2.0]
    sent = link.transmit(images, snrs, seed=3, samples=2)
    with torch.no_grad():
        expected = one_step(receiver.flow, sent.estimate, torch.ones(4, dtype=torch.int64), torch.tensor(snrs))
    assert torch.allclose(sent.samples, expected.clamp(0, 1)[:, None].expand(-1, 2, -1, -1, -1), atol=1e-6)
    assert (sent.images - sent.estimate).abs().max() > 1e-3
    receiver.limit = 3  # type: ignore[misc]
    assert torch.allclose(link.transmit(images, snrs, seed=3).images, sent.images, atol=1e-5)
    assert torch.allclose(link.transmit(images[2:3], 5.0, seed=3).images[0], sent.images[2], atol=1e-5)


def test_links_and_sizes_that_it_does_not_know_are_named(codec: DeepJSCC, images: Tensor) -> None:
    with pytest.raises(UserError, match="not 1/12"):
        Link(codec, Fraction(1, 12), Awgn(), OneStep(network())).transmit(images, 0.0)
    with pytest.raises(UserError, match="restores 64×64 pixels, or more"):
        Link(codec, BCR, Awgn(), OneStep(network())).transmit(smooth_images(1, 32), 0.0)
    assert Link(codec, BCR, Awgn(), OneStep(network())).transmit(smooth_images(1, 96), 0.0).images.shape[-1] == 96


def test_a_file_says_what_it_is(tmp_path: Path, codec_file: Path) -> None:
    save_flow(network(), tmp_path / "model.safetensors", one_step=True)
    for path in (codec_file, tmp_path / "model.safetensors"):
        card = add(path, "own", None, None, "none")
    assert card.kind == "one-step"
    receiver = make_receiver("one-step", Parts("own", BCR, CPU))
    assert isinstance(receiver, OneStep)
    assert receiver.flow.config == network().config
    with pytest.raises(UserError, match="--naturalness: one-step has none"):
        make_receiver("one-step", Parts("own", BCR, CPU, naturalness=0.5))
    with pytest.raises(UserError, match="the zoo has no flow for it"):
        make_receiver("pmrf", Parts("own", BCR, CPU))


# training


@pytest.fixture(scope="module")
def parts(codec_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    config = PriorConfig(patch=4, widths=(16, 16), attention=(False, False), head=8, groups=8, steps=100)
    torch.manual_seed(0)
    save_prior(new_prior(config, 64), folder / "prior", torch.float32)
    return [codec_file, folder / "prior"]


@pytest.fixture
def own(parts: list[Path]) -> None:
    """The parts, in the zoo as model ``own``."""
    for path in parts:
        add(path, "own", None, None, "none")


def recipe(weight: float = 5.0, **more: Any) -> dict[str, Any]:
    loop = {"images": 320, "batch": 8, "lr": 3e-3, "warmup_images": 8, "validate_every": 1000}
    return {
        "kind": "one-step",
        "name": "tiny",
        "model": "own",
        "data": {"size": 64, "crop": "centre", "validation_limit": 4},
        "link": {"reference_psnr_db": {bcr: [10, 10] for bcr in BCRS}},
        "lpips_weight": weight,
        "loop": loop,
        **more,
    }


def make_run(folder: Path, weight: float = 5.0, **more: Any) -> Run:
    folder.mkdir(exist_ok=True)
    config = parse(OneStepRecipe, recipe(weight, **more), Path("recipe"))
    pixels = to_uint8(smooth_images(16))
    return Run(OneStepTraining(config, pixels[:8]), config.loop, pixels, folder, CPU)


def training(run: Run) -> OneStepTraining:
    assert isinstance(run.trainable, OneStepTraining)
    return run.trainable


def weights(run: Run) -> Tensor:
    both = [*run.trainable.phases["flow"].parameters(), *run.averages["flow"].parameters()]
    return torch.cat([part.detach().flatten() for part in both])


@pytest.mark.usefixtures("own")
def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = make_run(tmp_path, loop={**recipe()["loop"], "images": 800})
    first = sum(run.train_step() for _ in range(3))
    for _ in range(60):
        run.train_step()
    assert sum(run.train_step() for _ in range(3)) < 0.9 * first
    assert run.state()["phases"].keys() == {"flow"}  # neither codec nor LPIPS


@pytest.mark.usefixtures("own")
def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    straight = make_run(tmp_path / "a")
    for _ in range(4):
        straight.train_step()
    stopped = make_run(tmp_path / "b")
    for _ in range(2):
        stopped.train_step()
    stopped.save()
    resumed = make_run(tmp_path / "b")
    resumed.resume()
    for _ in range(2):
        resumed.train_step()
    assert torch.equal(weights(straight), weights(resumed))


@pytest.mark.usefixtures("own")
def test_loss_is_squared_error_and_changed_lpips(tmp_path: Path) -> None:
    plain, both = (training(make_run(tmp_path, weight)) for weight in (0.0, 2.0))
    rows = plain.draw(smooth_images(6), torch.Generator().manual_seed(3))
    with torch.no_grad():
        made = one_step(plain.flow, plain.link.estimate(plain.codec, rows), rows["bcr"], rows["snr_db"])
        error = (made - rows["images"]).square().mean((1, 2, 3)) * 10  # a PSNR of 10 dB is what all links expect
        distance = ensemble_lpips(Slopes(), made, rows["images"], rows["larger"], generator(0, "lpips", 7))  # type: ignore[arg-type]
        assert plain.loss("flow", rows, 7).item() == pytest.approx(float(error.mean()), rel=1e-5)
        assert both.loss("flow", rows, 7).item() == pytest.approx(float((error + 2 * distance).mean()), rel=1e-5)
        assert both.loss("flow", rows, 8) != both.loss("flow", rows, 7)


@pytest.mark.usefixtures("own")
def test_figures_and_export(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.train_step()
    (figures, picture), (again, _) = (run.trainable.validate(run.averages) for _ in range(2))
    assert figures == again
    assert picture is not None
    assert picture.size == (8 * 64 * 2, (1 + 2 * 6) * 64 * 2)
    trained, x = training(run), from_uint8(training(run).validation)
    y = arrivals(trained.codec, trained.validation, BCR, 5.0)
    with torch.no_grad():
        made = one_step(run.averages["flow"], y, torch.ones(8, dtype=torch.int64), torch.full((8,), 5.0))  # type: ignore[arg-type]
    gained = linear_to_db(float(mse(y, x).mean() / mse(made, x).mean()))
    assert figures["dB 1/48 +5"] == pytest.approx(gained, abs=0.05)
    assert figures["lpips ratio 1/48 +5"] == pytest.approx(
        float(Slopes()(made, x).mean() / Slopes()(y, x).mean()), rel=0.05
    )
    trained.export(run.averages, tmp_path / "model", run.images_seen)
    loaded = load_flow(tmp_path / "model.safetensors")
    assert loaded.config == trained.flow.config
    assert (loaded.config.sigma, loaded.config.inn) == (0.0, False)
    assert add(tmp_path / "model.safetensors", "own", None, None, "none").kind == "one-step"


@pytest.mark.usefixtures("own")
def test_it_begins_as_a_flow_that_sees_y_alone(tmp_path: Path) -> None:
    save_flow(network(), tmp_path / "flow.safetensors", torch.float32)
    begun = training(make_run(tmp_path, init=str(tmp_path / "flow.safetensors"))).flow
    assert torch.equal(begun.prior.unet.conv_in.weight, network().prior.unet.conv_in.weight)  # type: ignore[union-attr,arg-type]
    save_flow(network(), tmp_path / "one.safetensors", torch.float32, one_step=True)
    again = training(make_run(tmp_path, init=str(tmp_path / "one.safetensors"))).flow
    assert torch.equal(again.prior.unet.conv_in.weight, begun.prior.unet.conv_in.weight)  # type: ignore[union-attr,arg-type]
    save_flow(network(inn=True), tmp_path / "inn.safetensors")
    with pytest.raises(UserError, match="is shown an INN's correction"):
        make_run(tmp_path, init=str(tmp_path / "inn.safetensors"))
    with pytest.raises(UserError, match=r"a network of 64 pixels, not data.size = 32"):
        make_run(tmp_path, data={"size": 32})
    with pytest.raises(UserError, match="has no ρ = 1/768"):
        make_run(tmp_path, link={"reference_psnr_db": {"1/768": [10, 10]}})
    with pytest.raises(UserError, match="lpips_weight"):
        make_run(tmp_path, -1.0)


def test_shipped_recipe_is_valid() -> None:
    config = parse(OneStepRecipe, read_yaml(RECIPE), RECIPE)
    assert config.name == RECIPE.stem
    assert Path(str(config.init)).is_file()
    assert KINDS["one-step"].recipe is OneStepRecipe


# LPIPS under changes


class Plain(torch.nn.Module):
    """Mean absolute difference, and what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.seen.append(a)
        return (a - b).abs().mean((1, 2, 3))


def test_pictures_are_changed_alike_and_some_of_them_enlarged() -> None:
    stand_in = Plain()
    lpips: Lpips = stand_in  # type: ignore[assignment]
    a, larger = torch.rand(5, 3, 32, 32).requires_grad_(), torch.tensor([False, True, True, False, True])
    assert not ensemble_lpips(lpips, a, a, larger, generator(0)).any()
    assert [len(part) for part in stand_in.seen] == [2, 3]
    small, large = (part.shape[-1] for part in stand_in.seen)
    assert small == 32
    assert 40 <= large <= 72
    b = torch.rand(5, 3, 32, 32)
    first, same, other = (ensemble_lpips(lpips, a, b, larger, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    first.sum().backward()
    assert a.grad is not None
    assert a.grad.abs().sum((1, 2, 3)).min() > 0
    for row in range(5):  # a picture's change is the same whatever else is in the batch
        one = slice(row, row + 1)
        alone = ensemble_lpips(lpips, a[one], b[one], larger[one], generator(1))
        assert torch.allclose(alone, first[one], atol=1e-6)


def test_no_place_of_a_pattern_passes() -> None:
    """A distance that sees every second pixel alone is blind to a pattern on the others; under changes it is not."""

    def every_second(a: Tensor, b: Tensor) -> Tensor:
        return (a - b)[..., ::2, ::2].abs().mean((1, 2, 3))

    x = torch.full((4, 3, 32, 32), 0.5)
    dotted = x.clone()
    dotted[..., 1::2, 1::2] += 0.2
    assert not every_second(x, dotted).any()
    half = torch.tensor([False, True, False, True])
    seen = torch.stack([ensemble_lpips(every_second, x, dotted, half, generator(seed)) for seed in range(20)])  # type: ignore[arg-type]
    assert seen.mean() > 0.02
