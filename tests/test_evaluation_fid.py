"""Distances between sets; FID: one clear line where something is missing, else the distance (made-up extractor)."""

import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commin.data.imageset import ImageSet
from commin.errors import UserError
from commin.evaluation import fid
from commin.evaluation.features import (
    ORIGINALS,
    TO_ORIGINALS,
    all_distances,
    distances_to_originals,
    folder_of,
    save,
    write_distances,
)
from commin.evaluation.systems import Place, TrainSplit
from commin.images import save_picture, to_picture
from commin.metrics.kid import paired_kernel_distance
from tests.conftest import smooth_images

HERE = Place("1/48", "awgn", 0.0, 0.0, None)


def test_without_torch_fidelity_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(UserError, match=r"commin\[fid\]"):
        fid.load_inception(torch.device("cpu"))


def test_without_weights_or_with_others_nothing_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "torch_fidelity.feature_extractor_inceptionv3"
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(fid, "folders", lambda: [tmp_path])
    with pytest.raises(UserError, match="is not here; put https"):
        fid.load_inception(torch.device("cpu"))
    (tmp_path / fid.WEIGHTS).write_bytes(b"not those")
    with pytest.raises(UserError, match="does not start with 6726825d"):
        fid.load_inception(torch.device("cpu"))


def test_only_sets_that_are_large_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["file,split"]
    for index, image in enumerate(smooth_images(30, 16)):
        save_picture(to_picture(image), tmp_path / f"{index:03}.png")
        rows.append(f"{index:03}.png,train")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    train = TrainSplit(ImageSet(tmp_path), 16, "none", tmp_path / "cache")
    root = tmp_path / "out" / fid.FOLDER
    draws = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    for system, place, shift, count in (("near", HERE, 0.1, 30), ("far", HERE, 3.0, 30), ("few", HERE, 0.0, 20)):
        save(folder_of(root, system, place), draws[:count] + shift, [f"{i}" for i in range(count)], 0)
    save(folder_of(root, ORIGINALS, None), draws, [f"{i}" for i in range(30)], 0)
    assert fid.fids(tmp_path / "out", train, lambda images: draws[: len(images)], [HERE]) == {}
    monkeypatch.setattr(fid, "LEAST", 25)
    found = fid.fids(tmp_path / "out", train, lambda images: draws[: len(images)], [HERE])
    assert found.keys() == {("near", HERE), ("far", HERE), (ORIGINALS, None)}
    assert found[ORIGINALS, None] == pytest.approx(0, abs=1e-3)
    assert found["far", HERE] == pytest.approx(6 * 9, rel=1e-2)
    assert found["near", HERE] == pytest.approx(6 * 0.01, rel=0.1)


def test_distances_to_the_originals_are_between_the_same_pictures(tmp_path: Path) -> None:
    draws = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    names = [f"{i:02}" for i in range(30)]
    assert distances_to_originals(tmp_path, [HERE]) == {}
    save(folder_of(tmp_path, ORIGINALS, None), draws, names, 0)
    same, half, far = (folder_of(tmp_path, name, HERE) for name in ("same", "half", "far"))
    for first in (10, 0, 20):  # chunks in any order
        save(same, draws[first : first + 10], names[first : first + 10], 0)
    save(half, draws[:15], names[:15], 0)
    for seed, shift in ((0, 1.0), (1, 2.0)):
        save(far, draws.flip(0) + shift, names[::-1], seed)
    found = distances_to_originals(tmp_path, [HERE, replace(HERE, snr_db=5.0)])
    assert found.keys() == {("same", HERE), ("half", HERE), ("far", HERE)}
    assert found["same", HERE] == pytest.approx(0, abs=1e-6)
    assert found["half", HERE] == pytest.approx(0, abs=1e-6)
    of_seeds = [paired_kernel_distance(draws + shift, draws) for shift in (1.0, 2.0)]
    assert found["far", HERE] == pytest.approx(sum(of_seeds) / 2)
    write_distances(found, tmp_path, TO_ORIGINALS)
    assert all_distances(tmp_path)[TO_ORIGINALS] == {key: pytest.approx(v, abs=1e-4) for key, v in found.items()}
