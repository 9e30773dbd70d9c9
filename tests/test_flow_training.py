"""Training a flow: its loss falls, a resumed run is the uninterrupted one, rows see their own INN."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from commin.diffusion.flow import load_flow
from commin.diffusion.prior import save_prior
from commin.errors import UserError
from commin.images import to_uint8
from commin.inn.degradation import Degradation, DegradationConfig
from commin.inn.files import save_inn
from commin.training.flow import FlowRecipe, FlowTraining
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.prior import PriorConfig, new_prior
from commin.training.recipe import parse, read_yaml
from commin.zoo.add import add
from tests.conftest import smooth_images

RECIPES = Path(__file__).parent.parent / "recipes"
BCRS = ("1/192", "1/48")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def parts(codec_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A codec, a prior and two INNs, untrained and small."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = PriorConfig(patch=4, widths=(16, 16), attention=(False, False), head=8, groups=8, steps=100)
    save_prior(new_prior(config, 64), folder / "prior", torch.float32)
    for bcr in BCRS:
        inn = Degradation(DegradationConfig(bcr=bcr, width=8, blocks=1, lifts=1))
        with torch.no_grad():
            for parameter in inn.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        save_inn(inn, folder / f"inn-{bcr.replace('/', '-')}.safetensors")
    return [codec_file, folder / "prior", *sorted(folder.glob("inn-*"))]


@pytest.fixture
def own(parts: list[Path]) -> None:
    """The parts, in the zoo as model ``own``."""
    for path in parts:
        add(path, "own", None, None, "none")


def recipe(inn: bool = True, bcrs: tuple[str, ...] = BCRS, **loop: Any) -> dict[str, Any]:
    return {
        "kind": "flow",
        "name": "tiny",
        "model": "own",
        "data": {"size": 64, "crop": "centre", "validation_limit": 4},
        "flow": {"link": {"reference_psnr_db": {bcr: [10, 10] for bcr in bcrs}}, "inn": inn},
        "loop": {"images": 320, "batch": 8, "lr": 3e-3, "warmup_images": 8, "validate_every": 1000, **loop},
    }


def make_run(folder: Path, inn: bool = True, **loop: Any) -> Run:
    folder.mkdir(exist_ok=True)
    config = parse(FlowRecipe, recipe(inn, **loop), Path("recipe"))
    pixels = to_uint8(smooth_images(16))
    return Run(FlowTraining(config, pixels[:8]), config.loop, pixels, folder, torch.device("cpu"))


def training(run: Run) -> FlowTraining:
    assert isinstance(run.trainable, FlowTraining)
    return run.trainable


def weights(run: Run) -> Tensor:
    parts = [*run.trainable.phases["flow"].parameters(), *run.averages["flow"].parameters()]
    return torch.cat([part.detach().flatten() for part in parts])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("inn", [False, True])
def test_training_lowers_the_loss(tmp_path: Path, inn: bool) -> None:
    run = make_run(tmp_path, inn)
    first = sum(run.train_step() for _ in range(3))
    for _ in range(24):
        run.train_step()
    assert sum(run.train_step() for _ in range(3)) < 0.7 * first
    assert run.state()["phases"].keys() == {"flow"}  # neither codec nor INNs


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
def test_draws_cover_the_path_at_every_link(tmp_path: Path) -> None:
    rows = training(make_run(tmp_path)).draw(torch.zeros(60, 3, 64, 64), torch.Generator().manual_seed(0))
    assert (rows["s"] * 60).long().tolist() == list(range(60))
    assert rows["bcr"].bincount().tolist() == [30, 30]
    assert rows["start"].std().item() == pytest.approx(1, rel=0.01)


@pytest.mark.usefixtures("own")
def test_rows_see_the_inn_of_their_bcr(tmp_path: Path) -> None:
    trained = training(make_run(tmp_path))
    assert [inn.config.bcr for inn in trained.inns] == list(BCRS)
    state, y = smooth_images(4) * 2 - 1, smooth_images(4, seed=1) * 2 - 1
    rows = {"bcr": torch.tensor([1, 0, 1, 0]), "snr_db": torch.tensor([-5.0, 0.0, 5.0, 2.0])}
    own_y, correction = trained.conditions(state, y, rows)
    assert own_y is y
    for row in range(4):
        one = slice(row, row + 1)
        inn, snr = trained.inns[int(rows["bcr"][row])], rows["snr_db"][one]
        with torch.no_grad():
            expected = inn.replace((state[one] + 1) / 2, (y[one] + 1) / 2, 1.0, snr) * 2 - 1
        assert torch.allclose(correction[one], expected, atol=1e-5)


@pytest.mark.usefixtures("own")
def test_what_arrives_is_clipped_as_a_receiver_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = training(make_run(tmp_path))
    images = torch.rand(4, 3, 64, 64)
    rows = trained.draw(images, torch.Generator().manual_seed(0))
    monkeypatch.setattr(trained.link, "picture", lambda *_: images * 4 - 2)
    assert torch.equal(trained.link.estimate(trained.codec, rows), (images * 4 - 2).clamp(0, 1))


@pytest.mark.usefixtures("own")
def test_a_perfect_velocity_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is that of x − (y + σ·n), over r²."""
    trained = training(make_run(tmp_path, inn=False))
    rows = trained.draw(smooth_images(6), torch.Generator().manual_seed(0))
    y = trained.link.estimate(trained.codec, rows) * 2 - 1
    right = rows["images"] * 2 - 1 - (y + 0.1 * rows["start"])
    for added, loss in ((0.0, 0.0), (0.3, 0.09 / (4 * 0.1 + 0.01))):
        monkeypatch.setattr(trained.flow, "velocity", lambda x, s, r, seen, added=added: right + added)
        assert trained.errors(trained.flow, rows).tolist() == pytest.approx([loss] * 6, abs=1e-6)


