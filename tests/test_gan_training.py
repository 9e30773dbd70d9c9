"""Training the generator: resume bit for bit, what each phase moves, penalties, augmentation, the published recipe."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from commin.errors import UserError
from commin.images import to_uint8
from commin.metrics.backbones import Backbone
from commin.modelfile import write_model
from commin.stylegan2.augment import NUMBERS, augment, colour, cutout, translate
from commin.stylegan2.feature_heads import FeatureHeads
from commin.stylegan2.files import load_discriminator, load_generator, save_discriminator, save_generator
from commin.stylegan2.generator import Generator
from commin.training.gan import GanRecipe, GanTraining, GeneratorPhase
from commin.training.gan_features import pixel_features
from commin.training.kinds import KINDS
from commin.training.loop import Run
from commin.training.recipe import parse, read_yaml
from tests.conftest import smooth_images

RECIPES = Path(__file__).parents[1] / "recipes"
LOOP = {"images": 64, "batch": 8, "betas": [0.0, 0.99], "clip": 1e6, "warmup_images": 0, "validate_every": 1000}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def untrained_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SqueezeNet of random weights in the place of ImageNet's."""
    torch.manual_seed(0)
    network = Backbone("squeeze")
    monkeypatch.setattr("commin.training.gan.load_backbone", lambda name: network)


def recipe(gan: dict[str, Any] | None = None, feature_width: int = 0, size: int = 16, **loop: Any) -> GanRecipe:
    widths = [12, 8, 8, 8][: size.bit_length() - 2]
    content = {
        "kind": "gan",
        "name": "tiny",
        "data": {"size": size, "crop": "centre", "validation_limit": 8},
        "model": {"widths": widths, "style_dim": 8, "mapping_layers": 2},
        "discriminator": {"widths": widths, "feature_width": feature_width},
        "gan": {"r1_every": 3, "path_every": 2, **(gan or {})},
        "loop": {**LOOP, **loop},
    }
    return parse(GanRecipe, content, Path("recipe"))


def make_run(folder: Path, gan: dict[str, Any] | None = None, pixels: Tensor | None = None, **loop: Any) -> Run:
    config = recipe(gan, **loop)
    if pixels is None:
        pixels = to_uint8(smooth_images(20, 16))
    return Run(GanTraining(config, pixels[:8]), config.loop, pixels, folder, torch.device("cpu"))


def tensors(run: Run) -> list[Tensor]:
    networks = [*run.trainable.phases.values(), *run.averages.values()]
    return [value.clone() for network in networks for value in network.state_dict().values()]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resume_is_bit_for_bit(tmp_path: Path, precision: str) -> None:
    whole = make_run(tmp_path, precision=precision, micro_batch=4)
    for _ in range(3):
        whole.train_step()
    whole.save()
    for _ in range(4):
        whole.train_step()
    rest = make_run(tmp_path, precision=precision, micro_batch=4)
    rest.resume()
    for _ in range(4):
        rest.train_step()
    assert rest.step == whole.step == 7
    assert all(torch.equal(a, b) for a, b in zip(tensors(rest), tensors(whole), strict=True))
    phase = rest.trainable.phases["generator"]
    assert isinstance(phase, GeneratorPhase)
    assert phase.path_length > 0


