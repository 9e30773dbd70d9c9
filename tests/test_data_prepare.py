"""``commin data prepare``: checked, cropped, resized, split, listed; the same wherever it was stopped."""

import csv
import hashlib
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from commin.cli.main import app
from commin.data import prepare as module
from commin.data.imageset import ImageSet, load_pixels, split_hash
from commin.data.prepare import Done, Settings, prepare
from commin.data.splits import assign
from commin.data.stream import Stream
from commin.errors import UserError
from commin.images import to_picture
from tests.conftest import smooth_images

SETTINGS = Settings(size=32, valid=2, test=3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """12 good photos of 48×40, one of them twice, one cut short, one that is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for index, image in enumerate(smooth_images(12, 48)):
        to_picture(image[:, :40]).save(folder / ("more" if index % 2 else ".") / f"{index:02}.png")
    (folder / "twin.png").write_bytes((folder / "00.png").read_bytes())
    (folder / "short.jpg").write_bytes((folder / "00.png").read_bytes()[:300])
    (folder / "words.png").write_text("no picture")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != module.JOURNAL
    }


def test_result_is_a_data_set(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = prepare(ImageSet(photos), out, SETTINGS)
    result = ImageSet(out)
    assert len(result.entries) == 12
    assert sum(summary.counts.values()) == 12
    assert {made.source for made in summary.bad} == {"twin.png", "short.jpg", "words.png"}
    assert any("same picture as 00.png" in made.problem for made in summary.bad)
    assert table(out / "bad.csv")[0].keys() == {"file", "problem"}
    for row in table(out / "manifest.csv"):
        content = (out / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        assert (row["width"], row["height"]) == ("48", "40")
        assert Image.open(out / row["file"]).size == (32, 32)
    for name, value in json.loads((out / "prepare.json").read_text())["hashes"].items():
        assert value == split_hash(result.split(name)) == summary.hashes[name]


def test_stopped_and_resumed_equals_uninterrupted(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(ImageSet(photos), tmp_path / "whole", SETTINGS)
    make, made = module._make, []

    def failing(*arguments: Any) -> Done:
        made.append(arguments[1].file)
        if len(made) > 5:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setattr(module, "_make", failing)
    monkeypatch.setattr(module, "AHEAD", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(ImageSet(photos), tmp_path / "cut", SETTINGS)
    monkeypatch.setattr(module, "_make", make)
    with (tmp_path / "cut" / module.JOURNAL).open("a") as journal:
        journal.write('{"source": "half')
    again: list[str] = []
    monkeypatch.setattr(module, "_make", lambda *a: again.append(a[1].file) or make(*a))
    prepare(ImageSet(photos), tmp_path / "cut", SETTINGS)
    assert not set(again) & set(made[:4])
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_other_settings_are_refused(photos: Path, tmp_path: Path) -> None:
    prepare(ImageSet(photos), tmp_path / "out", SETTINGS)
    with pytest.raises(UserError, match="another size"):
        prepare(ImageSet(photos), tmp_path / "out", Settings(size=16, valid=2, test=3))
    with pytest.raises(UserError, match="none of"):
        prepare(ImageSet(photos), tmp_path / "small", Settings(size=32, valid=2, test=3, min_side=100))


def test_splits_and_identities_of_the_source_are_kept(tmp_path: Path) -> None:
    photos = tmp_path / "photos.zip"
    with zipfile.ZipFile(photos, "w") as archive:
        lines = ["file,split,identity"]
        for index, image in enumerate(smooth_images(4, 32)):
            to_picture(image).save(tmp_path / "one.png")
            archive.write(tmp_path / "one.png", f"images/{index}.png")
            lines.append(f"{index}.png,{'test' if index > 2 else 'train'},{index // 2}")
        archive.writestr("manifest.csv", "\n".join(lines))
    prepare(ImageSet(photos), tmp_path / "out", SETTINGS)
    rows = table(tmp_path / "out" / "manifest.csv")
    assert [(row["split"], row["identity"]) for row in rows] == [
        ("train", "0"), ("train", "0"), ("train", "1"), ("test", "1"),
    ]  # fmt: skip
    assert rows[0]["file"] == "images/0.png"


def test_split_counts_shares_and_groups() -> None:
    names = [f"{index}.png" for index in range(100)]
    splits = assign(names, 10, 0.2)
    assert (splits.count("valid"), splits.count("test"), splits.count("train")) == (10, 20, 70)
    assert assign(names[::-1], 10, 0.2) == splits[::-1]
    assert assign(names, 10, 0.2, seed=1) != splits
    people = [str(index // 5) for index in range(100)]
    together = dict(zip(people, assign(people, 10, 20), strict=True))
    assert [together[each] for each in people] == assign(people, 10, 20)
    with pytest.raises(UserError, match="keep some for train"):
        assign(names, 50, 0.5)


def test_command_names_bad_pictures(photos: Path, tmp_path: Path) -> None:
    arguments = ["data", "prepare", str(photos), str(tmp_path / "out"), "--size", "32", "--valid", "2", "--test", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "left out words.png" in done.output
    assert "train" in done.output
    wrong = CliRunner().invoke(app, [*arguments, "--crop", "middle"])
    assert isinstance(wrong.exception, UserError)


def shards(folder: Path, count: int, each: int) -> Path:
    """A folder of tars as WebDataset writes them: a picture and its caption under one name."""
    folder.mkdir()
    pictures = smooth_images(count * each, 32)
    for shard in range(count):
        with tarfile.open(folder / f"train-{shard:06}.tar", "w") as archive:
            for index in range(shard * each, (shard + 1) * each):
                to_picture(pictures[index]).save(folder / "one.png")
                archive.add(folder / "one.png", f"{index:05}.png")
                (folder / "one.txt").write_text("a caption")
                archive.add(folder / "one.txt", f"{index:05}.txt")
    (folder / "one.png").unlink()
    (folder / "one.txt").unlink()
    return folder


def test_shards_folder_zip_and_stream_hold_the_same_pictures(tmp_path: Path) -> None:
    tars = shards(tmp_path / "shards", 3, 4)
    plain, packed = tmp_path / "plain", tmp_path / "packed.zip"
    plain.mkdir()
    source = ImageSet(tars)
    assert len(source.entries) == 12
    with zipfile.ZipFile(packed, "w") as archive:
        for entry in source.entries:
            (plain / Path(entry.file).name).write_bytes(source.read(entry.file))
            archive.writestr(Path(entry.file).name, source.read(entry.file))
    wanted = load_pixels(source, source.entries, 32, "centre")
    for path in (plain, packed):
        images = ImageSet(path)
        assert torch.equal(load_pixels(images, images.entries, 32, "centre"), wanted)
    one = ImageSet(tars / "train-000001.tar")
    assert torch.equal(load_pixels(one, one.entries, 32, "centre"), wanted[4:8])
    stream = Stream(source, source.entries, 32, "centre", workers=3)
    chosen = torch.tensor([7, 0, 11, 7])
    assert torch.equal(stream[chosen], wanted[chosen])
    assert (len(stream), stream.shape) == (12, wanted.shape)


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    tars = shards(tmp_path / "shards", 1, 2)
    tar = tars / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(UserError, match="cut short"):
        ImageSet(tars)
    tar.write_text("no tar")
    with pytest.raises(UserError, match="no uncompressed tar"):
        ImageSet(tars)


def test_cached_pixels_are_the_decoded_ones(photos: Path, tmp_path: Path) -> None:
    images = ImageSet(photos)
    entries = [entry for entry in images.entries if entry.file not in ("short.jpg", "words.png")]
    first = load_pixels(images, entries, 32, "centre", tmp_path / "cache")
    again = load_pixels(images, entries, 32, "centre", tmp_path / "cache")
    assert torch.equal(first, again)
    again[0] = 0  # a private copy: the file stays as it is
    assert torch.equal(first, load_pixels(images, entries, 32, "centre", tmp_path / "cache"))
