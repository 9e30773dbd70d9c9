"""Refined symbols: better pictures at the same power, a function of the picture alone, no weight touched."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

import commin
from commin.channels.awgn import Awgn
from commin.codec.deepjscc import DeepJSCC
from commin.codec.tiled import TiledCodec
from commin.images import to_picture
from commin.link import Link
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.units import power
from tests.conftest import smooth_images
from tests.test_cli import commin as run

BCR = Fraction(1, 48)
SNRS = torch.tensor([2.0, 4.0, 6.0])


@pytest.fixture(scope="module")
def codec() -> DeepJSCC:
    """The shipped one: an untrained decoder hardly listens to its symbols."""
    return commin.load("faces64").codec


def test_refined_symbols_make_better_pictures_at_unit_power(codec: DeepJSCC) -> None:
    images = smooth_images(3)
    link = Link(codec, BCR, Awgn(), DeepJSCCReceiver())
    plain, refined = (link.transmit(images, SNRS, seed=3, refinement=steps) for steps in (0, 20))
    assert torch.allclose(power(refined.symbols), torch.ones(3), atol=1e-5)
    assert torch.allclose(refined.measured_snr_db, SNRS, atol=1.5)
    errors = [(sent.estimate - images).square().mean((1, 2, 3)) for sent in (plain, refined)]
    assert (errors[1] < 0.95 * errors[0]).all()


def test_what_comes_out_no_better_stays(codec: DeepJSCC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commin.codec.refinement.RATE", 1e4)
    images = smooth_images(3)
    plain = codec.encode(images, SNRS, BCR)
    assert torch.equal(codec.encode(images, SNRS, BCR, refinement=1), plain)


def test_a_picture_is_refined_alike_in_any_batch(codec: DeepJSCC) -> None:
    images = smooth_images(3)
    together = codec.encode(images, SNRS, BCR, refinement=4)
    for image, snr, symbols in zip(images, SNRS, together, strict=True):
        assert torch.allclose(codec.encode(image[None], snr[None], BCR, refinement=4)[0], symbols, atol=1e-3)


def test_weights_and_their_gradients_stay(codec: DeepJSCC) -> None:
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    with torch.inference_mode():
        codec.encode(smooth_images(1), SNRS[:1], BCR, refinement=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())
    assert all(parameter.grad is None for parameter in codec.parameters())


def test_a_transmitter_without_decoder_cannot(codec: DeepJSCC) -> None:
    alone = DeepJSCC(codec.config, decoder=False)
    with pytest.raises(ValueError, match="needs the decoder"):
        alone.encode(smooth_images(1), SNRS[:1], BCR, refinement=1)


def test_tiles_are_refined_one_by_one(codec: DeepJSCC) -> None:
    tiled, images = TiledCodec(codec), smooth_images(1, 112)
    symbols = tiled.encode(images, SNRS[:1], BCR, refinement=3)
    first = codec.encode(images[..., :64, :64], SNRS[:1], BCR, refinement=3)
    assert torch.allclose(symbols[:, : first.shape[1]], first, atol=1e-3)


def test_transmit_refines(tmp_path: Path) -> None:
    to_picture(smooth_images(1)[0]).save(tmp_path / "photo.png")
    said = {}
    for steps in ("0", "20"):
        done = run(
            "transmit",
            tmp_path / "photo.png",
            "--receiver",
            "deepjscc",
            "--snr",
            "5",
            "--refine",
            steps,
            "-o",
            tmp_path / steps,
        )
        assert done.returncode == 0, done.stderr
        said[steps] = done.stdout
    records = {steps: json.loads((tmp_path / steps / "transmit.json").read_text())[0] for steps in said}
    assert "20 refining steps" in said["20"]
    assert "refining" not in said["0"]
    assert [record["refinement"] for record in records.values()] == [0, 20]
    assert records["20"]["psnr_db"] > records["0"]["psnr_db"]


def test_a_negative_number_of_steps_is_refused(tmp_path: Path) -> None:
    done = run("transmit", "photo.png", "--refine", "-1", "-o", tmp_path)
    assert done.returncode == 2
    assert "--refine" in done.stderr
