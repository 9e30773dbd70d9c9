"""The link as a whole, and the zoo that puts it together."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

import commin
from commin.channels import Awgn, Received
from commin.codec.deepjscc import DeepJSCC
from commin.errors import UserError
from commin.images import crop_box, frame, open_photo, to_tensor
from commin.link import Link
from commin.receivers.base import Arrival
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.units import parse_bcr
from commin.zoo import cards, fetch


@pytest.fixture
def link(codec_file: Path) -> Link:
    return commin.load(str(codec_file), bcr="1/48")


def test_a_transmission_holds_what_the_readme_says(link: Link, images: torch.Tensor) -> None:
    result = link.transmit(images, snr_db=0.0, seed=0)
    assert result.images.shape == result.estimate.shape == images.shape
    assert result.symbols.shape == result.received.symbols.shape == (4, 256)
    assert (result.use.symbols, result.use.samples) == (256, 12288)
    noise = result.received.symbols - result.symbols
    assert result.measured_snr_db[0].item() == pytest.approx(-10 * math.log10(noise[0].abs().square().mean()), abs=1e-3)
    assert (result.measured_snr_db.abs() < 1).all()
    assert link.transmit(images, samples=3).samples.shape == (4, 3, 3, 64, 64)


def test_the_picture_alone_decides_its_noise(link: Link, images: torch.Tensor) -> None:
    whole = link.transmit(images, [-5.0, 0.0, 5.0, 1.0], seed=7)
    alone = link.transmit(images[2:3], 5.0, seed=7)
    assert torch.allclose(whole.received.symbols[2], alone.received.symbols[0], atol=1e-5)
    assert torch.allclose(whole.images[2], alone.images[0], atol=1e-5)
    assert not torch.allclose(link.transmit(images[2:3], 5.0, seed=8).received.symbols, alone.received.symbols)


def test_design_told_and_true_snr_are_three_things(link: Link, images: torch.Tensor) -> None:
    plain = link.transmit(images, 0.0)
    design = link.transmit(images, 0.0, design_snr_db=5.0)
    told = link.transmit(images, 0.0, told_snr_db=5.0)
    assert not torch.equal(design.symbols, plain.symbols)
    assert torch.equal(told.symbols, plain.symbols)
    assert torch.equal(told.received.symbols, plain.received.symbols)
    assert not torch.equal(told.images, plain.images)


@pytest.mark.parametrize("name", ["rayleigh-block", "rayleigh-fast", "rician-block", "rician-fast"])
def test_fading_links_work(codec_file: Path, images: torch.Tensor, name: str) -> None:
    result = commin.load(str(codec_file), bcr="1/12", channel=name).transmit(images, 3.0)
    assert torch.isfinite(result.images).all()
    assert result.received.csi is not None
    assert result.received.csi.gains is not None


def test_any_size_goes_through(link: Link) -> None:
    assert link.transmit(torch.rand(1, 3, 50, 70), 0.0).images.shape == (1, 3, 50, 70)


def test_one_sending_serves_any_receiver(link: Link, images: torch.Tensor) -> None:
    class Darker:
        name, network_calls = "darker", 1

        def restore(self, arrival: Arrival, generators: Sequence[torch.Generator], samples: int) -> torch.Tensor:
            draws = torch.stack([torch.rand(samples, 1, 1, 1, generator=each) for each in generators])
            return arrival.estimate[:, None] * draws

    other = Link(link.codec, link.bcr, link.channel, Darker())
    sent = link.send(images, [-5.0, 0.0, 5.0, 1.0], 7, design_snr_db=2.0)
    for each in (link, other):
        heard, whole = each.hear(sent, 2), each.transmit(images, [-5.0, 0.0, 5.0, 1.0], 7, 2.0, samples=2)
        assert torch.equal(heard.samples, whole.samples)
        assert torch.equal(heard.received.symbols, whole.received.symbols)
        assert torch.equal(heard.measured_snr_db, whole.measured_snr_db)


def test_the_receiver_sees_nothing_but_what_arrived(codec: DeepJSCC, images: torch.Tensor) -> None:
    """Decoding the received symbols in another link, without the picture, gives the same picture."""
    link = Link(codec, parse_bcr("1/48"), Awgn(), DeepJSCCReceiver())
    sent = link.transmit(images, 0.0)
    got = link.receive(sent.received, (64, 64), [torch.Generator() for _ in images])
    assert torch.equal(got.images, sent.images)
    with pytest.raises(ValueError, match="NaN"):
        link.receive(Received(sent.received.symbols * math.nan, sent.received.csi), (64, 64), [])


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"snr_db": math.nan}, "snr_db"),
        ({"snr_db": [1.0, 2.0]}, "snr_db"),
        ({"design_snr_db": math.inf}, "design_snr_db"),
        ({"images": torch.rand(3, 64, 64)}, "images"),
        ({"images": torch.rand(1, 3, 64, 64) + 1}, r"\[0, 1\]"),
        ({"images": torch.full((1, 3, 64, 64), math.nan)}, r"\[0, 1\]"),
        ({"images": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}, "floating"),
    ],
)
def test_bad_input_is_refused(link: Link, images: torch.Tensor, bad: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        link.transmit(**{"images": images, **bad})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": "nobody"}, "--model"),
        ({"model": "absent.safetensors"}, "absent"),
        ({"bcr": "1/768"}, "1/48"),
        ({"bcr": "zero"}, "fraction"),
        ({"receiver": "magic"}, "--receiver"),
        ({"channel": "magic"}, "--channel"),
    ],
)
def test_a_link_that_cannot_be_is_one_line(codec_file: Path, options: dict[str, str], match: str) -> None:
    with pytest.raises(UserError, match=match):
        commin.load(**{"model": str(codec_file), **options})  # type: ignore[arg-type]


def write_card(folder: Path, name: str, path: Path, digest: str, url: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    place = {"file": path.name, "sha256": digest, "url": url}
    content = {"name": name, "kind": "codec", "model": name, "summary": "-", "licence": "-", "places": [place]}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def test_own_cards_pull_and_checksums(codec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMIN_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "cards"
    write_card(folder, "mine", codec_file, cards.sha256(codec_file), codec_file.as_uri())
    with pytest.raises(fetch.MissingFileError, match="commin zoo pull mine"):
        commin.load("mine")
    fetch.pull("mine")
    assert commin.load("mine").codec.config.image_size == 64
    write_card(folder, "mine", codec_file, "0" * 64)
    with pytest.raises(UserError, match="SHA-256"):
        commin.load("mine")
    write_card(folder, "other", Path("other.bin"), "0" * 64, codec_file.as_uri())
    with pytest.raises(UserError, match="SHA-256"):
        fetch.pull("other")
    assert [path.name for path in (tmp_path / "home" / "weights").iterdir()] == [codec_file.name]


def test_packaged_cards_hold() -> None:
    """Every card is valid, and every file that comes with the package has the checksum of its card."""
    known = cards.cards()
    assert {"lpips-squeeze", "lpips-alex", "lpips-vgg", "faces64-codec"} <= known.keys()
    own = [card for card in known.values() if not card.third_party]
    assert own
    for card in own:
        assert fetch.find(card.name).exists()
        assert card.licence


@pytest.mark.parametrize(("bcr", "share"), [("1/192", 0.5), ("1/48", 0.3), ("1/12", 0.2)])
def test_the_packaged_link_carries_a_photo(bcr: str, share: float) -> None:
    """The shipped weights do their work: far better than the photo's mean colour, and better at a better SNR."""
    photo = open_photo(Path(__file__).parents[1] / "examples" / "astronaut.png")
    image = to_tensor(frame(photo, crop_box(*photo.size, "centre"), (64, 64)))[None]
    errors = commin.load("faces64", bcr=bcr).transmit(image.expand(3, -1, -1, -1), [-5.0, 0.0, 5.0]).images - image
    mean = errors.square().mean((1, 2, 3))
    assert mean[0] > mean[2]
    assert mean[1] < share * (image - image.mean((2, 3), keepdim=True)).square().mean()
