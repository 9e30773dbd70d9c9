"""InverseJSCC from the command line: a generator of the zoo, pictures that it does not fit, the record of its loss."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from torch import Tensor
from typer.testing import CliRunner

import commin
from commin.cli.main import app
from commin.errors import UserError
from commin.images import to_picture
from commin.receivers.commin_table import write_settings
from commin.receivers.inverse_jscc import InverseJSCC, InverseSettings
from commin.stylegan2.discriminator import Discriminator, DiscriminatorConfig
from commin.stylegan2.files import save_discriminator, save_generator
from commin.stylegan2.generator import Generator, GeneratorConfig
from commin.stylegan2.ilo import IloConfig
from commin.zoo.load import default_receivers
from tests.conftest import smooth_images, write_faces


def run(*arguments: object) -> Result:
    torch.set_num_threads(1)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def own(codec_file: Path, tmp_path: Path) -> None:
    """A model of codec, generator and settings, untrained and small."""
    torch.manual_seed(0)
    made = Generator(GeneratorConfig(widths=(8, 8, 8, 8, 8), style_dim=8, mapping_layers=1))
    save_generator(made, tmp_path / "generator.safetensors")
    search = IloConfig(steps=(3, 2), rates=(0.1, 0.1), fit_samples=100, batch=1)
    write_settings(InverseSettings(ratios={"1/48": search}), tmp_path / "settings.json")
    for path, options in (
        (codec_file, ()), (tmp_path / "generator.safetensors", ()),
        (tmp_path / "settings.json", ("--kind", "inverse-jscc")),
    ):  # fmt: skip
        done = run("zoo", "add", path, "--model", "own", *options)
        assert done.exit_code == 0, done.exception


def photo(folder: Path, name: str, width: int, height: int) -> Path:
    path = folder / f"{name}.png"
    to_picture(smooth_images(1, 80)[0, :, :height, :width]).save(path)
    return path


@pytest.mark.usefixtures("own")
def test_settings_of_the_zoo_are_those_of_its_ratio() -> None:
    receiver = commin.load("own", "1/48", "inverse-jscc").receiver
    assert isinstance(receiver, InverseJSCC)
    assert receiver.ilo.config.steps == (3, 2)
    assert "inverse-jscc" not in default_receivers("own", "1/48")  # it takes too long to be shown unasked


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("size", [(80, 64), (48, 48)])
def test_a_photo_that_the_generator_does_not_fit(tmp_path: Path, size: tuple[int, int]) -> None:
    wrong, right, out = photo(tmp_path, "wrong", *size), photo(tmp_path, "right", 64, 64), tmp_path / "out"
    receivers = ("--receiver", "deepjscc,inverse-jscc", "--crop", "none")
    done = run("transmit", wrong, right, "--model", "own", *receivers, "-o", out)
    assert done.exit_code == 2
    lines = [line for line in done.output.splitlines() if line.startswith("commin: ")]
    assert lines[0].startswith(f"commin: {wrong}: inverse-jscc: the generator makes 64×64 pixels and cannot match")
    assert f"{size[0]}×{size[1]}" in lines[0]
    assert lines[1:] == ["commin: 1 of 2 photos could not be sent"]
    records = [(Path(r["image"]).stem, r["system"]) for r in json.loads((out / "transmit.json").read_text())]
    assert records == [("wrong", "deepjscc"), ("right", "deepjscc"), ("right", "inverse-jscc")]
    assert (out / "wrong.deepjscc.+0dB.png").is_file()
    assert (out / "right.inverse-jscc.+0dB.png").is_file()


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean((1, 2, 3))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("here", [True, False])
def test_the_loss_is_told_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    monkeypatch.setattr("commin.metrics.lpips.try_lpips", lambda: distance if here else None)
    out = tmp_path / "out"
    receivers = ("--receiver", "deepjscc,inverse-jscc")
    done = run("transmit", photo(tmp_path, "face", 64, 64), "--model", "own", *receivers, "-o", out)
    assert done.exit_code == 0, done.exception
    assert ("warning: inverse-jscc searches by the squared error alone" in done.output) is not here
    records = json.loads((out / "transmit.json").read_text())
    assert [record["loss"] for record in records] == ["", "mse+lpips" if here else "mse"]
    assert "own-inverse-jscc.json" in records[1]["weights"]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("here", "loss", "group"), [(True, "mse+lpips", "lpips"), (False, "mse", "plain")])
def test_the_loss_in_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool, loss: str, group: str
) -> None:
    importlib.import_module("commin.evaluation.sweep")  # scores by its own LPIPS, not the one replaced below
    monkeypatch.setattr("commin.metrics.lpips.try_lpips", lambda: distance if here else None)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("{model: own, systems: [inverse-jscc], bcr: 1/48, snr_db: 0, crop: none, limit: 2}\n")
    faces = tmp_path / "faces"
    faces.mkdir()
    done = run("evaluate", sweep, "--data", write_faces(faces, {"test": 2}, seed=1), "-o", tmp_path / "out")
    assert done.exit_code == 0, (done.output, done.exception)
    assert ("warning: inverse-jscc searches by the squared error alone" in done.output) is not here
    records = [json.loads(line) for line in (tmp_path / "out" / "records-0.jsonl").read_text().splitlines()]
    assert [(record["loss"], record["group"]) for record in records] == [(loss, group)] * 2


@pytest.mark.usefixtures("own")
def test_what_cannot_be_a_generator(tmp_path: Path) -> None:
    path = tmp_path / "discriminator.safetensors"
    save_discriminator(Discriminator(DiscriminatorConfig(widths=(8, 8))), path)
    done = run("zoo", "add", path, "--model", "own")
    assert isinstance(done.exception, UserError)
    assert "holds stylegan2-discriminator" in str(done.exception)
    many = IloConfig(steps=(1,) * 6, rates=(0.1,) * 6)
    write_settings(InverseSettings(ratios={"1/48": many}), tmp_path / "settings.json")
    run("zoo", "add", tmp_path / "settings.json", "--model", "own", "--kind", "inverse-jscc")
    with pytest.raises(UserError, match="6 phases for a generator of 5 blocks"):
        commin.load("own", "1/48", "inverse-jscc")


@pytest.mark.usefixtures("own")
def test_what_the_benchmark_tunes_the_zoo_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    tune = importlib.import_module("inverse_tune")
    shared = importlib.import_module("inverse_bench").shared
    assert shared(75, IloConfig().steps) == (26, 25, 12, 12)
    assert shared(1000, (110, 0, 0, 0, 40)) == (734, 0, 0, 0, 266)
    ratios = ("1/192", "1/48", "1/12")
    tried = tune.make_grid(",".join(ratios), "4;2,2", "0.1", "0.5,2")
    assert [bcr for bcr, _ in tried] == [bcr for bcr in ratios for _ in range(4)]
    grid = [search for bcr, search in tried if bcr == "1/48"]
    assert [(search.steps, search.lpips) for search in grid] == [((4,), 0.5), ((4,), 2.0), ((2, 2), 0.5), ((2, 2), 2.0)]
    figures = {"psnr_db": 20.0, "lpips_ratio": 0.9}
    rows = {
        f"{bcr} {index}": {"bcr": bcr, "lpips": abs(index - best), "search": search.model_dump(mode="json"), **figures}
        for bcr, best in (("1/192", 0), ("1/48", 3), ("1/12", 1))
        for index, search in enumerate(grid)
    }
    tune.write_best(rows, tmp_path / "tuned.json")
    assert run("zoo", "add", tmp_path / "tuned.json", "--model", "own", "--kind", "inverse-jscc").exit_code == 0
    for bcr, best in (("1/192", 0), ("1/48", 3), ("1/12", 1)):
        receiver = commin.load("own", bcr, "inverse-jscc").receiver
        assert isinstance(receiver, InverseJSCC)
        assert receiver.ilo.config == grid[best]
