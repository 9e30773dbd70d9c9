"""The last call of commin-fast: what it is shown, the walks that it is trained on, and its training."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from typer.testing import CliRunner

import commin
from commin.cli.main import app
from commin.data.imageset import ImageSet
from commin.diffusion.flow import Flow, FlowConfig, flow_from, load_flow, one_step, save_flow
from commin.diffusion.prior import save_prior
from commin.errors import UserError
from commin.images import from_uint8, to_uint8
from commin.inn.degradation import Degradation, DegradationConfig
from commin.inn.files import save_inn
from commin.link import Link
from commin.metrics.lpips_ensemble import ensemble_lpips
from commin.randomness import generator
from commin.receivers.base import Arrival
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_table import write_settings
from commin.training import ranks
from commin.training.loop import Run
from commin.training.one_step import OneStepRecipe, OneStepTraining
from commin.training.prior import PriorConfig, new_prior
from commin.training.recipe import parse, read_yaml
from commin.training.walks import PER_FILE, Walks, kept
from commin.zoo.add import add
from commin.zoo.fitting import Fitter
from tests.conftest import Slopes, smooth_images, write_faces

RECIPE = Path(__file__).parent.parent / "recipes" / "faces64-finish.yaml"
BCRS = ("1/192", "1/48")
BCR = Fraction(1, 48)
CPU = torch.device("cpu")
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("commin.training.one_step.load_lpips", lambda name: Slopes())
    monkeypatch.setattr("commin.training.walks.PER_FILE", 6)


@pytest.fixture(scope="module")
def parts(codec_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str | None]]:
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = PriorConfig(patch=4, widths=(16, 16), attention=(False, False), head=8, groups=8, steps=100)
    save_prior(new_prior(config, 64), folder / "prior", torch.float32)
    found: list[tuple[Path, str | None]] = [(codec_file, None), (folder / "prior", None)]
    for bcr in BCRS:
        path = folder / f"inn-{bcr[2:]}.safetensors"
        save_inn(Degradation(DegradationConfig(bcr=bcr, width=8, blocks=1, lifts=1)), path)
        found.append((path, None))
    points = tuple(FastPoint(bcr=bcr, snr_db=0, detail=1.5, naturalness=0.5, weights=(0.3,)) for bcr in BCRS)
    write_settings(FastSettings(steps=2, points=points), folder / "fast.json")
    return [*found, (folder / "fast.json", "commin-fast")]


@pytest.fixture
def own(parts: list[tuple[Path, str | None]]) -> None:
    """The parts, in the zoo as model ``own``."""
    for path, kind in parts:
        add(path, "own", kind, None, "none")


def network(sample: bool = True) -> Flow:
    """A small one, all of whose inputs count."""
    torch.manual_seed(0)
    config = PriorConfig(patch=4, widths=(16, 16), attention=(False, False), head=8, groups=8, steps=100)
    link = parse(OneStepRecipe, recipe(), Path("recipe")).link
    made = flow_from(new_prior(config, 64), FlowConfig(link=link, sigma=0.0, sample=sample)).eval()
    weight: Tensor = made.prior.unet.conv_in.weight  # type: ignore[union-attr,assignment]
    with torch.no_grad():
        weight.add_(0.1 * torch.randn(weight.shape))
    return made


def recipe(share: float = 0.5, **more: Any) -> dict[str, Any]:
    return {
        "kind": "one-step",
        "name": "tiny",
        "model": "own",
        "data": {"size": 64, "crop": "centre", "validation_limit": 4},
        "link": {"reference_psnr_db": {bcr: [10, 10] for bcr in BCRS}},
        "lpips_weight": 2.0,
        "walks": {"count": 10, "share": share},
        "loop": {"images": 32, "batch": 8, "lr": 3e-3, "warmup_images": 8, "validate_every": 1000},
        **more,
    }


def trained(share: float = 0.5, **more: Any) -> OneStepTraining:
    config = parse(OneStepRecipe, recipe(share, **more), Path("recipe"))
    return OneStepTraining(config, to_uint8(smooth_images(4)))


def make_run(folder: Path, share: float = 0.5, **more: Any) -> Run:
    folder.mkdir(exist_ok=True)
    training = trained(share, **more)
    pixels = training.prepare(to_uint8(smooth_images(16)), folder, CPU, QUIET)
    return Run(training, training.recipe.loop, pixels, folder, CPU)


# the receiver


@pytest.mark.usefixtures("own")
def test_the_last_call_is_shown_y_and_the_walks_end(tmp_path: Path) -> None:
    images = smooth_images(2)
    plain = commin.load("own", "1/48", "commin-fast", naturalness=1.0)
    walk = plain.receiver
    assert isinstance(walk, CommINFast)
    assert (walk.finish, walk.network_calls, walk.loss_name) == (None, 2, "")
    raw = CommINFast(walk.prior, walk.inn, walk.settings.model_copy(update={"points": (FastPoint(
        bcr="1/48", snr_db=0, weights=(0.3,)),)}))  # fmt: skip
    drawn = Link(plain.codec, plain.bcr, plain.channel, raw).transmit(images, 0.0)
    several = Link(plain.codec, plain.bcr, plain.channel, raw).transmit(images, 0.0, samples=2)
    save_flow(network(), tmp_path / "model.safetensors", torch.float32, one_step=True)
    assert add(tmp_path / "model.safetensors", "own", None, None, "none").kind == "finish"
    link = commin.load("own", "1/48", "commin-fast", naturalness=1.0)
    receiver = link.receiver
    assert isinstance(receiver, CommINFast)
    assert (receiver.network_calls, receiver.loss_name) == (3, "mse+lpips")
    raw.finish, calls = receiver.finish, list[tuple[int, int]]()
    raw.progress = lambda done, total: calls.append((done, total))
    ended = Link(plain.codec, plain.bcr, plain.channel, raw).transmit(images, 0.0)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert receiver.finish is not None
    with torch.no_grad():
        made = one_step(receiver.finish, drawn.estimate, torch.ones(2, dtype=torch.int64), torch.zeros(2), drawn.images)
    assert torch.allclose(ended.images, made.clamp(0, 1), atol=0.02)  # bf16 where it is quick
    point = raw.settings.points[0].model_copy(update={"finished": (0.5, 0.0, 1.2)})
    raw.settings = raw.settings.model_copy(update={"points": (point,)})
    shown = Link(plain.codec, plain.bcr, plain.channel, raw).transmit(images, 0.0).images
    sharper = (drawn.estimate + 1.2 * (ended.images - drawn.estimate)).clamp(0, 1)
    assert torch.allclose(shown, (drawn.estimate + sharper) / 2, atol=1e-5)
    again = Link(plain.codec, plain.bcr, plain.channel, raw).transmit(images, 0.0, samples=2)
    assert torch.equal(again.samples, several.samples)  # several are left as they were drawn


@pytest.mark.usefixtures("own")
def test_fit_finds_what_is_shown_of_both(tmp_path: Path) -> None:
    save_flow(network(), tmp_path / "model.safetensors", torch.float32, one_step=True)
    add(tmp_path / "model.safetensors", "own", None, None, "none")
    faces = write_faces(tmp_path, {"valid": 4}, seed=0)
    fitter = Fitter("own", ImageSet(faces), "valid", 4, 1, CPU)
    settings = FastSettings(steps=2, points=(FastPoint(bcr="1/48", snr_db=0),))
    for samples in (1, 2):
        point = fitter.fit("commin-fast", "1/48", 0.0, settings, "none", drop_db=0.5, samples=samples)
        assert isinstance(point, FastPoint)
        assert len(point.finished) == 3
        assert point.finished[0] != point.naturalness
        assert len(point.expected_error) == (2 if samples > 1 else 0)


@pytest.mark.usefixtures("own")
def test_a_last_call_for_other_links_is_left_out(tmp_path: Path) -> None:
    made = network()
    narrow = made.config.link.model_copy(update={"reference_psnr_db": {"1/192": (10.0, 10.0)}})
    other = Flow(made.prior, made.config.model_copy(update={"link": narrow}))
    save_flow(other, tmp_path / "model.safetensors", one_step=True)
    add(tmp_path / "model.safetensors", "own", None, None, "none")
    for bcr, calls in (("1/192", 3), ("1/48", 2)):
        assert commin.load("own", bcr, "commin-fast").receiver.network_calls == calls
    receiver = commin.load("own", "1/48", "commin-fast").receiver
    assert isinstance(receiver, CommINFast)
    receiver.finish = other
    plain = commin.load("own", "1/48")
    with pytest.raises(UserError, match="not 1/48"):
        Link(plain.codec, BCR, plain.channel, receiver).transmit(smooth_images(1), 0.0)


# the walks


@pytest.mark.usefixtures("own")
def test_walks_are_what_the_receiver_draws_and_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = trained()
    walks = training.prepare(to_uint8(smooth_images(16)), tmp_path, CPU, QUIET)
    assert isinstance(walks, Walks)
    assert walks.shape == (10, 9, 64, 64)
    assert len(walks) == 10
    assert set(walks.bcr.tolist()) == {0, 1}
    assert walks.snr_db.unique().numel() == 10
    x, y, _ = from_uint8(walks.pictures).split(3, 1)
    known = to_uint8(torch.cat([smooth_images(16), smooth_images(16).flip(3)]))
    assert all((known == picture).flatten(1).all(1).any() for picture in to_uint8(x))
    assert (x - y).abs().mean((1, 2, 3)).min() > 0.01
    files = {path.name for path in (tmp_path / "walks").iterdir()}
    assert files == {"walks-00000.safetensors", "walks-00001.safetensors"} | {
        f"validation-{number}-{snr}.safetensors" for number in (0, 1) for snr in ("-5", "+0", "+5")
    }
    held = training.validation_walks["validation-1-+5"]
    link = commin.load("own", "1/48")
    receiver = commin.load("own", "1/48", "commin-fast").receiver
    assert isinstance(receiver, CommINFast)
    points = tuple(point.plain() for point in receiver.settings.points)
    receiver.settings = receiver.settings.model_copy(update={"points": points})
    estimate = link.codec.decode(link.send(smooth_images(4), 5.0).received.symbols, torch.full((4,), 5.0))
    assert (from_uint8(held.pictures[:, 3:6]) - estimate).abs().max() < 0.01
    arrival = Arrival(estimate, torch.empty(4, 0, dtype=torch.complex64), torch.full((4,), 5.0), BCR, link.codec)
    drawn = receiver.restore(arrival, [generator("validation", 1, 5.0, row) for row in range(4)], 1)[:, 0]
    assert (from_uint8(held.pictures[:, 6:]) - drawn).abs().max() < 0.01

    monkeypatch.setattr("commin.training.walks.CommINFast.restore", lambda *rest: pytest.fail("walked again"))
    again = trained().prepare(to_uint8(smooth_images(16)), tmp_path, CPU, QUIET)
    assert isinstance(again, Walks)
    assert torch.equal(again.pictures, walks.pictures)
    with pytest.raises(UserError, match="walks of another recipe"):
        trained(data={"size": 64, "crop": "top"}).prepare(to_uint8(smooth_images(16)), tmp_path, CPU, QUIET)


def test_ranks_share_the_walks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def job(name: str) -> dict[str, Tensor]:
        made.append(name)
        return {"pictures": torch.zeros(1, 9, 8, 8, dtype=torch.uint8), "bcr": torch.zeros(1, dtype=torch.int64),
                "snr_db": torch.zeros(1)}  # fmt: skip

    jobs = {name: (lambda name=name: job(name)) for name in "abc"}
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "wait", lambda: None)
    for rank, own in ((1, ["b"]), (0, ["a", "c"])):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        with pytest.raises(UserError, match="no such model file"):  # the other's are not there
            kept(jobs, tmp_path / str(rank), {}, QUIET)
        assert made == own
        made.clear()
    monkeypatch.setattr(ranks, "size", lambda: 1)
    assert len(kept(jobs, tmp_path / "0", {}, QUIET)) == 3
    assert made == ["b"]


# training


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_loss_is_the_error_to_the_original_and_lpips_to_original_or_sample(tmp_path: Path, share: float) -> None:
    run = make_run(tmp_path, share)
    training = run.trainable
    assert isinstance(training, OneStepTraining)
    assert training.walks is not None
    with torch.no_grad():
        training.flow.prior.unet.conv_in.weight.add_(0.1)  # type: ignore[union-attr,operator]
    rows = run.ahead.rows(0)
    walks, number = training.walks, rows["number"]
    plain = from_uint8(walks.pictures[number])
    for seen, kept_ in zip(rows["images"], plain, strict=True):  # all three pictures are mirrored, or none
        assert torch.equal(seen, kept_) or torch.equal(seen, kept_.flip(2))
    x, y, s = rows["images"].split(3, 1)
    with torch.no_grad():
        made = one_step(training.flow, y, walks.bcr[number], walks.snr_db[number], s)
        error = (made - x).square().mean((1, 2, 3)) * 10
        target = s if share else x
        distance = ensemble_lpips(Slopes(), made, target, rows["larger"], generator(0, "lpips", 3))  # type: ignore[arg-type]
        assert training.loss("flow", rows, 3).item() == pytest.approx(float((error + 2 * distance).mean()), rel=1e-4)


@pytest.mark.usefixtures("own")
def test_training_resumes_validates_and_exports(tmp_path: Path) -> None:
    def weights(run: Run) -> Tensor:
        return torch.cat([part.detach().flatten() for part in run.trainable.phases["flow"].parameters()])

    straight = make_run(tmp_path / "a")
    begun = weights(straight)
    for _ in range(4):
        straight.train_step()
    assert not torch.equal(begun, weights(straight))
    stopped = make_run(tmp_path / "b")
    for _ in range(2):
        stopped.train_step()
    stopped.save()
    resumed = make_run(tmp_path / "b")
    resumed.resume()
    for _ in range(2):
        resumed.train_step()
    assert torch.equal(weights(straight), weights(resumed))
    figures, picture = straight.trainable.validate(straight.averages)
    assert len(figures) == 2 * 6 + 1
    assert picture is not None
    assert picture.size == (4 * 64 * 2, (1 + 3 * 6) * 64 * 2)
    straight.trainable.export(straight.averages, tmp_path / "model", 32)
    loaded = load_flow(tmp_path / "model.safetensors")
    assert loaded.config.sample
    assert add(tmp_path / "model.safetensors", "own", None, None, "none").kind == "finish"


@pytest.mark.usefixtures("own")
def test_it_begins_as_one_step_and_changes_nothing_then(tmp_path: Path) -> None:
    save_flow(network(sample=False), tmp_path / "one.safetensors", torch.float32, one_step=True)
    training = trained(init=str(tmp_path / "one.safetensors"))
    y, sample = smooth_images(2), smooth_images(2, seed=1)
    links = torch.tensor([0, 1]), torch.tensor([0.0, 3.0])
    with torch.no_grad():
        alone = one_step(network(sample=False), y, *links)
        assert torch.allclose(one_step(training.flow, y, *links, sample), alone, atol=1e-5)
    save_flow(network(), tmp_path / "finish.safetensors", torch.float32, one_step=True)
    trained(init=str(tmp_path / "finish.safetensors"))
    for more, words in (
        ({"walks": None, "init": str(tmp_path / "finish.safetensors")}, "is shown a sample"),
        ({"loop": {**recipe()["loop"], "colour": 0.1}}, "loop.colour"),
        ({"walks": {"count": 10, "share": 1.5}}, "share"),
    ):
        with pytest.raises(UserError, match=words):
            trained(**more)


@pytest.mark.usefixtures("own")
def test_command_makes_the_walks_and_trains(tmp_path: Path) -> None:
    import yaml

    faces = write_faces(tmp_path, {"train": 8, "valid": 4}, seed=0)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe()))
    command = ["train", "one-step", str(path), "--data", str(faces), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*command, "--dry-run"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert not (tmp_path / "runs").exists()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (done.output, done.exception)
    assert load_flow(tmp_path / "runs" / "tiny" / "model.safetensors").config.sample


def test_shipped_recipe_is_valid() -> None:
    config = parse(OneStepRecipe, read_yaml(RECIPE), RECIPE)
    assert config.name == RECIPE.stem
    assert Path(str(config.init)).is_file()
    assert config.walks is not None
    assert config.walks.count % PER_FILE == 0
