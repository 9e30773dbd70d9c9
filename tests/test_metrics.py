"""Metrics against their definitions, against documented values, and without their third-party weights."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from commin.errors import UserError
from commin.metrics.backbones import BACKBONES, Backbone, pool
from commin.metrics.kid import frechet_distance, kernel_distance, own_kernel, paired_kernel_distance
from commin.metrics.lpips import Lpips, load_lpips, try_lpips
from commin.metrics.pixels import ms_ssim, mse, psnr, ssim
from tests.conftest import smooth_images


def random_lpips(name: str) -> Lpips:
    """LPIPS with random weights: for properties that hold whatever the weights."""
    torch.manual_seed(0)
    backbone = Backbone(name)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return Lpips(backbone, [torch.rand(1, channels, 1, 1) for channels in backbone.channels]).eval()


def test_psnr_is_on_eight_bits(images: torch.Tensor) -> None:
    a = (images * 200 / 255 * 255).round() / 255 * 0.8
    shifted = ((a * 255).round() + 2) / 255
    assert torch.allclose(psnr(shifted, a), torch.full((4,), 20 * np.log10(255 / 2)).double(), atol=1e-6)
    assert torch.isinf(psnr(a, a + 0.4 / 255 * 0)).all()
    assert (mse(a + 0.2 / 255, (a * 255).round() / 255) <= mse(a + 2 / 255, a)).all()


def test_ssim_of_equal_and_different(images: torch.Tensor) -> None:
    assert torch.allclose(ssim(images, images), torch.ones(4), atol=1e-5)
    noisy = (images + 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert (ssim(noisy, images) < 0.7).all()
    alone = torch.cat([ssim(noisy[i : i + 1], images[i : i + 1]) for i in range(4)])
    assert torch.allclose(alone, ssim(noisy, images), atol=1e-5)


def test_ms_ssim_where_the_size_allows(images: torch.Tensor) -> None:
    assert torch.isnan(ms_ssim(images, images)).all()
    large = smooth_images(2, 192)
    assert torch.allclose(ms_ssim(large, large), torch.ones(2), atol=1e-4)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_lpips_properties(name: str) -> None:
    distance = random_lpips(name)
    a, b = smooth_images(3, seed=1), smooth_images(3, seed=2)
    assert torch.allclose(distance(a, a), torch.zeros(3), atol=1e-6)
    assert (distance(a, b) > 0).all()
    assert torch.allclose(distance(a, b), distance(b, a), atol=1e-6)
    assert torch.allclose(distance(a, b)[1], distance(a[1:2], b[1:2])[0], atol=1e-5)
    seen = distance.backbone(a)
    assert torch.equal(distance.distance(seen, distance.backbone(b)), distance(a, b))
    assert torch.equal(pool(seen), distance.backbone.pooled(a))
    b.requires_grad_()
    distance(a, b).sum().backward()
    assert b.grad is not None
    assert b.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="shape"):
        distance(a, b[:1])


@pytest.mark.parametrize(("name", "keys"), [("squeeze", 50), ("alex", 10), ("vgg", 26)])
def test_backbone_layout_is_torchvisions(name: str, keys: int) -> None:
    state = Backbone(name).state_dict()
    assert len(state) == keys
    assert all(key.startswith("features.") for key in state)


def test_a_missing_backbone_is_no_random_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load_lpips.cache_clear()
    monkeypatch.setenv("COMMIN_WEIGHTS", "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert try_lpips() is None
    with pytest.raises(UserError, match="commin zoo pull lpips-squeeze"):
        load_lpips()
    with pytest.raises(UserError, match="choose"):
        load_lpips("inception")
    load_lpips.cache_clear()


def test_documented_lpips_example() -> None:
    """torchmetrics' own docstring example for net_type='squeeze'."""
    load_lpips.cache_clear()
    distance = try_lpips()
    if distance is None:
        pytest.skip("SqueezeNet's weights are not here: set COMMIN_WEIGHTS or run commin zoo pull lpips-squeeze")
    rng = torch.Generator().manual_seed(42)
    a, b = (torch.rand(2, 3, 100, 100, generator=rng) for _ in range(2))
    assert distance(a, b).tolist() == pytest.approx([0.1024, 0.0938], abs=1e-3)
    assert os.environ.get("COMMIN_HOME")


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    rng = torch.Generator().manual_seed(0)
    sets = torch.randn(40, 50, 8, generator=rng)
    null = torch.tensor([kernel_distance(sets[i], sets[i + 1]) for i in range(0, 40, 2)])
    assert abs(null.mean()) < 3 * null.std() / len(null) ** 0.5 + 1e-6
    assert kernel_distance(sets[0], sets[1] + 1) > 10 * null.std()
    assert kernel_distance(sets[0], sets[1], own_kernel(sets[1])) == null[0]
    with pytest.raises(ValueError, match="two"):
        kernel_distance(sets[0][:1], sets[1])


def test_paired_kernel_distance_is_that_of_independent_sets_but_without_a_picture_beside_its_own_original() -> None:
    rng = torch.Generator().manual_seed(0)
    originals, noise = torch.randn(2, 40, 60, 8, generator=rng).double()
    assert paired_kernel_distance(originals[0], originals[0]) == pytest.approx(0, abs=1e-9)
    assert paired_kernel_distance(originals[0] + 1, originals[0]) > 1
    # a set as different as noise makes it: the same in the mean, whether it was made from these originals or others
    near, far = (
        torch.tensor(
            [paired_kernel_distance(a + noise[i], b) for i, (a, b) in enumerate(zip(x, originals, strict=True))]
        )
        for x in (originals, originals.roll(1, 0))
    )
    assert abs(near.mean() - far.mean()) < 3 * (near.var() + far.var()).sqrt() / len(near) ** 0.5
    assert kernel_distance(originals[0], originals[0]) < -3 * near.std() / len(near) ** 0.5  # what pairs would do to it
    for a, b in ((originals[0], originals[0, 1:]), (originals[0, :1], originals[0, :1])):
        with pytest.raises(ValueError, match="two pictures or more"):
            paired_kernel_distance(a, b)


def test_frechet_distance_of_gaussians() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(100_000, 4, generator=rng)
    b = torch.randn(100_000, 4, generator=rng) * 2 + 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(4 * 1 + 4 * (2 - 1) ** 2, rel=0.03)
