"""Training a prior: its loss falls, a resumed run is the uninterrupted one, weights and levels are as said."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from commin.diffusion.prior import load_prior, save_prior
from commin.errors import UserError
from commin.images import to_uint8
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.prior import (
    PriorConfig,
    PriorRecipe,
    PriorTraining,
    new_prior,
    output_errors,
    output_weights,
    sample_grid,
    set_mode,
)
from commin.training.recipe import parse, read_yaml
from tests.conftest import smooth_images

MODEL: dict[str, Any] = {"widths": [16, 16], "attention": [False, True], "head": 8, "groups": 8, "steps": 60}
RECIPE = Path(__file__).parent.parent / "recipes" / "faces64-prior.yaml"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def recipe(loss: dict[str, Any] | None = None, init: Path | None = None, **loop: Any) -> dict[str, Any]:
    return {
        "kind": "prior",
        "name": "tiny",
        "data": {"size": 16, "crop": "centre", "validation_limit": 4},
        "loss": loss or {},
        "loop": {"images": 800, "batch": 8, "lr": 2e-3, "warmup_images": 16, "validate_every": 1000, **loop},
        **({"model": MODEL} if init is None else {"init": str(init)}),
    }


def make_run(folder: Path, **parts: Any) -> Run:
    folder.mkdir(exist_ok=True)
    config = parse(PriorRecipe, recipe(**parts), Path("recipe"))
    pixels = to_uint8(smooth_images(20, 16))
    return Run(PriorTraining(config, pixels[:8]), config.loop, pixels, folder, torch.device("cpu"))


def weights(run: Run) -> Tensor:
    parts = [*run.trainable.phases["prior"].parameters(), *run.averages["prior"].parameters()]
    return torch.cat([part.detach().flatten() for part in parts])


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = run.trainable.validate(run.averages)[0]["loss valid"]
    for _ in range(60):
        run.train_step()
    assert run.trainable.validate(run.averages)[0]["loss valid"] < 0.8 * before


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path, precision: str) -> None:
    straight = make_run(tmp_path / "a", precision=precision)
    for _ in range(5):
        straight.train_step()
    stopped = make_run(tmp_path / "b", precision=precision)
    for _ in range(2):
        stopped.train_step()
    stopped.save()
    resumed = make_run(tmp_path / "b", precision=precision)
    resumed.resume()
    for _ in range(3):
        resumed.train_step()
    assert torch.equal(weights(straight), weights(resumed))


def test_goes_on_from_a_folder_and_exports_one(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first")
    first.train_step()
    first.trainable.export(first.averages, tmp_path / "model", first.images_seen)
    second = make_run(tmp_path / "second", init=tmp_path / "model")
    x, t = smooth_images(2, 16) * 2 - 1, torch.tensor([5, 40])
    with torch.no_grad():
        expected = load_prior(tmp_path / "model").denoise(x, t)
        for prior in (second.trainable.phases["prior"], second.averages["prior"]):
            assert torch.allclose(prior.denoise(x, t), expected, atol=1e-5)  # type: ignore[operator]
    assert all(parameter.requires_grad for parameter in second.trainable.phases["prior"].parameters())
    second.train_step()


def test_a_prior_grown_by_attention_begins_as_the_one_before(tmp_path: Path) -> None:
    plain = {**MODEL, "attention": [False] * len(MODEL["widths"])}
    known = new_prior(PriorConfig(**plain), 16)
    save_prior(known, tmp_path / "known", torch.float32)
    grown = parse(PriorRecipe, {**recipe(init=tmp_path / "known"), "model": MODEL}, Path("r"))
    begun = PriorTraining(grown, torch.zeros(0, 3, 16, 16)).prior
    assert sum(p.numel() for p in begun.parameters()) > sum(p.numel() for p in known.parameters())
    x, t = smooth_images(2, 16) * 2 - 1, torch.tensor([5, 40])
    with torch.no_grad():
        assert torch.allclose(begun.denoise(x, t), known.eval().denoise(x, t), atol=1e-5)
    new = {name for name, _ in begun.unet.named_parameters()} - {name for name, _ in known.unet.named_parameters()}
    begun.output(x, t).square().mean().backward()
    changed = {name for name, p in begun.unet.named_parameters() if name in new and p.grad is not None and p.grad.any()}
    assert any("to_out" in name for name in changed)  # what is new can learn
    for other in ({"widths": [16, 24]}, {"patch": 1}, {"schedule": "linear"}, {"attention": plain["attention"]}):
        save_prior(begun, tmp_path / "begun")
        wrong = {**recipe(init=tmp_path / "begun"), "model": {**MODEL, **other}}
        with pytest.raises(UserError, match="cannot grow into this model"):
            PriorTraining(parse(PriorRecipe, wrong, Path("r")), torch.zeros(0, 3, 16, 16))


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_only_dropout_needs_training_mode(p: float) -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(p))
    set_mode(network.train(p == 0))
    assert network[0].training == (p > 0)


def test_levels_are_stratified_or_uniform(tmp_path: Path) -> None:
    images = torch.zeros(30, 3, 16, 16)
    training = make_run(tmp_path).trainable
    for seed in range(20):
        t = training.draw(images, torch.Generator().manual_seed(seed))["t"]
        assert (t // 2 == torch.arange(30)).all()  # 60 levels, 30 parts of two
    uniform = make_run(tmp_path, loss={"times": "uniform"}).trainable
    many = uniform.draw(torch.zeros(6000, 3, 1, 1), torch.Generator().manual_seed(0))["t"]
    assert many.bincount(minlength=60).float().std() < 20
    assert many.min() == 0
    assert many.max() == 59


def test_weighted_levels_take_the_place_of_weights(tmp_path: Path) -> None:
    """Each level as often as its weight says, and then the mean weight: Σ_t w_t e_t / T, as by all levels alike."""
    weighted = make_run(tmp_path, loss={"times": "weighted", "min_snr": 5}).trainable
    assert isinstance(weighted, PriorTraining)
    weights = output_weights(weighted.prior, torch.arange(60), 5.0)
    drawn = weighted.draw(torch.zeros(6000, 3, 1, 1), torch.Generator().manual_seed(0))["t"]
    assert (drawn.bincount(minlength=60) - 6000 * weights / weights.sum()).abs().max() < 2
    rows = {"images": smooth_images(4, 16), "t": torch.tensor([5, 20, 40, 55]), "noise": torch.zeros(4, 3, 16, 16)}
    errors = output_errors(weighted.prior, **rows)
    assert torch.allclose(weighted.loss("prior", rows, 0), weights.mean() * errors.mean())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weighs_the_picture_alike(prediction: Any) -> None:
    """w times the output's error is min(s, γ) times the error of the picture that it stands for."""
    prior = new_prior(PriorConfig(**{**MODEL, "steps": 1000, "prediction": prediction}), 16).eval()
    images, noise = smooth_images(4, 16), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([5, 200, 500, 800])
    x = images * 2 - 1
    x_t = prior.schedule.add_noise(x, noise, t)
    with torch.no_grad():
        weighed = output_weights(prior, t, 5.0) * output_errors(prior, images, t, noise)
        picture = prior.picture(prior.output(x_t, t), x_t, t)
    signal, lost = prior.schedule.signal(t).flatten(), prior.schedule.noise(t).flatten()
    expected = (signal / lost).clamp(max=5) * (picture - x).square().mean((1, 2, 3))
    assert torch.allclose(weighed, expected, rtol=2e-2)
    assert torch.equal(output_weights(prior, t, None), torch.ones(4))


