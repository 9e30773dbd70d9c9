"""Separate source and channel coding: what fits, what is counted as lost, and that the bits are what they claim."""

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from commin.channels.awgn import Awgn
from commin.data.imageset import ImageSet
from commin.diffusion.prior import save_prior
from commin.errors import UserError
from commin.evaluation.lines import leading_components, principal_components
from commin.evaluation.separation import files
from commin.evaluation.separation.coefficients import SPREADS, Coder, Quantisers
from commin.evaluation.separation.files import Header, Option, best, ladder, read, received, write
from commin.evaluation.separation.rates import dispersion, normal_bits, normal_error
from commin.evaluation.systems import Fit, Point, Scheme, TrainSplit, Way, group
from commin.evaluation.systems.klt import SeparationKlt
from commin.evaluation.systems.klt_restored import SeparationKltRestored
from commin.evaluation.systems.separation import SeparationCapacity, SeparationCapacityKnownHeader
from commin.images import from_uint8, to_picture, to_uint8
from commin.metrics.pixels import mse
from commin.randomness import image_generators
from commin.training.prior import PriorConfig, new_prior
from commin.units import capacity_bits
from commin.zoo.add import add
from tests.conftest import smooth_images, write_faces


def point(snr_db: float, design: float | None = None, channel: str = "awgn") -> Point:
    return Point("1/3", channel, snr_db, snr_db if design is None else design, None, 0)


