"""A folder or zip of any photos made into a data set: checked, cropped, resized, split, listed with checksums.

The result is a folder with ``images/*.png``, ``manifest.csv`` (file, split, identity, width and height of the original,
sha256), ``bad.csv`` (what was left out, and why) and ``prepare.json`` (how it was made, the hash of each split).
Stopped at any moment, the same call goes on; what it ends with does not depend on where it was stopped.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from commin.atomic import replacing, write_text
from commin.data.imageset import Entry, ImageSet, split_hash
from commin.data.splits import assign
from commin.errors import UserError
from commin.images import crop_box, frame, open_photo

JOURNAL = "journal.jsonl"
AHEAD = 64
"""Pictures in work at a time."""


@dataclass(frozen=True)
class Settings:
    """How pictures are made.

    Attributes:
        size: height and width in pixels.
        crop: a name of `commin.images.crop_box`.
        valid, test: pictures in each, a number or a share (`commin.data.splits.assign`), where the source has no split.
        seed: of the split.
        min_side: originals whose crop is smaller are left out; 0 takes all.
    """

    size: int = 256
    crop: str = "centre"
    valid: float = 0.05
    test: float = 0.05
    seed: int = 0
    min_side: int = 0


@dataclass(frozen=True)
class Done:
    """What became of one picture: ``problem`` is empty for a good one. Width and height are the original's."""

    source: str
    file: str
    problem: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Summary:
    """Pictures of each split, its hash (`commin.data.imageset.split_hash`), and those left out."""

    counts: dict[str, int]
    hashes: dict[str, str]
    bad: list[Done]


def prepare(
    source: ImageSet, folder: Path, settings: Settings, progress: Callable[[int], None] | None = None
) -> Summary:
    """Make the data set, or finish one that was begun.

    Args:
        source: the photos; its manifest's splits and identities are kept, if it has them.
        folder: where to; made if it is not there.
        settings: how.
        progress: called with the number of pictures done so far.

    Raises:
        UserError: the folder holds something else, or was begun with other settings; or no picture is usable.
    """
    how = {"source": source.path.name, "pictures": split_hash(source.entries), **asdict(settings)}
    _claim(folder, how)
    names = _names(source.entries)
    done = _read_journal(folder)
    todo = [entry for entry in source.entries if entry.file not in done]
    with (folder / JOURNAL).open("a") as journal:
        for made in _ahead(lambda entry: _make(source, entry, folder, names[entry.file], settings), todo):
            journal.write(json.dumps(asdict(made)) + "\n")
            journal.flush()
            done[made.source] = made
            if progress:
                progress(len(done))
    return _finish(source, folder, settings, how, [done[entry.file] for entry in source.entries])


def _claim(folder: Path, how: dict[str, Any]) -> None:
    """Note in the folder what it is being made from, or see that it says the same."""
    note = folder / "prepare.json"
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        if note.is_file():
            before = json.loads(note.read_text())
            other = [key for key in how if before.get(key) != how[key]]
            if other:
                raise UserError(
                    f"{folder}: was begun with another {', '.join(other)}; take another folder or remove it"
                )
        elif any((folder / "images").iterdir()):
            raise UserError(f"{folder}: holds images already; take another folder")
        else:
            write_text(note, json.dumps(how, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    except json.JSONDecodeError:
        raise UserError(f"{note}: damaged; remove the folder and start again") from None


def _names(entries: list[Entry]) -> dict[str, str]:
    """The file of each picture: its own name as .png, or with .png behind it where two would be the same."""
    plain = [str(PurePosixPath(entry.file).with_suffix("")) for entry in entries]
    twice = {name for name in plain if plain.count(name) > 1} if len(set(plain)) < len(plain) else set()
    return {
        entry.file: f"images/{entry.file if name in twice else name}.png".replace("images/images/", "images/")
        for entry, name in zip(entries, plain, strict=True)
    }


def _read_journal(folder: Path) -> dict[str, Done]:
    """What a former call has finished; a line cut short by its end does not count, nor does a file that has gone."""
    path = folder / JOURNAL
    done: dict[str, Done] = {}
    lines = path.read_text().splitlines() if path.is_file() else []
    for line in lines:
        try:
            made = Done(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        if made.problem or (folder / made.file).is_file():
            done[made.source] = made
    write_text(path, "".join(json.dumps(asdict(made)) + "\n" for made in done.values()))
    return done


def _ahead(make: Callable[[Entry], Done], entries: Iterable[Entry]) -> Iterator[Done]:
    """Results in order, at most `AHEAD` in work."""
    rest = iter(entries)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(make, entry) for entry in islice(rest, AHEAD)]
        while waiting:
            made = waiting.pop(0).result()
            waiting += [pool.submit(make, entry) for entry in islice(rest, 1)]
            yield made


def _make(source: ImageSet, entry: Entry, folder: Path, file: str, settings: Settings) -> Done:
    """One picture, written whole or not at all."""
    try:
        photo = open_photo(source.read(entry.file), entry.file)
        box = crop_box(*photo.size, settings.crop)
        side = min(box.right - box.left, box.bottom - box.top)
        if side < settings.min_side:
            raise UserError(f"{entry.file}: {side:g} pixels to a side, fewer than {settings.min_side}")
    except UserError as error:
        return Done(entry.file, file, str(error).removeprefix(f"{entry.file}: "))
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:  # a zip's damaged member
        return Done(entry.file, file, f"cannot be read ({' '.join(str(error).split())})")
    content = io.BytesIO()
    frame(photo, box, (settings.size, settings.size)).save(content, format="PNG")
    target = folder / file
    with replacing(target) as temporary:
        temporary.write_bytes(content.getvalue())
    return Done(entry.file, file, "", *photo.size, hashlib.sha256(content.getvalue()).hexdigest())


def _finish(source: ImageSet, folder: Path, settings: Settings, how: dict[str, Any], every: list[Done]) -> Summary:
    """Leave out pictures that are there twice and write the lists."""
    first: dict[str, str] = {}
    for number, made in enumerate(every):
        if not made.problem and first.setdefault(made.sha256, made.source) != made.source:
            (folder / made.file).unlink(missing_ok=True)
            every[number] = Done(made.source, made.file, f"the same picture as {first[made.sha256]}")
    bad = [made for made in every if made.problem]
    if len(bad) == len(every):
        raise UserError(
            f"{source.path}: none of {len(every)} pictures can be used; the first: {bad[0].source}: {bad[0].problem}"
        )
    splits = [entry.split for entry in source.entries]
    if set(splits) == {""}:
        groups = [entry.identity or entry.file for entry in source.entries]
        splits = assign(groups, settings.valid, settings.test, settings.seed)
    rows = [
        {"file": made.file, "split": split, "identity": entry.identity, "width": made.width, "height": made.height,
         "sha256": made.sha256}
        for made, split, entry in zip(every, splits, source.entries, strict=True) if not made.problem
    ]  # fmt: skip
    write_text(folder / "manifest.csv", _table(rows))
    write_text(
        folder / "bad.csv", _table([{"file": made.source, "problem": made.problem} for made in bad]) or "file,problem\n"
    )
    result = ImageSet(folder)
    names = sorted({entry.split for entry in result.entries})
    counts = {name: len(result.split(name)) for name in names}
    hashes = {name: split_hash(result.split(name)) for name in names}
    write_text(folder / "prepare.json", json.dumps({**how, "counts": counts, "hashes": hashes}, indent=1) + "\n")
    return Summary(counts, hashes, bad)


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
