"""A model of one's own: parts added to the zoo, receivers made from them, and the command line over all of it."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import commin
from commin.cli.main import app
from commin.codec.files import load_codec, save_decoder
from commin.codec.reference import LinkConfig
from commin.diffusion.flow import FlowConfig, flow_from, save_flow
from commin.diffusion.prior import save_prior
from commin.errors import UserError
from commin.images import to_picture
from commin.inn.degradation import Degradation, DegradationConfig
from commin.inn.files import save_inn
from commin.modelfile import read_any_model, write_model
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_table import read_settings, write_settings
from commin.receivers.sing_inn import SingINNSettings
from commin.receivers.sing_zero import ZeroSettings
from commin.training.prior import PriorConfig, new_prior
from commin.zoo.cards import card
from commin.zoo.fetch import find
from commin.zoo.fitting import FORMS
from commin.zoo.load import default_receivers
from commin.zoo.mean import write_mean
from commin.zoo.receivers import NATURALNESS, NEEDS, RECEIVERS, complete
from tests.conftest import smooth_images

STEPS = 3


@pytest.fixture(scope="module")
def parts(codec_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, list[str]]]:
    """A codec, a prior, an INN of one ρ, settings and all that is trained for a receiver, small, how to add them."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = PriorConfig(patch=4, widths=(16, 16), attention=(False, False), head=8, groups=8, steps=20)
    prior = new_prior(config, 64)
    save_prior(prior, folder / "prior")
    codec = load_codec(codec_file, "decoder")
    assert codec.decoder is not None
    save_decoder(codec.decoder, folder / "decoder.safetensors")
    link = LinkConfig(reference_psnr_db={"1/48": (19, 23)})
    for inn in (False, True):
        save_flow(flow_from(prior, FlowConfig(link=link, inn=inn)), folder / f"flow-{inn}.safetensors")
    save_flow(flow_from(prior, FlowConfig(link=link, sigma=0.0)), folder / "one-step.safetensors", one_step=True)
    finish = flow_from(prior, FlowConfig(link=link, sigma=0.0, sample=True))
    save_flow(finish, folder / "finish.safetensors", one_step=True)
    save_inn(Degradation(DegradationConfig(bcr="1/48", width=8, blocks=1, lifts=1)), folder / "inn.safetensors")
    points = (FastPoint(bcr="1/48", snr_db=0, expected_error=(0.5, 0.4)),)
    write_settings(FastSettings(steps=STEPS, points=points), folder / "fast.json")
    return [
        (codec_file, ["--crop", "celeba"]), (folder / "prior", []), (folder / "inn.safetensors", []),
        (folder / "fast.json", ["--kind", "commin-fast"]), (folder / "decoder.safetensors", []),
        (folder / "flow-False.safetensors", []), (folder / "flow-True.safetensors", []),
        (folder / "one-step.safetensors", []), (folder / "finish.safetensors", []),
    ]  # fmt: skip


def run(*arguments: object) -> str:
    torch.set_num_threads(1)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture
def own(parts: list[tuple[Path, list[str]]]) -> None:
    """The parts, added as model ``own``."""
    for path, options in parts:
        run("zoo", "add", path, "--model", "own", *options)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    to_picture(smooth_images(1, 80)[0]).save(path)
    return path


@pytest.mark.usefixtures("own")
def test_added_parts_are_verified_and_found() -> None:
    assert card("own-codec").image_size == 64
    assert card("own-inn-1-48").bcr == "1/48"
    kinds = {"decoder", "flow", "flow-inn", "one-step", "finish"}
    assert {card(f"own-{kind}").kind for kind in kinds} == kinds
    assert find("own-prior").is_dir()
    assert "WRONG" not in run("zoo", "verify")
    assert complete("own", commin.load("own").bcr) == [
        name for name in RECEIVERS if "generator" not in NEEDS.get(name, ())
    ]
    assert default_receivers("own", "1/48") == ["deepjscc", "commin-fast"]
    assert default_receivers("own", "1/12") == ["deepjscc"]  # no INN for that ρ


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", [name for name in RECEIVERS if "generator" not in NEEDS.get(name, ())])
def test_receivers_restore(name: str) -> None:
    result = commin.load("own", "1/48", name).transmit(smooth_images(2), samples=2)
    assert result.samples.shape == (2, 2, 3, 64, 64)
    assert torch.isfinite(result.samples).all()


@pytest.mark.usefixtures("own")
def test_naturalness_runs_from_the_estimate_to_a_sample() -> None:
    images = smooth_images(2)
    estimate, half, sample = (
        commin.load("own", "1/48", "commin-fast", naturalness=share).transmit(images).images for share in (0, 0.5, 1)
    )
    assert torch.allclose(estimate, commin.load("own", "1/48").transmit(images).images)
    assert torch.allclose(half, (estimate + sample) / 2, atol=1e-5)


@pytest.mark.usefixtures("own")
def test_what_is_missing_is_named() -> None:
    for arguments, words in (
        (("own", "1/12", "commin-fast"), "no inn for it at ρ = 1/12"),
        (("own", "1/48", "inverse-jscc"), "no generator"),
        (("nobody", "1/48", "commin-fast"), "no such model"),
    ):
        with pytest.raises(UserError, match=words):
            commin.load(*arguments)
    with pytest.raises(UserError, match="deepjscc has none"):
        commin.load("own", naturalness=0.5)
    with pytest.raises(UserError, match=r"0\.\.1"):
        commin.load("own", receiver="commin-fast", naturalness=1.5)