@pytest.fixture(autouse=True)
def few_options(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two formats, so that a picture is written quickly."""
    files.options.cache_clear()
    monkeypatch.setattr(files, "formats", lambda: ("webp", "jpeg"))
    monkeypatch.setattr(files, "QUALITIES", {"webp": (0, 30, 90), "jpeg": (5, 60)})
    monkeypatch.setattr(files, "LIGHT", (Fraction(1), Fraction(1, 4)))
    yield
    files.options.cache_clear()
    files._ladder.cache_clear()


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 train, 6 valid and 4 test pictures."""
    return write_faces(tmp_path_factory.mktemp("faces"), {"train": 40, "valid": 6, "test": 4}, seed=5)


@pytest.fixture
def own_prior(tmp_path: Path) -> str:
    """A small untrained prior, the one part of model ``own``."""
    torch.manual_seed(0)
    config = PriorConfig(patch=4, widths=(16, 16), attention=(False, False), head=8, groups=8, steps=20)
    save_prior(new_prior(config, 64), tmp_path / "prior")
    add(tmp_path / "prior", "own", None, None, "none")
    return "own"


def no_codec() -> None:
    raise UserError("no weights for this ρ")


def make_fit(faces: Path, cache: Path, where: Point, symbols: int, **settings: float) -> Fit:
    return Fit(no_codec, where, symbols, TrainSplit(ImageSet(faces), 64, "none", cache), {}, settings)  # type: ignore[arg-type]


def send(system: Scheme, images: Tensor, where: Point) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    sent = system.send(images, Way(Awgn(), where, image_generators(images, where.seed, "channel")))
    assert sent.images.shape == images.shape
    assert sent.lost is not None
    assert len(sent.notes) == len(images)
    return sent.images, sent.lost, sent.notes


def test_the_normal_approximation() -> None:
    assert normal_bits(1000, 0.0, 0.5) == pytest.approx(capacity_bits(1000, 0.0))
    assert dispersion(0.0) == pytest.approx(0.75 * math.log2(math.e) ** 2)  # γ = 1: 1·3/4
    assert dispersion(60.0) == pytest.approx(math.log2(math.e) ** 2, rel=1e-6)
    bits = [normal_bits(256, 0.0, error) for error in (1e-4, 1e-2, 0.2)]
    assert bits == sorted(bits)
    assert all(normal_error(256, 0.0, b) == pytest.approx(e) for b, e in zip(bits, (1e-4, 1e-2, 0.2), strict=True))
    assert normal_bits(4, -20.0, 1e-6) == 0
    shares = [normal_bits(k, 0.0, 1e-2) / capacity_bits(k, 0.0) for k in (64, 1024, 10**8)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=1e-3)


def test_every_option_is_read_back_with_bytes_after_it() -> None:
    picture = to_picture(smooth_images(1)[0])
    for option in files.options():
        content = write(picture, option)
        seen = read(content + bytes(50), option, picture.size)
        assert seen.size == picture.size
        assert seen.tobytes() == read(content, option, picture.size).tobytes()


@pytest.mark.parametrize("name", ["avif", "jpeg2000", "heic"])
def test_other_formats_where_they_are(name: str) -> None:
    import importlib.util

    from PIL import features

    if name == "heic":
        heif = pytest.importorskip("pillow_heif")
        heif.register_heif_opener()
    elif not features.check({"avif": "avif", "jpeg2000": "jpg_2000"}[name]):
        pytest.skip(f"this Pillow has no {name}")
    assert importlib.util.find_spec("PIL")
    picture = to_picture(smooth_images(1)[0])
    option = Option(name, 30, Fraction(1, 2))
    assert read(write(picture, option) + bytes(9), option, picture.size).size == (64, 64)


def test_the_best_file_that_fits(images: Tensor) -> None:
    found = ladder(images[0])
    assert [f.mse for f in found] == sorted(f.mse for f in found)
    assert float(mse(from_uint8(found[0].pixels)[None], images[:1])) == pytest.approx(found[0].mse)
    sizes = sorted(len(f.content) for f in found)
    assert best(found, sizes[0] - 1) is None
    errors = []
    for budget in sizes:
        one = best(found, budget)
        assert one is not None
        assert len(one[1]) <= budget
        errors.append(one[0].mse)
    assert errors == sorted(errors, reverse=True)


def test_a_known_header_is_cut_off_and_put_back(images: Tensor) -> None:
    option = Option("webp", 30, Fraction(1))
    contents = [write(to_picture(image), option) for image in smooth_images(12, seed=1)]
    header = Header.of(contents)
    assert len(header.places) >= 20  # RIFF, WEBP, VP8, its start code and the size
    for content in contents:
        rest = header.strip(content)
        assert rest is not None
        assert len(rest) == len(content) - len(header.places)
        assert header.restore(rest) == content
    assert header.strip(b"RIFF") is None
    assert header.strip(b"x" * 300) is None
    picture = to_picture(images[0])
    headers = {o: Header.of([write(to_picture(i), o) for i in smooth_images(8, seed=2)]) for o in files.options()}
    one = best(ladder(images[0]), 150, headers)
    assert one is not None
    seen = received(one[1] + bytes(7), picture.size, headers)
    assert torch.equal(torch.tensor(list(seen.tobytes())).view(64, 64, 3).permute(2, 0, 1), one[0].pixels)


def test_capacity_loses_what_does_not_fit_and_what_comes_too_weak(faces: Path, images: Tensor, tmp_path: Path) -> None:
    system = SeparationCapacity(make_fit(faces, tmp_path, point(5.0), 2048))
    assert group(system.name, system) == "reference"
    seen, lost, notes = send(system, images, point(5.0))
    assert not lost.any()
    assert all("bytes" in note for note in notes)
    assert float(mse(seen, images).mean()) < 1e-2
    seen, lost, _ = send(system, images, point(4.0, 5.0))  # the cliff
    assert lost.all()
    assert (seen == 0.5).all()
    assert not send(system, images, point(6.0, 5.0))[1].any()
    poor = SeparationCapacity(make_fit(faces, tmp_path, point(-5.0), 64))
    _, lost, notes = send(poor, images, point(-5.0))
    assert lost.all()
    assert set(notes) == {"nothing fits"}
    with pytest.raises(UserError, match="for the channel awgn alone"):
        SeparationCapacity(make_fit(faces, tmp_path, point(0.0, channel="rayleigh-block"), 64))


def test_a_known_header_fits_more(faces: Path, images: Tensor, tmp_path: Path) -> None:
    plain = SeparationCapacity(make_fit(faces, tmp_path, point(5.0), 512))
    known = SeparationCapacityKnownHeader(make_fit(faces, tmp_path, point(5.0), 512, pool=6))
    assert (
        mse(send(known, images, point(5.0))[0], images).mean() < mse(send(plain, images, point(5.0))[0], images).mean()
    )
    assert len(list(tmp_path.glob("headers-*.json"))) == 1


def test_leading_components_are_the_exact_ones() -> None:
    pixels = to_uint8(smooth_images(200, 16, seed=9))
    mean, values, vectors = leading_components(pixels, 20, rounds=4)
    exact_mean, exact, right = principal_components(pixels, 20)
    assert torch.allclose(mean, exact_mean, atol=1e-6)
    assert torch.allclose(values, exact, rtol=5e-3)
    assert torch.allclose(vectors.T @ vectors, torch.eye(20), atol=1e-4)
    assert torch.allclose((vectors.T @ right)[:10, :10].abs().diagonal(), torch.ones(10), atol=1e-2)


@pytest.mark.parametrize("spread", SPREADS)
def test_bits_are_those_of_probabilities(spread: tuple[int, ...]) -> None:
    draws = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([8.0, 4, 2, 1, 0.5, 0.2])
    coder = Coder.fit(Quantisers(draws), 20, spread)
    which, bits, decoded = coder.choose(draws[:40], 20)
    assert (which >= 0).all()
    assert (bits <= 20).all()
    for row in range(40):
        quantiser = coder.quantisers[which[row]]
        table = quantiser.values[:, None, :] == decoded[row, : len(quantiser.values)][:, None, None]
        levels = table[:, 0].float().argmax(1, keepdim=True)
        assert float(quantiser.bits.gather(1, levels).sum()) + coder.prices[which[row]] == pytest.approx(
            float(bits[row])
        )
    for quantiser in coder.quantisers:  # probabilities: nothing is given away
        assert torch.allclose((2**-quantiser.bits).sum(1), torch.ones(len(quantiser.bits)), atol=1e-4)
    assert sum(2**-price for price in coder.prices) == pytest.approx(1)


def test_a_gaussian_source_comes_near_its_rate_distortion_function() -> None:
    deviations = torch.tensor([8.0, 6, 4, 3, 2, 1, 0.5, 0.25])
    draws = torch.randn(6000, 8, generator=torch.Generator().manual_seed(0)) * deviations
    quantisers = Quantisers(draws)
    for budget in (12, 24):
        errors = []
        for spread in SPREADS:
            coder = Coder.fit(quantisers, budget, spread)
            errors.append(float((draws - coder.choose(draws, budget)[2]).square().sum(1).mean()))
        level = 64.0  # reverse water-filling by bisection
        while float((0.5 * (deviations**2 / level).log2()).clamp_min(0).sum()) < budget:
            level *= 0.99
        bound = float((deviations**2).clamp_max(level).sum())
        assert bound < min(errors) < 8 * bound  # the same bits for every draw: few components pay most for that
        assert min(errors) < 0.2 * float((deviations**2).sum())


def test_more_bits_are_never_worse_however_many() -> None:
    draws = torch.randn(600, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([40.0, 4, 0.4, 0.04])
    quantisers = Quantisers(draws)
    for spread in SPREADS:
        errors = [
            float((draws - Coder.fit(quantisers, budget, spread).choose(draws, budget)[2]).square().sum(1).mean())
            for budget in (8, 16, 32, 64, 1000)
        ]
        assert errors[-1] < 0.1
        assert all(after <= 1.001 * before for before, after in pairwise(errors))


def test_coefficients_over_a_code_of_that_length(faces: Path, images: Tensor, tmp_path: Path) -> None:
    fits = [make_fit(faces, tmp_path, point(snr), 256, components=24, tuning=6) for snr in (-5.0, 5.0)]
    poor, rich = (SeparationKlt(fit) for fit in fits)
    assert poor.bits < rich.bits < capacity_bits(256, 5.0)
    assert 0 < poor.error < 0.5
    seen, lost, notes = send(rich, images, point(5.0))
    assert all("of" in note for note in notes)
    assert torch.allclose(seen[lost], rich.mean.view(1, 3, 64, 64).clamp(0, 1).expand(int(lost.sum()), -1, -1, -1))
    assert send(rich, images, point(-5.0, 5.0))[1].all()
    alone = rich.send(images[2:3], Way(Awgn(), point(5.0), image_generators(images[2:3], 0, "channel")))
    assert torch.allclose(alone.images, seen[2:3], atol=1e-5)
    assert len(list(tmp_path.glob(f"klt-{'?' * 24}.safetensors"))) == 1
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("klt-coder-*.safetensors")}
    assert len(kept) == 2
    again = SeparationKlt(fits[1])
    assert (again.error, again.bits) == (rich.error, rich.bits)
    assert torch.equal(again.decoded(images), rich.decoded(images))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("klt-coder-*.safetensors")} == kept


