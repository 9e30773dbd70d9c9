"""Networks of their own for some ρ: who serves whom, where they begin, what training leaves alone."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC
from commin.codec.ends import link_channels, link_state
from commin.codec.files import load_codec, save_codec
from commin.codec.separate import begin_separate
from commin.errors import UserError
from commin.images import to_uint8
from commin.training.codec import CodecRecipe, CodecTraining
from commin.training.loop import Run
from commin.training.recipe import parse
from tests.conftest import smooth_images

BCRS = (Fraction(1, 192), Fraction(1, 48), Fraction(1, 12))
SNRS = torch.tensor([-5.0, 0.0, 2.5, 5.0])


@pytest.fixture
def separate(codec: DeepJSCC) -> DeepJSCC:
    """The codec with a network of its own for ρ = 1/12, begun as the one for all."""
    made = DeepJSCC(codec.config.model_copy(update={"separate": (128,)}))
    made.load_state_dict(begin_separate(codec.state_dict(), made.config))
    return made.eval()


@pytest.mark.parametrize("bcr", BCRS)
def test_begun_as_one_network_it_is_that_network(
    codec: DeepJSCC, separate: DeepJSCC, images: torch.Tensor, bcr: Fraction
) -> None:
    symbols = separate.encode(images, SNRS, bcr)
    assert torch.equal(symbols, codec.encode(images, SNRS, bcr))
    assert torch.equal(separate.decode(symbols, SNRS), codec.decode(symbols, SNRS))


def test_each_row_goes_through_the_network_of_its_link(separate: DeepJSCC, images: torch.Tensor) -> None:
    with torch.no_grad():
        for parameter in (
            *separate.encoder.networks["128"].parameters(),
            *separate.decoder.networks["128"].parameters(),
        ):
            parameter.mul_(1.05)
    channels = torch.tensor([128.0, 8.0, 128.0, 32.0])
    mixed = separate.encoder.latent(images, SNRS, channels)
    pictures = separate.decoder.picture(mixed, SNRS, channels)
    for row, name in enumerate(("128", "shared", "128", "shared")):
        one = slice(row, row + 1)
        latent = separate.encoder.networks[name].latent(images[one], SNRS[one], channels[one])
        assert torch.allclose(mixed[one], latent, rtol=1e-4, atol=1e-4)
        picture = separate.decoder.networks[name].picture(latent, SNRS[one], channels[one])
        assert torch.allclose(pictures[one], picture, rtol=1e-4, atol=1e-4)
    other = separate.encoder.networks["shared"].latent(images[:1], SNRS[:1], channels[:1])
    assert not torch.allclose(mixed[:1], other, atol=1e-3)


@pytest.mark.parametrize("largest", [2, 6, 8, 10, 128, 1536])
def test_the_links_state_tells_the_channels(largest: int) -> None:
    config = DeepJSCCConfig(latent_channels=tuple(range(2, largest + 1, 2)))
    channels = torch.tensor(config.latent_channels, dtype=torch.float32)
    assert torch.equal(link_channels(link_state(torch.zeros_like(channels), channels, config), config), channels)


def test_training_one_ratio_leaves_the_other_networks(codec_file: Path, codec: DeepJSCC, tmp_path: Path) -> None:
    content = {
        "kind": "codec", "name": "own", "init": str(codec_file),
        "data": {"size": 64, "crop": "centre", "validation_limit": 2},
        "model": {**codec.config.model_dump(mode="json"), "separate": [128]},
        "link": {"reference_psnr_db": {"1/12": [14, 18]}},
        "loop": {"images": 16, "batch": 4, "warmup_images": 4, "validate_every": 16, "optimizer": "muon"},
    }  # fmt: skip
    recipe, pixels = parse(CodecRecipe, content, Path("recipe")), to_uint8(smooth_images(6))
    run = Run(CodecTraining(recipe, pixels[:2]), recipe.loop, pixels, tmp_path, torch.device("cpu"))
    for _ in range(2):
        run.train_step()
    before = begin_separate(load_codec(codec_file).state_dict(), recipe.model)
    for key, value in run.trainable.phases["codec"].state_dict().items():
        if ".shared." in key:
            assert torch.equal(value, before[key]), key
    moved = [
        not torch.equal(value, before[key])
        for key, value in run.trainable.phases["codec"].state_dict().items()
        if ".128." in key
    ]
    assert sum(moved) > len(moved) / 2


def test_a_file_keeps_it_and_goes_on(separate: DeepJSCC, images: torch.Tensor, tmp_path: Path) -> None:
    save_codec(separate, tmp_path / "separate.safetensors", torch.float32)
    read = load_codec(tmp_path / "separate.safetensors")
    assert read.config == separate.config
    assert torch.equal(read.encode(images, SNRS, BCRS[2]), separate.encode(images, SNRS, BCRS[2]))
    content = {
        "kind": "codec", "name": "on", "init": str(tmp_path / "separate.safetensors"), "data": {"size": 64},
        "model": separate.config.model_dump(mode="json"), "link": {"reference_psnr_db": {"1/12": [14, 18]}},
        "loop": {"images": 16, "batch": 4},
    }  # fmt: skip
    begun = CodecTraining(parse(CodecRecipe, content, Path("recipe")), to_uint8(images))
    for key, value in begun.phases["codec"].state_dict().items():
        assert torch.equal(value, separate.state_dict()[key])
    content["model"] = {**separate.config.model_dump(mode="json"), "separate": [8]}
    with pytest.raises(UserError, match=r"networks\.128"):
        CodecTraining(parse(CodecRecipe, content, Path("recipe")), to_uint8(images))


def test_one_network_more_begins_as_the_shared_one(separate: DeepJSCC) -> None:
    with torch.no_grad():
        for parameter in separate.encoder.networks["128"].parameters():
            parameter.mul_(1.05)
    held = separate.state_dict()
    begun = begin_separate(held, separate.config.model_copy(update={"separate": (8, 128)}))
    assert {key.split(".")[2] for key in begun} == {"shared", "8", "128"}
    for key, value in begun.items():
        assert torch.equal(value, held[key.replace("networks.8.", "networks.shared.")]), key


@pytest.mark.parametrize("separate", [(64,), (8, 8)])
def test_only_ratios_served_once_each(separate: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="separate"):
        DeepJSCCConfig(latent_channels=(8, 32), separate=separate)
