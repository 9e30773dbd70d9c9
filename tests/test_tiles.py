"""Big pictures in tiles: nothing lost, nothing counted twice, no seams in what needs none."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from commin.channels.awgn import Awgn
from commin.codec.deepjscc import DeepJSCC
from commin.codec.tiled import TiledCodec
from commin.diffusion.prior import Prior
from commin.images import to_picture
from commin.inn.degradation import Degradation, DegradationConfig
from commin.link import Link
from commin.receivers.commin_fast import CommINFast
from commin.receivers.commin_late import CommINLate, CommINLateConfig
from commin.receivers.commin_settings import FastPoint, FastSettings
from commin.receivers.commin_symbol import CommINSymbol
from commin.receivers.deepjscc import DeepJSCCReceiver
from commin.tiles import Tiles
from commin.training.prior import PriorConfig, new_prior
from tests.conftest import smooth_images
from tests.test_cli import commin, one_line

BCR = Fraction(1, 48)


@pytest.fixture
def tiled(codec: DeepJSCC) -> TiledCodec:
    return TiledCodec(codec)


def link_of(codec: DeepJSCC, receiver: object = None) -> Link:
    return Link(codec, BCR, Awgn(), receiver or DeepJSCCReceiver())  # type: ignore[arg-type]


# the tiles themselves


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (64, 64), (65, 64), (113, 200), (160, 48)])
@pytest.mark.parametrize(("side", "overlap"), [(64, 16), (64, 32), (64, 0), (16, 5)])
def test_tiles_put_together_are_the_picture(size: tuple[int, int], side: int, overlap: int) -> None:
    images = torch.rand(2, 3, *size)
    tiles = Tiles(*size, side, overlap)
    cut = tiles.cut(images)
    assert cut.shape == (2, len(tiles), 3, side, side)
    assert torch.allclose(tiles.join(cut), images, atol=1e-6)
    assert all(padded >= length for padded, length in zip(tiles.padded, size, strict=True))
    assert all(padded - length < tiles.step or count == 1 for padded, length, count in zip(
        tiles.padded, size, (tiles.rows, tiles.columns), strict=True))  # fmt: skip


def test_windows_sum_to_one_and_change_smoothly() -> None:
    tiles = Tiles(160, 160, 64, 16)
    assert torch.allclose(tiles.join(torch.ones(1, len(tiles), 1, 64, 64)), torch.ones(1, 1, 160, 160), atol=1e-6)
    one = torch.zeros(1, len(tiles), 1, 64, 64)
    one[:, 4] = 1
    weight = tiles.join(one)[0, 0]
    assert weight[80, 80] == 1
    assert weight.min() == 0
    assert weight.diff(dim=0).abs().max() < 0.1
    assert weight[49, 80] < 0.03


def test_padding_is_the_picture_mirrored() -> None:
    row = torch.arange(4.0).view(1, 1, 1, 4)
    assert Tiles(1, 4, 8, 0).cut(row)[0, 0, 0, 0].tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_one_more_tile_each_way_moves_the_seams_by_half_a_step() -> None:
    plain, moved = Tiles(160, 112, 64, 16), Tiles(160, 112, 64, 16, extra=1)
    assert (moved.rows, moved.columns) == (plain.rows + 1, plain.columns + 1)
    for before, after in zip(plain.seams(), moved.seams(), strict=True):
        assert {edge % 48 for edge in after} == {(edge + 24) % 48 for edge in before}
    images = torch.rand(2, 3, 160, 112)
    assert torch.allclose(moved.join(moved.cut(images)), images, atol=1e-6)


def test_seams_are_where_tiles_begin_and_end() -> None:
    rows, columns = Tiles(112, 64, 64, 16).seams()
    assert rows == [48, 64]
    assert columns == []
    assert Tiles(128, 128, 64, 0).seams() == ([64], [64])


@pytest.mark.parametrize("bad", [(0, 5, 8, 2), (5, 5, 8, 5), (5, 5, 8, -1), (5, 5, 0, 0)])
def test_tiles_that_cannot_be(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"tiles|overlap"):
        Tiles(*bad)


# the codec


def test_each_tile_is_a_frame_of_its_own(tiled: TiledCodec, codec: DeepJSCC) -> None:
    images, snr = smooth_images(2, 112), torch.tensor([-5.0, 3.0])
    with torch.no_grad():
        symbols = tiled.encode(images, snr, BCR)
        frames = symbols.view(2, 4, 256)
        assert torch.allclose(frames.abs().square().mean(-1), torch.ones(2, 4), atol=1e-4)
        corner = codec.encode(images[1:, :, :64, :64], snr[1:], BCR)
        assert torch.allclose(frames[1, 0], corner[0], atol=1e-5)
        alone = tiled.decode(symbols[1:], snr[1:], (112, 112))
        assert torch.allclose(alone[:, :, :48, :48], codec.decode(corner, snr[1:])[:, :, :48, :48], atol=1e-5)


def test_what_is_sent_is_counted(tiled: TiledCodec) -> None:
    result = link_of(tiled).transmit(torch.rand(1, 3, 100, 70), 0.0)
    assert result.images.shape == (1, 3, 100, 70)
    assert (result.use.symbols, result.use.samples) == (2 * 2 * 256, 3 * 100 * 70)
    assert result.measured_snr_db.abs().item() < 1


def test_neither_batch_nor_limit_matters(codec: DeepJSCC) -> None:
    images = smooth_images(2, 100)
    whole = link_of(TiledCodec(codec)).transmit(images, [0.0, 3.0], seed=3)
    alone = link_of(TiledCodec(codec, limit=1)).transmit(images[1:], 3.0, seed=3)
    assert torch.allclose(whole.received.symbols[1], alone.received.symbols[0], atol=1e-4)
    assert torch.allclose(whole.images[1], alone.images[0], atol=1e-5)


def test_equal_tiles_do_not_share_their_noise(tiled: TiledCodec) -> None:
    result = link_of(tiled).transmit(torch.full((1, 3, 112, 64), 0.5), 0.0)
    first, second = result.symbols.view(2, 256)
    assert torch.allclose(first, second, atol=1e-5)
    noise = (result.received.symbols - result.symbols).view(2, 256)
    assert not torch.allclose(noise[0], noise[1], atol=0.1)


def test_wrong_numbers_of_symbols_are_refused(tiled: TiledCodec) -> None:
    with pytest.raises(ValueError, match="4 tiles"):
        tiled.decode(torch.zeros(1, 5, dtype=torch.complex64), torch.zeros(1), (100, 100))


# what restores


class Silence(nn.Module):
    """Predicts no noise at all."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.config = {"in_channels": 3, "sample_size": size}
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert x.shape[-2:] == (16, 16)
        return (x * self.weight,)


