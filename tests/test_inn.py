"""The INN: exact inverses, what flows through it, what the SNR does, what it costs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from commin.errors import UserError
from commin.inn.degradation import Degradation, DegradationConfig, misfit
from commin.inn.files import load_inn, save_inn
from commin.inn.split import CopySplit, DctSplit, dct_matrix
from commin.training.recipe import read_yaml
from commin.zoo.fetch import find
from tests.conftest import smooth_images

SPLITS = [CopySplit(1), CopySplit(3), DctSplit()]
RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*-inn-*.yaml"))
WITH_COPIES = [path for path in RECIPES if read_yaml(path)["model"]["split"] == "copy"]


def make_inn(seed: int = 0, scale: float = 0.05, **config: Any) -> Degradation:
    """A small INN whose every weight is random, those that start at zero too."""
    torch.manual_seed(seed)
    inn = Degradation(DegradationConfig(**{"bcr": "1/48", "width": 16, "blocks": 1, **config}))
    with torch.no_grad():
        for parameter in inn.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return inn.eval()


def noise_images(count: int, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_dct_is_orthonormal_and_its_first_row_the_mean() -> None:
    matrix = dct_matrix(4)
    assert torch.allclose(matrix @ matrix.T, torch.eye(4), atol=1e-6)
    assert torch.allclose(matrix[0], torch.full((4,), 0.5))


@pytest.mark.parametrize("split", SPLITS, ids=["copy", "three copies", "dct"])
def test_merge_undoes_split(split: CopySplit | DctSplit) -> None:
    x = torch.randn(3, 3, 12, 20, generator=torch.Generator().manual_seed(1))
    c, d = split.split(x)
    assert c.shape == x.shape
    assert d.shape == (3, split.detail_channels, 12, 20)
    assert (split.merge(c, d) - x).abs().max() < 1e-5


def test_dct_coarse_part_is_the_local_mean() -> None:
    x = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    c, _ = DctSplit().split(x)
    assert torch.allclose(c[:, :, 5, 6], x[:, :, 4:8, 5:9].mean((2, 3)), atol=1e-6)
    flat, none = DctSplit().split(torch.full((1, 3, 8, 8), 0.7))
    assert torch.allclose(flat, torch.full_like(flat, 0.7))
    assert none.abs().max() < 1e-6


def test_dct_planes_are_all_different() -> None:
    _, d = DctSplit().split(torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3)))
    assert torch.linalg.matrix_rank(d[0].flatten(1)) == 45


@pytest.mark.parametrize("split", ["copy", "dct"])
@pytest.mark.parametrize("patch", [4, 8])
def test_thousand_inputs_round_trip(split: str, patch: int) -> None:
    inn = make_inn(split=split, patch=patch, width=32, blocks=2)
    with torch.no_grad():
        for part in noise_images(250, 16, seed=patch).split(50):
            snrs = torch.linspace(-5, 5, len(part))
            c, d = inn(part, snrs)
            assert misfit(c, part).mean() > 1e-4  # the lifts do something
            assert (inn.inverse(c, d, snrs) - part).abs().max() < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0, 0.1),
    lifts=st.integers(1, 4),
    split=st.sampled_from(["copy", "dct"]),
    copies=st.integers(1, 3),
    snr=st.floats(-20, 20),
)
def test_round_trip_whatever_the_weights(
    seed: int, scale: float, lifts: int, split: str, copies: int, snr: float
) -> None:
    inn = make_inn(seed, scale, lifts=lifts, split=split, copies=copies, width=8)
    x, snrs = noise_images(1, 16, seed), torch.tensor([snr])
    with torch.no_grad():
        c, d = inn(x, snrs)
        assert (inn.inverse(c, d, snrs) - x).abs().max() < 1e-5


def test_autocast_does_not_reach_inside() -> None:
    inn, x, snrs = make_inn(), noise_images(2), torch.zeros(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        c, d = inn(x, snrs)
        back = inn.inverse(c, d, snrs)
    assert c.dtype == d.dtype == back.dtype == torch.float32
    assert (back - x).abs().max() < 1e-5


@pytest.mark.parametrize("split", ["copy", "dct"])
def test_autocast_reaches_the_networks_alone_in_training(split: str) -> None:
    """c and d are added to in float32 then too; only what is added to them is computed less exactly."""
    inn, x, snrs = make_inn(split=split), noise_images(2), torch.zeros(2)
    exact = inn(x, snrs)
    with torch.autocast("cpu", torch.bfloat16):
        c, d = inn.train()(x, snrs)
        back = inn.inverse(c, d, snrs)
    assert c.dtype == d.dtype == back.dtype == torch.float32
    assert 0 < (c - exact[0]).abs().max() < 0.01
    assert (back - x).abs().max() < 0.01


def test_new_network_leaves_the_coarse_part_alone() -> None:
    x = noise_images(2)
    c, _ = Degradation(DegradationConfig(bcr="1/48"))(x, torch.zeros(2))
    assert (c - x).abs().max() < 1e-6


def test_one_lift_of_a_copy_split_ignores_the_details() -> None:
    """x̂ − x = w·(y − c) exactly with one lift; with four the details play their part."""
    x, y, snrs = noise_images(2), noise_images(2, seed=9), torch.zeros(2)
    for lifts, equal in ((1, True), (4, False)):
        inn = make_inn(lifts=lifts, scale=0.2)
        with torch.no_grad():
            moved = inn.replace(x, y, 0.5, snrs) - x
            assert torch.allclose(moved, 0.5 * (y - inn(x, snrs)[0]), atol=1e-5) == equal


def test_replace_with_weight_zero_is_the_picture() -> None:
    inn, x = make_inn(), noise_images(2)
    with torch.no_grad():
        weight = torch.zeros(2, 1, 1, 1)
        assert (inn.replace(x, noise_images(2, seed=5), weight, torch.zeros(2)) - x).abs().max() < 1e-5


def test_gradients_reach_everything() -> None:
    inn = make_inn()
    x = noise_images(2).requires_grad_()
    inn.replace(x, noise_images(2, seed=5), 1.0, torch.tensor([-5.0, 5.0])).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    missing = [name for name, p in inn.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_snr_matters_where_it_is_told_and_is_kept_in_range() -> None:
    x = noise_images(3)
    snrs = torch.tensor([-5.0, 0.0, 5.0])
    with torch.no_grad():
        told, single = make_inn(), make_inn(snr_range_db=(0, 0))
        a, b = told(x, snrs)[0], told(x, -snrs)[0]
        assert (a - b)[0].abs().max() > 1e-4
        assert torch.equal(a[1], b[1])
        assert torch.equal(told(x, 10 * snrs)[0], a)
        assert torch.equal(single(x, snrs)[0], single(x, -snrs)[0])
    assert not any("film" in name or "embed" in name for name, _ in single.named_parameters())


def test_rows_do_not_depend_on_the_batch() -> None:
    inn, x, snrs = make_inn(), noise_images(4), torch.tensor([-5.0, 0.0, 3.0, 5.0])
    with torch.no_grad():
        assert torch.allclose(inn(x, snrs)[0][2:3], inn(x[2:3], snrs[2:3])[0], atol=1e-6)


@pytest.mark.parametrize("path", WITH_COPIES, ids=lambda path: path.stem)
def test_shipped_sizes_cost_a_quarter_of_a_unet_call(path: Path) -> None:
    inn = Degradation(DegradationConfig.model_validate(read_yaml(path)["model"]))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        c, d = inn(smooth_images(1), torch.zeros(1))
        inn.inverse(c, d, torch.zeros(1))
    assert counter.get_total_flops() <= 1.3e9


def test_file_keeps_weights_and_config(tmp_path: Path) -> None:
    inn = make_inn(split="dct", patch=2)
    save_inn(inn, tmp_path / "inn.safetensors", torch.float32)
    loaded = load_inn(tmp_path / "inn.safetensors")
    x = noise_images(1)
    with torch.no_grad():
        assert torch.equal(loaded(x, torch.zeros(1))[0], inn(x, torch.zeros(1))[0])
    assert loaded.config == inn.config


@pytest.mark.parametrize("name", ["faces64-inn-1-192", "faces64-inn-1-48", "faces64-inn-1-12"])
def test_networks_in_bfloat16_give_nearly_the_same_and_undo_it(name: str) -> None:
    """c and d stay float32: what is computed less exactly is only what is added to them."""
    images, snrs = smooth_images(4, 64), torch.tensor([-5.0, 0.0, 2.0, 5.0])
    exact, quick = load_inn(find(name)), load_inn(find(name), torch.bfloat16)
    with torch.no_grad():
        (c, _), (c16, d16) = exact(images, snrs), quick(images, snrs)
        back = quick.inverse(c16, d16, snrs)
    assert c16.dtype == d16.dtype == torch.float32
    assert (c16 - c).abs().max() < 0.02
    assert (back - images).abs().max() < 0.01


def test_wrong_files_and_sizes_are_named(tmp_path: Path, codec_file: Path) -> None:
    with pytest.raises(UserError, match="no such model file"):
        load_inn(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="holds deepjscc, not inn"):
        load_inn(codec_file)
    with pytest.raises(ValueError, match="multiples of 4"):
        make_inn()(noise_images(1, 18), torch.zeros(1))