@pytest.mark.usefixtures("own")
def test_validation_export_and_restoration(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.train_step()
    (first, picture), (second, _) = (run.trainable.validate(run.averages) for _ in range(2))
    assert first == second
    assert picture is not None
    assert picture.size == (8 * 64 * 2, 5 * 64 * 2)  # originals, then y and restored at each of two ρ
    assert first["score"] == -first["loss valid"]
    assert first.keys() >= {"loss valid 1/192", "loss valid 1/48", "loss valid s1/4", "loss valid s4/4"}
    run.trainable.export(run.averages, tmp_path / "model", run.images_seen)
    loaded = load_flow(tmp_path / "model.safetensors")
    assert loaded.config == training(run).recipe.flow
    assert loaded.config.link.bcrs == [Fraction(bcr) for bcr in BCRS]
    assert add(tmp_path / "model.safetensors", "own", None, None, "none").kind == "flow-inn"


@pytest.mark.usefixtures("own")
def test_what_is_missing_is_named(parts: list[Path], tmp_path: Path) -> None:
    pixels = torch.zeros(0, 3, 64, 64)
    with pytest.raises(UserError, match="no inn for it at ρ = 1/12"):
        FlowTraining(parse(FlowRecipe, recipe(bcrs=(*BCRS, "1/12")), Path("r")), pixels)
    FlowTraining(parse(FlowRecipe, recipe(inn=False, bcrs=(*BCRS, "1/12")), Path("r")), pixels)
    with pytest.raises(UserError, match="has no ρ = 1/768"):
        FlowTraining(parse(FlowRecipe, recipe(bcrs=("1/768",)), Path("r")), pixels)
    with pytest.raises(UserError, match=r"a prior of 64 pixels, not data.size = 32"):
        FlowTraining(parse(FlowRecipe, recipe() | {"data": {"size": 32}}, Path("r")), pixels)
    with pytest.raises(UserError, match="no such model"):
        FlowTraining(parse(FlowRecipe, recipe() | {"model": "nobody"}, Path("r")), pixels)
    add(parts[0], "bare", None, None, "none")
    with pytest.raises(UserError, match="no prior"):
        FlowTraining(parse(FlowRecipe, recipe() | {"model": "bare"}, Path("r")), pixels)


def test_shipped_recipes_differ_by_the_inn_alone() -> None:
    plain, both = (
        parse(FlowRecipe, read_yaml(RECIPES / f"{name}.yaml"), RECIPES) for name in ("faces64-flow", "faces64-flow-inn")
    )
    assert (plain.name, both.name) == ("faces64-flow", "faces64-flow-inn")
    assert (plain.flow.inn, both.flow.inn) == (False, True)
    assert plain.model_copy(update={"name": both.name, "flow": both.flow}) == both
    assert plain.flow.model_copy(update={"inn": True}) == both.flow
    assert KINDS["flow"].recipe is FlowRecipe