def test_each_phase_moves_its_own_network(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    training = run.trainable
    rows = training.draw(smooth_images(8, 16), torch.Generator().manual_seed(0))
    assert all(len(value) == 8 for value in rows.values())
    for name, module in training.phases.items():
        run._accumulate(name, rows)
        for other, network in training.phases.items():
            moved = [value.grad is not None and bool(value.grad.any()) for value in network.parameters()]
            assert all(moved) if network is module else not any(moved), other
        run.optimizers[name].zero_grad(set_to_none=True)
    before = tensors(run)
    for _ in range(2):
        run.train_step()
    names = [key for network in training.phases.values() for key in network.state_dict()]
    still = [key for key, old, new in zip(names, before, tensors(run), strict=False) if torch.equal(old, new)]
    assert all(key.endswith(".noise") for key in still)


@pytest.mark.usefixtures("untrained_network")
def test_with_heads_resume_is_bit_for_bit_and_the_network_stays(tmp_path: Path) -> None:
    faces = to_uint8(smooth_images(20, 32))
    whole = make_run(tmp_path, None, faces, feature_width=6, size=32)
    assert isinstance(whole.trainable, GanTraining)
    network = whole.trainable.backbone
    assert network is not None
    before = [value.clone() for value in network.parameters()]
    for _ in range(2):
        whole.train_step()
    whole.save()
    for _ in range(2):
        whole.train_step()
    rest = make_run(tmp_path, None, faces, feature_width=6, size=32)
    rest.resume()
    for _ in range(2):
        rest.train_step()
    assert all(torch.equal(a, b) for a, b in zip(tensors(rest), tensors(whole), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    keys = whole.trainable.phases["discriminator"].state_dict()
    assert any("feature_heads" in key for key in keys)
    assert not any("backbone" in key or "expand3x3" in key for key in keys)
    fresh = GanTraining(recipe(feature_width=6), torch.zeros(8, 3, 16, 16, dtype=torch.uint8)).discriminator
    trained = [key for key in keys if "feature_heads" in key and key.endswith("original")]
    assert len(trained) == 9
    assert not any(torch.equal(keys[key], fresh.state_dict()[key]) for key in trained)


@pytest.mark.usefixtures("untrained_network")
def test_feature_heads_judge_by_group_and_teach_the_generator() -> None:
    heads, network = FeatureHeads(6, group=1).eval(), Backbone("squeeze")
    images = smooth_images(3, 16).requires_grad_()
    logits = heads(images, network)
    assert [row.shape for row in logits] == [(3, 16), (3, 4), (3, 1)]
    for whole, alone in zip(logits, heads(images[1:2], network), strict=True):
        assert torch.allclose(whole[1:2], alone, atol=1e-3)
    (slope,) = torch.autograd.grad(logits[0][1].sum(), images)
    assert slope[1].any()
    assert not slope[0].any()
    by_two = FeatureHeads(6, group=2).eval()
    by_two.load_state_dict(heads.state_dict())
    one, other = smooth_images(2, 16)
    alike, unlike = (by_two(torch.stack(pair), network)[1][0] for pair in ((one, one), (one, other)))
    assert not torch.equal(alike, unlike)
    training = GanTraining(recipe(feature_width=6), torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    faces = smooth_images(4, 16)
    judged = training._against(faces, -1.0)
    alone = torch.nn.functional.softplus(-training.discriminator(faces))
    assert (judged > alone).all()


def test_the_generator_learns_a_colour(tmp_path: Path) -> None:
    shade = torch.tensor([0.9, 0.3, 0.1]).view(3, 1, 1)
    pixels = to_uint8((shade + 0.05 * torch.randn(32, 3, 16, 16)).clamp(0, 1))
    run = make_run(tmp_path, {"changes": []}, pixels, lr=5e-3, images=8 * 80, ema=0.9)
    phase = run.averages["generator"]
    assert isinstance(phase, GeneratorPhase)
    z = torch.randn(16, 8)

    def away() -> float:
        return float((phase.generator(z).mean((0, 2, 3)) - shade.flatten()).abs().mean())

    first = away()
    for _ in range(80):
        run.train_step()
    assert away() < first / 2


class Slope(nn.Module):
    """D(x) = Σ c·x, whose gradient is c everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.randn(3, 16, 16))

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.c).sum((1, 2, 3))


def test_r1_of_a_linear_discriminator() -> None:
    training = GanTraining(recipe({"r1": 0.7}), torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    linear = Slope()
    training.discriminator = linear  # type: ignore[assignment]
    penalty = training._r1(smooth_images(4, 16))
    in_plus_minus_one = linear.c.detach() / 2  # x = (u + 1)/2, so dD/du is half of dD/dx
    assert torch.allclose(penalty, 0.35 * in_plus_minus_one.square().sum())
    penalty.backward()
    assert linear.c.grad is not None
    assert torch.allclose(linear.c.grad, 0.7 / 4 * linear.c.detach())


def test_penalties_come_when_due_and_by_their_interval() -> None:
    training = GanTraining(recipe({"path_decay": 1e-9}), torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    rows = training.draw(smooth_images(8, 16), torch.Generator().manual_seed(0))
    plain, due = (training.loss("discriminator", rows, step) for step in (1, 3))
    real = augment(rows["images"], rows["changes"][:, 0], training.recipe.gan.changes)
    assert torch.allclose(due - plain, 3 * training._r1(real), rtol=1e-3)
    plain, due = (training.loss("generator", rows, step) for step in (1, 2))
    assert torch.allclose(due - plain, 2 * training._path(rows), rtol=1e-3)


def test_path_lengths_are_those_of_the_jacobian() -> None:
    training = GanTraining(recipe({"path_decay": 1.0, "path": 1.0}), torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    rows = training.draw(smooth_images(2, 16), torch.Generator().manual_seed(0))
    penalty = training._path(rows)  # one row, and a running mean that is its length: no penalty
    assert float(penalty.detach()) == pytest.approx(0, abs=1e-9)
    one = {key: value[:1] for key, value in rows.items()}
    generator, noises = training.generator.generator, training._noises(one, 1)
    w = training._styles(one, 1).detach()
    jacobian = torch.autograd.functional.jacobian(lambda w: generator.run(w, noises)[1], w, vectorize=True)
    pulled = torch.einsum("bchw,bchwnld->ld", one["pixels"] / 16, jacobian)
    expected = pulled.square().sum(1).mean().sqrt()
    assert float(training.generator.path_length) == pytest.approx(float(expected.detach()), rel=1e-3)


def test_style_mixing() -> None:
    training = GanTraining(recipe({"mixing": 1.0}), torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    rows = training.draw(smooth_images(8, 16), torch.Generator().manual_seed(0))
    ours, theirs = (training.generator.generator.styles(rows["z"][:, 1, latent]) for latent in (0, 1))
    mixed = training._styles(rows, 1)
    for row, layer in enumerate(rows["crossover"][:, 1].tolist()):
        assert 1 <= layer < 6
        assert torch.equal(mixed[row, :layer], ours[row, :layer])
        assert torch.equal(mixed[row, layer:], theirs[row, layer:])
    never = GanTraining(recipe({"mixing": 0.0}), torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    rows = never.draw(smooth_images(8, 16), torch.Generator().manual_seed(0))
    assert (rows["crossover"] == 6).all()


def test_augmentation() -> None:
    images = smooth_images(6, 16)
    middle = torch.full((6, NUMBERS), 0.5)
    assert torch.allclose(colour(images, middle[:, :3]), images, atol=1e-6)
    assert torch.equal(translate(images, middle[:, 3:5]), images)
    shifted = translate(images, torch.tensor([[0.0, 0.999]]).expand(6, 2))  # 2 down, 2 to the left
    assert torch.equal(shifted[:, :, 2:, :-2], images[:, :, :-2, 2:])
    assert torch.equal(shifted[:, :, :2, :-2], images[:, :, [2, 1], 2:])  # mirrored at the edge
    holes = cutout(torch.zeros(6, 3, 16, 16), middle[:, 5:])
    assert (holes == 0.5).sum() == 6 * 3 * 64
    uniform = torch.rand(6, NUMBERS)
    changes = ("colour", "translation", "cutout")
    assert torch.equal(augment(images, uniform, changes)[2:3], augment(images[2:3], uniform[2:3], changes))
    assert torch.equal(augment(images, uniform, ()), images)
    small = torch.rand(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: augment(x, uniform[:2].double(), changes), small, fast_mode=True)


def test_validation_and_export(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.train_step()
    figures, picture = run.trainable.validate(run.averages)
    assert figures["score"] == -next(value for key, value in figures.items() if key.startswith("kernel distance"))
    assert picture is not None
    assert picture.size == (8 * 16 * 2, 16 * 2)
    assert run.trainable.validate(run.averages)[0] == figures
    run.trainable.export(run.averages, tmp_path / "model", 8)
    generator = load_generator(tmp_path / "model.safetensors")
    average = run.averages["generator"]
    assert isinstance(average, GeneratorPhase)
    z = torch.randn(2, 8)
    assert torch.allclose(generator(z), average.generator(z), atol=2e-2)
    judge = load_discriminator(tmp_path / "model-discriminator.safetensors")
    own = run.trainable.phases["discriminator"]
    assert judge.config == recipe().discriminator
    assert torch.allclose(judge(smooth_images(4, 16)), own(smooth_images(4, 16)), atol=2e-2)


def test_a_run_goes_on_from_files(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first")
    for _ in range(3):
        first.train_step()
    first.trainable.export(first.averages, tmp_path / "model", 24)
    files = {
        "init": str(tmp_path / "model.safetensors"),
        "init_discriminator": str(tmp_path / "model-discriminator.safetensors"),
    }
    config = recipe().model_copy(update=files)
    pixels = to_uint8(smooth_images(20, 16))
    training = GanTraining(config, pixels[:8])
    phases = {"generator": first.averages["generator"], "discriminator": first.trainable.phases["discriminator"]}
    for name, phase in phases.items():
        for (key, mine), theirs in zip(
            training.phases[name].state_dict().items(), phase.state_dict().values(), strict=True
        ):
            assert key == "path_length" or torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6), key
    run = Run(training, config.loop, pixels, tmp_path / "second", torch.device("cpu"))
    run.train_step()  # trains both, not only one that is frozen
    for name, phase in phases.items():
        now, then = (dict(module.named_parameters()) for module in (training.phases[name], phase))
        assert all((now[key] - then[key]).abs().max() > 1e-4 for key in now), name


def test_the_mean_path_length_of_a_known_generator_is_measured(tmp_path: Path) -> None:
    pixels = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    new = GanTraining(recipe(), pixels)
    save_generator(new.generator.generator, tmp_path / "g.safetensors", torch.float32)
    known = GanTraining(recipe().model_copy(update={"init": str(tmp_path / "g.safetensors")}), pixels)
    rows = [new.draw(smooth_images(8, 16), torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    new._path(rows[0])
    first = float(new.generator.path_length) / new.recipe.gan.path_decay
    known._path(rows[0])
    assert float(known.generator.path_length) == pytest.approx(first, rel=1e-4)
    known._path(rows[1])
    assert float(known.generator.path_length) == pytest.approx(first, rel=0.05)  # from now on it follows slowly
    assert float(known.generator.path_length) != pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init": "nothing.safetensors"}, "nothing.safetensors: no such model file"),
        ({"init": "d.safetensors"}, "d.safetensors: holds stylegan2-discriminator, not stylegan2"),
        ({"init_discriminator": "g.safetensors"}, "g.safetensors: holds stylegan2, not stylegan2-discriminator"),
        ({"init": "g.safetensors"}, r"g.safetensors: holds a network of widths=\(12, 8, 8\) .*recipe's model says"),
        ({"init_discriminator": "cut.safetensors"}, "cut.safetensors: weights do not fit .*missing .*logit"),
    ],
)
def test_files_that_cannot_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = GanTraining(recipe(), torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    save_generator(made.generator.generator, Path("g.safetensors"))
    save_discriminator(made.discriminator, Path("d.safetensors"))
    tensors = {key: value for key, value in made.discriminator.state_dict().items() if "logit" not in key}
    config = made.discriminator.config.model_dump(mode="json")
    write_model(Path("cut.safetensors"), "stylegan2-discriminator", config, tensors, torch.float16)
    wider = made.recipe.model.model_copy(update={"widths": (16, 8, 8)})
    with pytest.raises(UserError, match=words):
        GanTraining(recipe().model_copy(update={"model": wider, **change}), torch.zeros(8, 3, 16, 16))


def test_paths_of_a_recipe_start_from_its_folder() -> None:
    content = recipe().model_dump()
    content.update(init="../g.safetensors", init_discriminator="d.safetensors")
    found = parse(GanRecipe, content, Path("/somewhere/recipes/gan.yaml"))
    assert found.init == "/somewhere/recipes/../g.safetensors"
    assert found.init_discriminator == "/somewhere/recipes/d.safetensors"


def test_pixel_features_tell_colour_and_contrast() -> None:
    flat = torch.full((1, 3, 64, 64), 0.75)
    assert torch.allclose(pixel_features(flat)[0, :192], torch.full((192,), 0.5))
    assert torch.allclose(pixel_features(flat)[0, 192:], torch.zeros(192), atol=1e-2)
    checks = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(1, 3, 64, 64)
    assert torch.allclose(pixel_features(checks)[0, 192:], torch.full((192,), 4.0))


def test_the_published_recipe() -> None:
    path = RECIPES / "faces64-gan.yaml"
    config = parse(KINDS["gan"].recipe, read_yaml(path), path)
    assert isinstance(config, GanRecipe)
    with torch.device("meta"):
        values = Generator(config.model).state_dict().values()
    assert config.model.size == 64
    assert 2 * sum(value.numel() for value in values) <= 25e6  # bytes in fp16


def test_sizes_must_agree() -> None:
    content = recipe().model_dump()
    content["data"]["size"] = 32
    with pytest.raises(UserError, match=r"data\.size is 32"):
        parse(GanRecipe, content, Path("recipe"))