def test_a_denoiser_of_pixels_alone_shows_no_tiles() -> None:
    """Where the network looks at a pixel alone, tiles are the picture at once, and so is the gradient."""
    prior = Prior(Silence(16), {"num_train_timesteps": 10, "beta_schedule": "linear"})
    x, t = (torch.rand(2, 3, 41, 30) - 0.5).requires_grad_(), torch.tensor([1, 3])
    denoised = prior.denoise(x, t)
    assert torch.allclose(denoised, prior.picture(torch.zeros_like(x), x, t).clamp(-1, 1), atol=1e-5)
    (gradient,) = torch.autograd.grad(denoised.sum(), x)
    assert torch.allclose(gradient, prior.schedule.signal(t).rsqrt().expand_as(x), atol=1e-5)


def test_an_inn_takes_any_size() -> None:
    inn = Degradation(DegradationConfig(bcr="1/48", width=8, blocks=1)).eval()
    x, snr = torch.rand(2, 3, 37, 50), torch.zeros(2)
    assert torch.allclose(inn.replace(x, torch.rand_like(x), 0.0, snr), x, atol=1e-5)
    assert torch.allclose(inn.coarse(x, snr), x, atol=1e-5)  # of a new INN, whose c is x


POINT = FastPoint(bcr="1/48", snr_db=0, noise=0.05)


@pytest.mark.parametrize("codec_kind", [DeepJSCC, TiledCodec])
@pytest.mark.parametrize("kind", ["fast", "fast, doubled", "symbol", "late"])
def test_receivers_restore_large_pictures(codec: DeepJSCC, kind: str, codec_kind: type[DeepJSCC]) -> None:
    torch.manual_seed(0)
    prior = new_prior(PriorConfig(widths=(16, 16), attention=(False, False), head=8, groups=8, steps=30), 64).eval()
    inn = Degradation(DegradationConfig(bcr="1/48", width=8, blocks=1)).eval()
    receiver = {
        "fast": CommINFast(prior, inn, FastSettings(steps=2)),
        "fast, doubled": CommINFast(prior, inn, FastSettings(steps=2, doubled=1, points=(POINT,))),
        "symbol": CommINSymbol(prior, FastSettings(steps=1)),
        "late": CommINLate(prior, inn, CommINLateConfig(steps=2)),
    }[kind]
    link = link_of(TiledCodec(codec) if codec_kind is TiledCodec else codec, receiver)
    images = smooth_images(2, 90)[..., :70]
    result = link.transmit(images, 0.0, seed=1)
    assert result.images.shape == images.shape
    assert torch.isfinite(result.images).all()
    assert torch.allclose(link.transmit(images[1:], 0.0, seed=1).images[0], result.images[1], atol=2e-3)


# the command


def test_transmit_in_tiles(codec_file: Path, tmp_path: Path) -> None:
    photo, out = tmp_path / "wide.png", tmp_path / "out"
    to_picture(smooth_images(1, 150)[0]).crop((0, 0, 150, 100)).save(photo)
    done = commin("transmit", photo, "--model", codec_file, "--tile", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "6 tiles (3×2) of 64×64 pixels sharing 16" in done.stdout
    assert f"k = {6 * 256}, n = {3 * 150 * 100}, ρ = {6 * 256 / 45000:.5f}" in done.stdout
    assert Image.open(out / "wide.deepjscc.+0dB.png").size == (150, 100)
    record = json.loads((out / "transmit.json").read_text())[0]
    assert (record["k"], record["n"]) == (6 * 256, 45000)
    assert "6 tiles" in record["note"]
    cut = commin("transmit", photo, "--model", codec_file, "--tile", "--crop", "10,20,90,84", "-o", out)
    assert "sent as 80×64" in cut.stdout, cut.stderr


def test_a_receiver_of_one_size_says_so(codec_file: Path, tmp_path: Path) -> None:
    done = commin("transmit", tmp_path / "none.png", "--model", codec_file, "--tile", "--receiver", "inverse-jscc")
    one_line(done, "--tile", "inverse-jscc")
