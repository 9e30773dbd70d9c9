"""A decoder trained for MSE and LPIPS: its loss, what stays frozen, its file, and the receiver made of it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from commin.channels.awgn import Awgn
from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC
from commin.codec.files import load_codec, load_decoder, save_codec, save_decoder
from commin.codec.tiled import TiledCodec
from commin.errors import UserError
from commin.evaluation.systems import group
from commin.images import to_uint8
from commin.link import Link
from commin.metrics.lpips import load_lpips
from commin.receivers.jscc_lpips import JsccLpips
from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.decoder import DecoderRecipe, DecoderTraining
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml
from commin.units import db_to_linear
from tests.conftest import Slopes, smooth_images

RECIPE = Path(__file__).parent.parent / "recipes" / "faces64-decoder.yaml"
LINK = {"reference_psnr_db": {"1/192": [10, 12], "1/48": [12, 14]}}
MODEL = DeepJSCCConfig(widths=(8, 8, 8), latent_channels=(8, 32), bottleneck=8, image_size=32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commin.training.decoder.load_lpips", lambda name: Slopes())


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    save_codec(DeepJSCC(MODEL), path, torch.float32)
    return path


def recipe(codec: Path, weight: float = 5.0, **loop: Any) -> dict[str, Any]:
    return {
        "kind": "decoder",
        "name": "tiny",
        "codec": str(codec),
        "data": {"size": 32, "crop": "centre", "validation_limit": 4},
        "link": LINK,
        "lpips_weight": weight,
        "loop": {"images": 800, "batch": 8, "lr": 1e-2, "warmup_images": 16, "validate_every": 1000, **loop},
    }


def make_run(folder: Path, codec: Path, weight: float = 5.0, **loop: Any) -> Run:
    folder.mkdir(exist_ok=True)
    config = parse(DecoderRecipe, recipe(codec, weight, **loop), Path("recipe"))
    pixels = to_uint8(smooth_images(20, 32))
    return Run(DecoderTraining(config, pixels[:4]), config.loop, pixels, folder, torch.device("cpu"))


def training(run: Run) -> DecoderTraining:
    assert isinstance(run.trainable, DecoderTraining)
    return run.trainable


def weights(module: nn.Module) -> Tensor:
    return torch.cat([part.detach().flatten().clone() for part in module.parameters()])


def test_training_lowers_the_loss_and_leaves_the_encoder(tmp_path: Path, small_file: Path) -> None:
    run = make_run(tmp_path, small_file, ema=0.9)
    encoder, before = weights(training(run).encoder), run.trainable.validate(run.averages)[0]["score"]
    for _ in range(60):
        run.train_step()
    assert run.trainable.validate(run.averages)[0]["score"] > 0.95 * before  # both are negative
    assert torch.equal(encoder, weights(training(run).encoder))
    assert run.state()["phases"].keys() == {"decoder"}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path, small_file: Path, precision: str) -> None:
    straight = make_run(tmp_path / "a", small_file, precision=precision)
    for _ in range(4):
        straight.train_step()
    stopped = make_run(tmp_path / "b", small_file, precision=precision)
    for _ in range(2):
        stopped.train_step()
    stopped.save()
    resumed = make_run(tmp_path / "b", small_file, precision=precision)
    resumed.resume()
    for _ in range(2):
        resumed.train_step()
    for of in (lambda run: run.trainable.phases["decoder"], lambda run: run.averages["decoder"]):
        assert torch.equal(weights(of(straight)), weights(of(resumed)))


def test_links_and_squared_errors_are_the_codecs(tmp_path: Path, small_file: Path) -> None:
    """The same draws as for a codec; with λ = 0 the same loss; with λ the distance is added."""
    shown = recipe(small_file)
    codec_recipe = {
        **{key: shown[key] for key in ("name", "data", "link", "loop")},
        "kind": "codec", "init": str(small_file), "model": MODEL.model_dump(),
    }  # fmt: skip
    codec = CodecTraining(parse(CodecRecipe, codec_recipe, Path("r")), torch.zeros(0, 3, 32, 32))
    images = smooth_images(6, 32)
    plain, both = (training(make_run(tmp_path, small_file, weight)) for weight in (0.0, 2.0))
    rows, same = (each.draw(images, torch.Generator().manual_seed(3)) for each in (codec, plain))
    assert rows.keys() == same.keys()
    assert all(torch.equal(rows[key], same[key]) for key in rows)
    with torch.no_grad():
        loss = plain.loss("decoder", rows, 0)
        assert torch.equal(loss, codec.loss("codec", rows, 0))
        distance = Slopes()(plain.link.picture(plain.encoder, plain.decoder, rows), images).mean()
        assert both.loss("decoder", rows, 0).item() == pytest.approx(float(loss + 2 * distance), rel=1e-5)


def test_figures_and_score(tmp_path: Path, small_file: Path) -> None:
    run = make_run(tmp_path, small_file, 3.0)
    figures, picture = run.trainable.validate(run.averages)
    assert picture is not None
    assert picture.size == (4 * 32 * 2, 7 * 32 * 2)
    losses = []
    for bcr, (low, high) in LINK["reference_psnr_db"].items():
        for snr, reference in ((-5, low), (0, (low + high) / 2), (5, high)):
            error = 1 / db_to_linear(figures[f"psnr {bcr} {snr:+g}"])
            losses.append(error * db_to_linear(reference) + 3 * figures[f"lpips {bcr} {snr:+g}"])
    assert figures["score"] == pytest.approx(-sum(losses) / 6, rel=1e-4)
    assert run.trainable.validate(run.averages)[0] == figures


def test_exported_decoder_loads_strictly(tmp_path: Path, small_file: Path) -> None:
    run = make_run(tmp_path, small_file)
    run.train_step()
    run.trainable.export(run.averages, tmp_path / "model", run.images_seen)
    loaded = load_decoder(tmp_path / "model.safetensors")
    assert loaded.config == MODEL
    assert (weights(loaded) - weights(run.averages["decoder"])).abs().max() < 1e-3
    with pytest.raises(UserError, match="holds deepjscc, not deepjscc-decoder"):
        load_decoder(small_file)
    with pytest.raises(UserError, match="holds deepjscc-decoder, not deepjscc"):
        load_codec(tmp_path / "model.safetensors")
    del loaded.gate0
    save_decoder(loaded, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=r"missing .*gate0"):
        load_decoder(tmp_path / "less.safetensors")


def test_wrong_recipes_and_missing_lpips_are_named(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = recipe(small_file) | {"link": {"reference_psnr_db": {"1/768": [10, 12]}}}
    with pytest.raises(UserError, match="has no ρ = 1/768"):
        DecoderTraining(parse(DecoderRecipe, other, Path("r")), torch.zeros(0, 3, 32, 32))
    with pytest.raises(UserError, match="lpips_weight"):
        parse(DecoderRecipe, recipe(small_file, -1.0), Path("r"))
    monkeypatch.setattr("commin.training.decoder.load_lpips", load_lpips)
    monkeypatch.setenv("COMMIN_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    load_lpips.cache_clear()
    with pytest.raises(UserError, match=r"lpips-squeeze: .* is in none of .*commin zoo pull lpips-squeeze"):
        make_run(tmp_path, small_file)
    load_lpips.cache_clear()


def test_shipped_recipe_is_valid() -> None:
    config = parse(DecoderRecipe, read_yaml(RECIPE), RECIPE)
    assert config.name == RECIPE.stem
    assert config.codec == "faces64"
    assert KINDS["decoder"].recipe is DecoderRecipe


# the receiver


def other_decoder(codec: DeepJSCC) -> JsccLpips:
    torch.manual_seed(7)
    other = DeepJSCC(codec.config, encoder=False).eval()
    assert other.decoder is not None
    return JsccLpips(other.decoder)


def test_receiver_decodes_what_arrived(codec: DeepJSCC, images: Tensor) -> None:
    receiver = other_decoder(codec)
    assert (receiver.name, receiver.network_calls, group("jscc-lpips", receiver)) == ("jscc-lpips", 1, "lpips")
    link = Link(codec, Fraction(1, 48), Awgn(), receiver)
    own = codec.decoder
    snrs = [-5.0, 0.0, 5.0, 20.0]
    sent = link.transmit(images, snrs, seed=3, samples=2)
    with torch.no_grad():
        expected = receiver.decoder(sent.received.symbols, torch.tensor(snrs), (64, 64))
    assert torch.equal(sent.samples, expected[:, None].expand(-1, 2, -1, -1, -1))
    assert (sent.images - sent.estimate).abs().max() > 1e-3
    assert codec.decoder is own
    alone = link.transmit(images[2:3], 5.0, seed=3)
    assert torch.allclose(alone.images[0], sent.images[2], atol=1e-5)


def test_receiver_takes_tiles_as_the_codec_does(codec: DeepJSCC) -> None:
    whole = smooth_images(1, 96)
    own = JsccLpips(codec.decoder)  # type: ignore[arg-type]
    sent = Link(TiledCodec(codec), Fraction(1, 48), Awgn(), own).transmit(whole, 5.0)
    assert sent.images.shape == (1, 3, 96, 96)
    assert torch.equal(sent.images, sent.estimate)


def test_decoder_of_another_codec_is_refused(codec: DeepJSCC, images: Tensor) -> None:
    stranger = other_decoder(DeepJSCC(MODEL, encoder=False))
    with pytest.raises(UserError, match="not one of the link's codec"):
        Link(codec, Fraction(1, 48), Awgn(), stranger).transmit(images)
