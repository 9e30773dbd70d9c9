"""Reference systems: what each is fitted to, what it sends, and that no picture's company matters."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from commin.channels import channel
from commin.data.imageset import ImageSet
from commin.errors import UserError
from commin.evaluation.lines import covariance_eigenvalues, pca_mse, principal_components
from commin.evaluation.systems import SYSTEMS, Fit, Line, Point, Scheme, TrainSplit, Way, group, make_system
from commin.evaluation.systems.opta import Opta
from commin.evaluation.systems.pca import Pca
from commin.evaluation.systems.random_face import RandomFace
from commin.evaluation.systems.retrieval import Retrieval
from commin.images import from_uint8, save_picture, to_picture, to_uint8
from commin.metrics.pixels import mse
from commin.randomness import image_generators
from commin.receivers.base import Arrival
from commin.units import power
from commin.zoo.load import load
from commin.zoo.receivers import RECEIVERS
from tests.conftest import smooth_images, write_faces

POINT = Point("1/48", "awgn", 5.0, 5.0, None, 0)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 train and 4 test pictures."""
    return write_faces(tmp_path_factory.mktemp("faces"), {"train": 40, "test": 4}, seed=3)


@pytest.fixture
def fit(codec_file: Path, faces: Path, tmp_path: Path) -> Fit:
    train = TrainSplit(ImageSet(faces), 64, "none", tmp_path)
    return Fit(lambda: load(str(codec_file), "1/48"), POINT, 256, train, {"codec": "0"})


def arrival(fit: Fit, images: Tensor) -> Arrival:
    sent = fit.link.transmit(images, 5.0)
    return Arrival(sent.estimate, sent.received.symbols, torch.full((len(images),), 5.0), fit.link.bcr, fit.link.codec)


def test_every_receiver_is_a_system_and_unknown_names_are_told(fit: Fit, codec_file: Path) -> None:
    assert not SYSTEMS.keys() & RECEIVERS.keys()
    system = make_system("deepjscc", str(codec_file), fit)
    assert not isinstance(system, (Scheme, Line))
    assert group("deepjscc", system) == "plain"
    with pytest.raises(UserError, match="unknown; there are deepjscc"):
        make_system("nothing", str(codec_file), fit)


def test_a_random_face_is_a_train_picture_that_the_generator_picks(fit: Fit, images: Tensor) -> None:
    system = RandomFace(fit)
    pool = from_uint8(fit.train.pixels())
    whole = system.restore(arrival(fit, images), image_generators(images, 0, "receiver"), 2)
    alone = system.restore(arrival(fit, images[2:3]), image_generators(images[2:3], 0, "receiver"), 2)
    assert whole.shape == (4, 2, 3, 64, 64)
    assert torch.equal(whole[2:3], alone)
    assert all((picture == pool).flatten(1).all(1).any() for picture in whole[:, 0])


def test_retrieval_finds_a_train_picture_by_its_estimate(fit: Fit) -> None:
    system = Retrieval(fit)
    train = from_uint8(fit.train.pixels()[:6])
    seen = arrival(fit, train)  # seed 0 is the pool's: the same estimates
    assert system.nearest(seen.estimate).tolist() == list(range(6))
    restored = system.restore(seen, image_generators(train, 0, "receiver"), 1)[:, 0]
    assert torch.allclose(restored, (train + seen.estimate) / 2, atol=2 / 255)
    assert len(list(fit.train.cache.glob("retrieval-*.npy"))) == 1
    Retrieval(fit)
    with pytest.raises(UserError, match=r"settings.retrieval.beta.*the keys are alpha, pool"):
        Retrieval(Fit(fit.find_link, POINT, 256, fit.train, {}, {"beta": 1.0}))


@pytest.mark.parametrize("name", ["awgn", "rayleigh-block"])
def test_pca_sends_unit_power_and_nears_its_formula(fit: Fit, name: str) -> None:
    system = Pca(fit)
    train = from_uint8(fit.train.pixels())
    symbols = system.modulate(system.analyse(train))
    assert symbols.shape == (40, 256)
    assert torch.allclose(power(symbols), torch.ones(40), atol=1e-5)
    sent = system.send(train, Way(channel(name), POINT, image_generators(train, 0, "channel")))
    assert sent.images.shape == train.shape
    if name == "awgn":
        assert sent.measured_snr_db.mean().item() == pytest.approx(5.0, abs=0.2)
        expected = pca_mse(covariance_eigenvalues(fit.train.pixels()), 256, 5.0)
        assert float(mse(sent.images, train).mean()) == pytest.approx(expected, rel=0.25)
    alone = system.send(train[3:4], Way(channel(name), POINT, image_generators(train[3:4], 0, "channel")))
    assert torch.allclose(alone.images, sent.images[3:4], atol=1e-4)


def test_opta_is_a_line_above_pca(fit: Fit) -> None:
    line = Opta(fit)
    assert isinstance(line, Line)
    assert group("opta", line) == "reference"
    assert line.psnr_db(256) > -10 * torch.tensor(pca_mse(line.eigenvalues, 256, 5.0)).log10()


def test_fewer_pictures_than_samples_give_the_same_components() -> None:
    few = to_uint8(torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    expected = torch.linalg.eigvalsh(torch.cov(from_uint8(few).flatten(1).double().T, correction=0)).flip(0)
    assert torch.allclose(covariance_eigenvalues(few), expected, atol=1e-6)
    mean, values, vectors = principal_components(few, 10)
    centred = from_uint8(few).flatten(1) - mean
    assert torch.allclose((centred @ vectors).square().mean(0), values, atol=1e-5)
    assert torch.allclose(vectors.T @ vectors, torch.eye(10), atol=1e-4)


def test_nothing_is_fitted_without_a_train_split(tmp_path: Path) -> None:
    save_picture(to_picture(smooth_images(1)[0]), tmp_path / "a.png")
    with pytest.raises(UserError, match="no train split"):
        _ = TrainSplit(ImageSet(tmp_path), 64, "none", tmp_path).entries