def test_validation_is_the_same_each_time(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (first, picture), (second, again) = (run.trainable.validate(run.averages) for _ in range(2))
    assert first == second
    assert picture is not None
    assert again is not None
    assert picture.tobytes() == again.tobytes()
    assert picture.size == (4 * 16 * 2, 4 * 16 * 2)
    assert first["score"] == -first["loss valid"]


def test_samples_come_from_fixed_noise() -> None:
    torch.manual_seed(0)
    prior = new_prior(PriorConfig(**MODEL), 16).eval()
    with torch.no_grad():
        a, b, c = (sample_grid(prior, seed, torch.device("cpu")).tobytes() for seed in (0, 0, 1))
    assert a == b != c


def test_wrong_recipes_are_named(tmp_path: Path) -> None:
    neither = {key: value for key, value in recipe().items() if key != "model"}
    with pytest.raises(UserError, match="give init"):
        parse(PriorRecipe, neither, Path("r"))
    with pytest.raises(UserError, match="multiples of groups"):
        parse(PriorRecipe, {**recipe(), "model": {**MODEL, "groups": 5}}, Path("r"))
    save_prior(new_prior(PriorConfig(**MODEL), 32), tmp_path / "other")
    with pytest.raises(UserError, match=r"made for 32 pixels, not data.size = 16"):
        PriorTraining(parse(PriorRecipe, recipe(init=tmp_path / "other"), Path("r")), torch.zeros(0, 3, 16, 16))


def test_shipped_recipe_is_valid_and_its_new_network_the_warm_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMIN_PRIOR_INIT", "/priors/start")
    config = parse(PriorRecipe, read_yaml(RECIPE), RECIPE)
    assert config.init == "/priors/start"
    assert KINDS["prior"].recipe is PriorRecipe
    prior = new_prior(PriorConfig(), config.data.size)
    assert sum(parameter.numel() for parameter in prior.parameters()) == pytest.approx(13.9e6, rel=0.01)
    assert (prior.patch, prior.size, prior.prediction) == (2, 64, "v_prediction")