@pytest.mark.usefixtures("own")
def test_transmit_shows_samples_mean_and_expected_error(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run("transmit", photo, "--model", "own", "--samples", "3", "--naturalness", "0.7", "-o", out)
    assert "dB below the mean" in said
    names = {path.name for path in out.glob("photo.commin-fast.+0dB.*")}
    assert names == {
        f"photo.commin-fast.+0dB.{what}.png" for what in ("sample1", "sample2", "sample3", "mean", "spread", "error")
    }
    assert (out / "photo.deepjscc.+0dB.png").is_file()
    assert Image.open(out / "photo.png").height > 4 * 256  # DeepJSCC, a sample, the mean, its expected error
    records = json.loads((out / "transmit.json").read_text())
    assert [record["system"] for record in records] == ["deepjscc", "commin-fast"]
    assert (records[1]["network_calls"], records[1]["loss"]) == (STEPS + 1, "mse+lpips")
    names = {"own-prior", "own-inn-1-48.safetensors", "own-commin-fast.json", "own-finish.safetensors"}
    assert names < records[1]["weights"].keys()


def test_add_refuses_what_is_no_part(tmp_path: Path, codec_file: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "settings.json"):
        done = CliRunner().invoke(app, ["zoo", "add", str(path), "--model", "own"])
        assert isinstance(done.exception, UserError)


def test_the_mean_of_files_is_that_of_their_weights(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    config = {"bcr": "1/48"}
    for seed, path in enumerate(files):
        weight = torch.full((2, 3), 2.0**seed)
        write_model(path, "codec", config, {"weight": weight, "steps": torch.tensor(seed)}, torch.float16)
    run("zoo", "mean", *files, "-o", tmp_path / "mean.safetensors")
    kind, held, tensors = read_any_model(tmp_path / "mean.safetensors")
    assert (kind, held) == ("codec", config)
    assert torch.equal(tensors["weight"], torch.full((2, 3), 7 / 3).half().float())
    write_model(tmp_path / "other.safetensors", "codec", config, {"weight": torch.zeros(3)}, torch.float16)
    for paths, words in ((files[:1], "two files"), ([files[0], tmp_path / "other.safetensors"], "same network")):
        with pytest.raises(UserError, match=words):
            write_mean(paths, tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()


def test_what_can_be_fitted_has_naturalness() -> None:
    assert set(FORMS) == set(NATURALNESS)


@pytest.mark.usefixtures("own")
def test_fit_writes_a_table_and_goes_on(photo: Path, tmp_path: Path) -> None:
    data, walk, out = tmp_path / "data", tmp_path / "walk.yaml", tmp_path / "fast.json"
    data.mkdir()
    for index, picture in enumerate(smooth_images(3)):
        to_picture(picture).save(data / f"{index}.png")
    walk.write_text("steps: 2\nrings: 2\n")
    options = ("fit", "--model", "own", "--data", data, "--bcr", "1/48", "--walk", walk, "-o", out)
    assert run(*options, "--snr", "-5").count("naturalness") == 1
    assert run(*options, "--snr", "-5,5").count("naturalness") == 1  # the first is there already
    settings = read_settings(FastSettings, out)
    assert [point.snr_db for point in settings.points] == [-5, 5]
    assert all(len(point.weights) == 2 and 0 <= point.naturalness <= 1 for point in settings.points)
    assert all(0 <= weight <= 1 for point in settings.points for weight in point.weights)
    assert all(len(point.expected_error) == 2 for point in settings.points)
    fusion = ("--method", "fusion", "--samples", "1", "--snr", "0", "-o", tmp_path / "fusion.json")
    assert run(*options[:-2], *fusion).count("naturalness") == 1
    (fused,) = read_settings(FastSettings, tmp_path / "fusion.json").points
    assert len(fused.inn_gains) == 2
    assert fused.expected_error == ()
    symbol = ("--receiver", "commin-symbol", "--snr", "0", "-o", tmp_path / "symbol.json")
    assert run(*options[:-2], *symbol).count("naturalness") == 1
    zero = ("--receiver", "sing-zero", "--snr", "0", "-o", tmp_path / "zero.json")
    assert run(*options[:-2], *zero).count("naturalness") == 1
    assert len(read_settings(ZeroSettings, tmp_path / "zero.json").points[0].response) == 4
    run("zoo", "add", tmp_path / "zero.json", "--model", "own", "--kind", "sing-zero")
    restored = commin.load("own", "1/48", "sing-zero").transmit(smooth_images(1))
    assert torch.isfinite(restored.images).all()
    walk.write_text("steps: 2\n")
    assert "zeta 1.5" in run(*options[:-2], "--receiver", "sing-inn", "--snr", "-5", "-o", tmp_path / "inn.json")
    walk.write_text("steps: 2\nrings: 2\n")
    assert read_settings(SingINNSettings, tmp_path / "inn.json").points[0].start == 1
    for wrong in (["--receiver", "deepjscc"], ["--receiver", "sing-zero", "--whiten"], ["--details", "1,x"]):
        failed = CliRunner().invoke(app, [*map(str, options), "--snr", "0", *wrong])
        assert isinstance(failed.exception, UserError)
    other = CliRunner().invoke(app, [*map(str, options), "--snr", "0", "--whiten"])
    assert isinstance(other.exception, UserError)
