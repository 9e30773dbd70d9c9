"""Training an INN: its loss falls, a resumed run is the uninterrupted one, its figures mean what they say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from commin.codec.deepjscc import DeepJSCC
from commin.errors import UserError
from commin.images import from_uint8, to_uint8
from commin.inn.degradation import Degradation
from commin.inn.files import load_inn
from commin.training.inn import InnRecipe, InnTraining
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml
from tests.conftest import smooth_images

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*-inn-*.yaml"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def recipe(codec: object, model: dict[str, Any] | None = None, **loop: Any) -> dict[str, Any]:
    return {
        "kind": "inn",
        "name": "tiny",
        "codec": str(codec),
        "codec_precision": "float32",
        "model": {"bcr": "1/48", "width": 8, "blocks": 1, "lifts": 2, **(model or {})},
        "loop": {"images": 320, "batch": 4, "lr": 3e-3, "warmup_images": 8, "validate_every": 1000, **loop},
    }


def make_run(folder: Path, codec: Path, **loop: Any) -> Run:
    config = parse(InnRecipe, recipe(codec, **loop), Path("recipe"))
    pixels = to_uint8(smooth_images(20))
    return Run(InnTraining(config, pixels[:6]), config.loop, pixels, folder, torch.device("cpu"))


def weights(run: Run) -> Tensor:
    parts = [*run.trainable.phases["inn"].parameters(), *run.averages["inn"].parameters()]
    return torch.cat([part.detach().flatten() for part in parts])


def test_training_lowers_the_misfit(tmp_path: Path, codec_file: Path) -> None:
    run = make_run(tmp_path, codec_file)
    first = sum(run.train_step() for _ in range(5))
    for _ in range(40):
        run.train_step()
    assert sum(run.train_step() for _ in range(5)) < 0.6 * first


def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path, codec_file: Path) -> None:
    straight = make_run(tmp_path / "a", codec_file)
    for _ in range(6):
        straight.train_step()
    (tmp_path / "b").mkdir()
    stopped = make_run(tmp_path / "b", codec_file)
    for _ in range(3):
        stopped.train_step()
    stopped.save()
    resumed = make_run(tmp_path / "b", codec_file)
    resumed.resume()
    for _ in range(3):
        resumed.train_step()
    assert torch.equal(weights(straight), weights(resumed))


def test_codec_learns_nothing_and_is_not_saved(tmp_path: Path, codec_file: Path) -> None:
    run = make_run(tmp_path, codec_file)
    assert isinstance(run.trainable, InnTraining)
    before = [p.clone() for p in run.trainable.codec.parameters()]
    run.train_step()
    assert all(torch.equal(a, b) for a, b in zip(before, run.trainable.codec.parameters(), strict=True))
    assert run.state()["phases"].keys() == {"inn"}


class Ideal(Degradation):
    """An INN that has nothing left to learn: its coarse part is the mean of what the link makes of a picture."""

    answers: list[Tensor]

    def forward(self, images: Tensor, snr_db: Tensor) -> tuple[Tensor, Tensor]:
        return self.answers.pop(0), images

    def inverse(self, coarse: Tensor, detail: Tensor, snr_db: Tensor) -> Tensor:
        return detail


def test_figures_are_those_of_a_known_case(tmp_path: Path, codec_file: Path) -> None:
    training = make_run(tmp_path, codec_file).trainable
    assert isinstance(training, InnTraining)
    figures, picture = training.validate({"inn": training.inn})
    assert picture.size == (6 * 64 * 2, 7 * 64 * 2)
    images = from_uint8(training.validation)
    for snr in (-5, 0, 5):
        reference = training._reference(float(snr), torch.device("cpu"))
        # a new INN with the copy split has c = x: its misfit is the link's own error
        assert figures[f"misfit {snr:+g}"] == pytest.approx(figures[f"error {snr:+g}"], rel=1e-3)
        assert 0 < figures[f"floor {snr:+g}"] < figures[f"error {snr:+g}"]
        assert figures[f"residual {snr:+g}"] < 1e-9  # x̂ = y, and its coarse part is itself
        assert figures[f"replaced {snr:+g}"] == pytest.approx(float((reference.first - images).square().mean()))
        assert reference.error == pytest.approx(float((reference.first - images).square().mean()), rel=0.2)
    assert figures["score"] == pytest.approx(-sum(figures[f"excess % {snr:+g}"] for snr in (-5, 0, 5)) / 3)


def test_excess_of_the_ideal_is_zero(tmp_path: Path, codec: DeepJSCC, codec_file: Path) -> None:
    """With c = E[y|x] itself, estimated from other draws, the misfit is the floor."""
    training = make_run(tmp_path, codec_file).trainable
    assert isinstance(training, InnTraining)
    ideal = Ideal(training.inn.config)
    images, rng = from_uint8(training.validation), torch.Generator().manual_seed(99)
    ideal.answers = []
    for snr in (-5.0, 0.0, 5.0):
        snrs = torch.full((6,), snr)
        many = torch.randn(6, 30, 256, dtype=torch.complex64, generator=rng)
        ideal.answers += [training.receive(images, snrs, many).mean(0)] * 2
    figures, _ = training.validate({"inn": ideal})
    for snr in (-5, 0, 5):
        assert figures[f"misfit {snr:+g}"] == pytest.approx(figures[f"floor {snr:+g}"], rel=0.1)


def test_draws_are_uniform_over_the_range(tmp_path: Path, codec_file: Path) -> None:
    training = make_run(tmp_path, codec_file).trainable
    rows = training.draw(torch.zeros(2000, 3, 64, 64), torch.Generator().manual_seed(0))
    assert rows["noise"].shape == (2000, 1, 256)
    assert rows["noise"].abs().square().mean().item() == pytest.approx(1, rel=0.02)
    assert rows["snr_db"].mean().item() == pytest.approx(0, abs=0.3)
    assert rows["snr_db"].abs().max() <= 5


def test_more_draws_are_the_same_loss_with_less_noise(codec_file: Path) -> None:
    """Of 64 draws c learns their mean: the loss is the misfit of that mean, one draw's the misfit of that one."""
    many = InnTraining(parse(InnRecipe, recipe(codec_file) | {"draws": 64}, Path("r")), torch.zeros(0, 3, 64, 64))
    rows = many.draw(smooth_images(4), torch.Generator().manual_seed(0))
    assert rows["noise"].shape == (4, 64, 256)
    received = many.receive(rows["images"], rows["snr_db"], rows["noise"])
    single = many.receive(rows["images"], rows["snr_db"], rows["noise"][:, 5:6])
    assert torch.allclose(received[5], single[0], atol=1e-5)
    with torch.no_grad():
        ones = [float(many.loss("inn", {**rows, "noise": rows["noise"][:, i : i + 1]}, 0)) for i in range(64)]
        mean = float(many.loss("inn", rows, 0))
    assert mean == pytest.approx(sum(ones) / 64 - float((received - received.mean(0)).square().mean()), rel=1e-3)


