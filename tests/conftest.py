"""Shared by all tests: small pictures made here, a small codec, no cache or weights of the user's."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from commin.codec.config import DeepJSCCConfig
from commin.codec.deepjscc import DeepJSCC


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMIN_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def images() -> Tensor:
    """Four smooth random pictures (4, 3, 64, 64) in [0, 1]."""
    return smooth_images(4)


def smooth_images(count: int, size: int = 64, seed: int = 0) -> Tensor:
    """Smooth random pictures (count, 3, size, size) in [0, 1]: 4×4 colours, enlarged."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


class Slopes(nn.Module):
    """Stands in for LPIPS: the mean squared difference of neighbours' differences, never in half precision."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert a.dtype.itemsize >= 4
        return (a - b).diff(dim=-1).square().mean((1, 2, 3))


def write_faces(folder: Path, splits: dict[str, int], seed: int) -> Path:
    """A data set of 64×64 smooth pictures: so many of each split, one after the other, with a manifest."""
    from commin.images import save_picture, to_picture

    names = [split for split, count in splits.items() for _ in range(count)]
    rows = ["file,split"]
    for index, (split, image) in enumerate(zip(names, smooth_images(len(names), 64, seed), strict=True)):
        save_picture(to_picture(image), folder / f"{index:03}.png")
        rows.append(f"{index:03}.png,{split}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def codec() -> DeepJSCC:
    """A small untrained codec at ρ = 1/192, 1/48, 1/12 for 64×64 pictures."""
    torch.manual_seed(0)
    config = DeepJSCCConfig(widths=(8, 16, 16), latent_channels=(8, 32, 128), bottleneck=16, image_size=64)
    return DeepJSCC(config).eval()


@pytest.fixture(scope="session")
def codec_file(codec: DeepJSCC, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That codec as a model file."""
    from commin.codec.files import save_codec

    path = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    save_codec(codec, path)
    return path