def test_a_design_at_which_nothing_arrives_is_one_line_and_stays_one(faces: Path, tmp_path: Path) -> None:
    fit = make_fit(faces, tmp_path, point(-40.0), 64, components=24, tuning=6)
    for _ in range(2):
        with pytest.raises(UserError, match="carry nothing"):
            SeparationKlt(fit)


def test_a_restored_picture_is_the_schemes_with_the_priors_detail(
    faces: Path, images: Tensor, tmp_path: Path, own_prior: str
) -> None:
    small = {"components": 32.0, "pool": 40.0, "restored": 6.0, "steps": 2.0}
    fit = replace(make_fit(faces, tmp_path, point(5.0), 256, **small), model=own_prior)
    system = SeparationKltRestored(fit)
    plain = SeparationKlt(make_fit(faces, tmp_path, point(5.0), 256, components=32, pool=40))
    assert system.network_calls == 2
    chosen = system.settings.points[0]
    assert 0 <= chosen.naturalness <= 1
    assert all(0 <= weight <= 1 for weight in chosen.weights)
    seen, lost, _ = send(system, images, point(5.0))
    before, lost_before, _ = send(plain, images, point(5.0))
    assert torch.equal(lost, lost_before)
    assert torch.isfinite(seen).all()
    assert torch.equal(seen[lost], before[lost])  # the mean picture, not restored
    assert send(system, images, point(-5.0, 5.0))[1].all()
    alone = system.send(images[2:3], Way(Awgn(), point(5.0), image_generators(images[2:3], 0, "channel")))
    assert torch.allclose(alone.images, seen[2:3], atol=1e-3)
    again = SeparationKltRestored(fit)  # its fit is kept
    assert again.settings == system.settings
    assert len(list(tmp_path.glob("klt-restored-*.json"))) == 1
    with pytest.raises(UserError, match="no prior"):
        SeparationKltRestored(replace(fit, model="nobody"))
    with pytest.raises(UserError, match=r"settings.separation-klt-restored.beta.*the keys are"):
        SeparationKltRestored(replace(fit, settings={"beta": 1.0}))


def test_what_arrives_is_exchanged_and_the_rest_is_the_priors(
    faces: Path, images: Tensor, tmp_path: Path, own_prior: str
) -> None:
    settings = {"components": 32.0, "pool": 40.0, "restored": 6.0, "steps": 2.0}
    system = SeparationKltRestored(replace(make_fit(faces, tmp_path, point(5.0), 256, **settings), model=own_prior))
    assert 0 < int(torch.isfinite(system.response).sum()) <= 32
    x = images * 2 - 1
    once = system._passed(x)
    centre = 2 * system.scheme.mean.view(1, 3, 64, 64) - 1
    assert torch.allclose(system._passed(centre + once), once, atol=1e-4)  # a projection
    assert float((x - centre - once).square().mean()) < float((x - centre).square().mean())