def test_single_snr_is_validated_at_its_own(codec_file: Path) -> None:
    single = parse(InnRecipe, recipe(codec_file, {"snr_range_db": [2, 2]}), Path("recipe"))
    training = InnTraining(single, to_uint8(smooth_images(2)))
    assert training.snrs_db == [2.0]
    assert not training.inn.config.conditioned
    assert (training.draw(torch.zeros(3, 3, 64, 64), torch.Generator())["snr_db"] == 2).all()


def test_exported_inn_loads(tmp_path: Path, codec_file: Path) -> None:
    run = make_run(tmp_path, codec_file)
    run.train_step()
    run.trainable.export(run.averages, tmp_path / "model", run.images_seen)
    loaded = load_inn(tmp_path / "model.safetensors")
    average: nn.Module = run.averages["inn"]
    x, snrs = smooth_images(1), torch.zeros(1)
    assert (loaded(x, snrs)[0] - average(x, snrs)[0]).abs().max() < 1e-3
    other = recipe(codec_file, {"bcr": "1/12"}) | {"init": str(tmp_path / "model.safetensors")}
    begun = InnTraining(parse(InnRecipe, other, Path("r")), to_uint8(smooth_images(2)))
    assert torch.equal(begun.inn(x, snrs)[0], loaded(x, snrs)[0])


def test_wrong_recipes_are_named(codec_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no ρ = 1/768"):
        InnTraining(parse(InnRecipe, recipe(codec_file, {"bcr": "1/768"}), Path("r")), torch.zeros(0, 3, 64, 64))
    with pytest.raises(UserError, match=r"unknown key model\.widths"):
        parse(InnRecipe, recipe(codec_file, {"widths": 3}), Path("r"))
    with pytest.raises(UserError, match="lowest, highest"):
        parse(InnRecipe, recipe(codec_file, {"snr_range_db": [5, -5]}), Path("r"))
    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    with pytest.raises(UserError, match="set the environment variable NO_SUCH_FOLDER"):
        parse(InnRecipe, recipe("${NO_SUCH_FOLDER}/codec.safetensors"), Path("r"))
    with pytest.raises(UserError, match="no such model file"):
        InnTraining(parse(InnRecipe, recipe(tmp_path / "none.safetensors"), Path("r")), torch.zeros(0, 3, 64, 64))


def test_paths_in_recipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CODECS", str(tmp_path))

    def codec_of(text: str, **context: Any) -> str:
        return InnRecipe.model_validate(recipe(text), context=context).codec

    assert codec_of("faces64") == "faces64"
    assert codec_of("${CODECS}/codec.safetensors") == f"{tmp_path}/codec.safetensors"
    assert codec_of("../codec.safetensors", folder="/recipes") == "/recipes/../codec.safetensors"
    assert codec_of("codec.safetensors", folder="/recipes") == "/recipes/codec.safetensors"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    content = read_yaml(path)
    config = parse(InnRecipe, content, path)
    assert config.name == path.stem
    assert KINDS["inn"].recipe is InnRecipe
