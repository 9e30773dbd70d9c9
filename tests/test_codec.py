"""The codec: power, shapes, nested ρ, padding, gradients, batch-independence, files."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from commin.codec.blocks import GDN
from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC
from commin.codec.files import load_codec, save_codec
from commin.errors import UserError
from commin.units import power

BCRS = [Fraction(1, 192), Fraction(1, 48), Fraction(1, 12)]
SIZES = {
    "convolutional": {"widths": (4, 4, 4)},
    "separate": {"widths": (4, 4, 4)},
    "transformer": {"transformer": {"width": 64, "encoder_blocks": 1, "decoder_blocks": 1}},
}


def untrained(kind: str, channels: tuple[int, ...]) -> DeepJSCC:
    """A small codec; a transformer's layers that start at zero are moved from there."""
    torch.manual_seed(0)
    sizes = {**SIZES[kind], "separate": channels[-1:] if kind == "separate" else ()}
    made = DeepJSCC(DeepJSCCConfig.model_validate({**sizes, "latent_channels": channels, "image_size": 64}))
    if kind == "transformer":
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return made.eval()


@pytest.fixture(scope="module", params=list(SIZES))
def codec(request: pytest.FixtureRequest) -> DeepJSCC:
    """Of either kind, at the three ρ."""
    return untrained(request.param, (8, 32, 128))


@pytest.fixture
def codec_file(codec: DeepJSCC, tmp_path: Path) -> Path:
    """That codec as a model file."""
    save_codec(codec, tmp_path / "codec.safetensors")
    return tmp_path / "codec.safetensors"


@pytest.mark.parametrize(("bcr", "k"), list(zip(BCRS, [64, 256, 1024], strict=True)))
def test_symbols_and_power(codec: DeepJSCC, images: torch.Tensor, bcr: Fraction, k: int) -> None:
    z = codec.encode(images, torch.linspace(-5, 5, 4), bcr)
    assert z.shape == (4, k)
    assert z.dtype == torch.complex64
    assert torch.allclose(power(z), torch.ones(4), atol=1e-5)
    estimate = codec.decode(z, torch.zeros(4))
    assert estimate.shape == images.shape
    assert estimate.dtype == torch.float32
    assert estimate.min() >= 0
    assert estimate.max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(list(SIZES)))
def test_any_size_by_padding(height: int, width: int, kind: str) -> None:
    small = untrained(kind, (8,))
    z = small.encode(torch.rand(1, 3, height, width), torch.zeros(1), Fraction(1, 192))
    assert z.shape[1] == 4 * -(-height // 16) * -(-width // 16)
    assert small.decode(z, torch.zeros(1), (height, width)).shape == (1, 3, height, width)


def test_rows_do_not_depend_on_the_batch(codec: DeepJSCC, images: torch.Tensor) -> None:
    snr = torch.tensor([-5.0, 0.0, 5.0, 2.0])
    z = codec.encode(images, snr, BCRS[1])
    alone = codec.encode(images[2:3], snr[2:3], BCRS[1])
    assert torch.allclose(z[2], alone[0], atol=1e-5)
    assert torch.allclose(codec.decode(z, snr)[2], codec.decode(alone, snr[2:3])[0], atol=1e-5)


@pytest.mark.parametrize("kind", list(SIZES))
def test_every_parameter_gets_a_gradient(images: torch.Tensor, kind: str) -> None:
    torch.manual_seed(1)
    separate = (8,) if kind == "separate" else ()
    own = DeepJSCC(
        DeepJSCCConfig(widths=(32, 32, 32), latent_channels=(8, 32), separate=separate, bottleneck=32, image_size=64)
    )
    if kind == "transformer":
        own = untrained(kind, (8, 32))
    for bcr in own.config.bcrs:
        z = own.encode(images, torch.zeros(4), bcr)
        (own.decode(z, torch.zeros(4)) - images).square().mean().backward()
    missing = [name for name, p in own.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_the_design_snr_changes_the_symbols(codec: DeepJSCC, images: torch.Tensor) -> None:
    low, high = (codec.encode(images, torch.full((4,), snr), BCRS[0]) for snr in (-5.0, 5.0))
    assert not torch.allclose(low, high, atol=1e-4)


def test_paper_network_has_the_papers_symbols() -> None:
    with torch.device("meta"):
        paper = DeepJSCC(DeepJSCCConfig(latent_channels=(8,)))
        z = paper.encoder(torch.zeros(1, 3, 256, 256), torch.zeros(1), Fraction(1, 192))
    assert z.shape == (1, 1024)


def test_bad_use_is_refused(codec: DeepJSCC, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="1/768"):
        codec.encode(images, torch.zeros(4), Fraction(1, 768))
    with pytest.raises(ValueError, match="symbols"):
        codec.decode(torch.zeros(1, 100, dtype=torch.complex64), torch.zeros(1))


def test_gdn_formula_and_inverse() -> None:
    gdn, x = GDN(3).double(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    gamma, beta = gdn.g.square(), gdn.b.square() + 1e-6
    expected = x / (beta[None, :, None, None] + torch.einsum("ij,bjhw->bihw", gamma, x * x)).sqrt()
    assert torch.allclose(gdn(x), expected)
    inverse = GDN(3, inverse=True).double()
    assert torch.allclose(inverse(x) * gdn(x), x * x)
    assert torch.autograd.gradcheck(gdn, x.requires_grad_())


def test_file_round_trip_and_ends(codec: DeepJSCC, codec_file: Path, images: torch.Tensor) -> None:
    whole, transmitter, receiver = (
        load_codec(codec_file),
        load_codec(codec_file, "encoder"),
        load_codec(codec_file, "decoder"),
    )
    z = transmitter.encode(images, torch.zeros(4), BCRS[1])
    assert torch.equal(z, whole.encode(images, torch.zeros(4), BCRS[1]))
    assert torch.equal(receiver.decode(z, torch.zeros(4)), whole.decode(z, torch.zeros(4)))
    assert torch.allclose(whole.decode(z, torch.zeros(4)), codec.decode(z, torch.zeros(4)), atol=1e-2)
    with pytest.raises(ValueError, match="decoder"):
        transmitter.decode(z, torch.zeros(4))
    with pytest.raises(ValueError, match="encoder"):
        receiver.encode(images, torch.zeros(4), BCRS[1])


def test_bad_files_are_one_line(codec: DeepJSCC, codec_file: Path, tmp_path: Path) -> None:
    import json

    from safetensors import safe_open

    with safe_open(codec_file, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(codec_file)
    name = next(iter(tensors))
    wrong_key = json.dumps({**json.loads(metadata["config"]), "colour": 1})
    broken = {
        "absent": None,
        "cut": codec_file.read_bytes()[:2000],
        "pickle": b"\x80\x04\x95",
        "kind": (tensors, {"kind": "inn", "config": "{}"}),
        "config": (tensors, {"kind": "deepjscc", "config": wrong_key}),
        "missing": ({key: value for key, value in tensors.items() if key != name}, metadata),
        "shape": ({**tensors, name: torch.zeros(1)}, metadata),
        "unknown": ({**tensors, "encoder.extra": torch.zeros(1)}, metadata),
    }
    for label, content in broken.items():
        path = tmp_path / f"{label}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            save_file(content[0], path, metadata=content[1])
        with pytest.raises(UserError) as caught:
            load_codec(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    save_codec(codec, tmp_path / "fine.safetensors")
    assert not list(tmp_path.glob(".*"))
