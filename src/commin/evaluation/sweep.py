"""A sweep: what is still to be done, done, and written so that a kill at any moment loses a unit and doubles none.

DIR holds ``sweep.json`` (the sweep, the weights and the split it was begun with), ``records-0.jsonl``, ``features/``
(and ``inception/``) and, at the end, ``table.csv``. A unit is one chunk of pictures, one system, one point.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

import commin
from commin.atomic import write_text
from commin.data.imageset import Entry, split_hash
from commin.errors import UserError
from commin.evaluation import fid
from commin.evaluation.bench import Bench, Outcome, Spec, Task
from commin.evaluation.chunk import Chunk
from commin.evaluation.config import SweepConfig
from commin.evaluation.features import (
    ORIGINALS,
    TO_ORIGINALS,
    distances_to_originals,
    folder_of,
    kernel_distances,
    merge,
    read,
    save,
    write_distances,
)
from commin.evaluation.records import FORMAT, WHOLE_SET, append_lines, drop_torn_line, read_lines
from commin.evaluation.systems.base import Point, place_of
from commin.evaluation.workers import Workers, execute
from commin.metrics.backbones import pool

RECORDS = "records-0.jsonl"
LINES = ("opta",)
"""Systems that make one record of the whole set and no pictures."""

Progress = Callable[[int, int], None]
"""Called with the records done by this run and those it has to do."""


def run_sweep(
    spec: Spec, folder: Path, workers: Workers = 1, batch: int = 16, progress: Progress | None = None
) -> Counter[str]:
    """Do all that is not done yet.

    Args:
        spec: the sweep, its data and device.
        folder: where records and features go.
        workers: 1 for this process, N processes, or ``ray``.
        batch: pictures in a chunk, sent and restored together.
        progress: told of every unit.

    Returns:
        What was skipped: reasons and how many records each cost.

    Raises:
        UserError: the folder holds another sweep's records, or cannot be written.
    """
    bench = Bench(spec)
    _claim(folder, spec.config, bench)
    path = folder / RECORDS
    if path.exists():
        drop_torn_line(path)
    done = _done(path)
    tasks = plan(spec.config, bench.pictures.entries, done, batch)
    total, finished = sum(max(1, len(t.pictures)) * len(t.systems) for t in tasks), 0
    skipped: Counter[str] = Counter()
    if workers != 1:
        _fit(bench, tasks)
    for outcome in execute(tasks, spec, workers, bench):
        _keep(outcome, folder, path, done)
        skipped.update(outcome.skipped)
        finished += len(outcome.records) + sum(outcome.skipped.values())
        if progress:
            progress(finished, total)
    places = list(dict.fromkeys(point.place for point in spec.config.points()))
    _originals(bench, folder, batch, lambda chunk: pool(chunk.seen) if chunk.seen else None)
    merge(folder)
    write_distances(kernel_distances(folder, bench.train, places), folder)
    write_distances(distances_to_originals(folder, places), folder, TO_ORIGINALS)
    if bench.inception is not None:
        inception = bench.inception
        _originals(bench, folder / fid.FOLDER, batch, lambda chunk: inception(chunk.images))
        merge(folder / fid.FOLDER)
        write_distances(fid.fids(folder, bench.train, bench.inception, places), folder, "fid")
    return skipped


def plan(config: SweepConfig, entries: list[Entry], done: set[int], batch: int) -> list[Task]:
    """The tasks that are left: chunk by chunk through all points, so that a picture is decoded once.

    Chunks are the same whatever is done already: a unit that is begun again is computed in the same company.
    """
    tasks: list[Task] = []
    points = config.points()
    for name in config.systems:
        if name in LINES:
            once = {point.place: point for point in reversed(points)}
            tasks += [Task(p, (), (name,)) for p in reversed(once.values()) if _key(name, p, WHOLE_SET) not in done]
    pictured = [name for name in dict.fromkeys(config.systems) if name not in LINES]
    for begin in range(0, max((config.pictures(name, len(entries)) for name in pictured), default=0), batch):
        for point in points:
            groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
            for name in pictured:
                chunk = tuple(range(begin, min(begin + batch, config.pictures(name, len(entries)))))
                if any(_key(name, point, entries[index].file) not in done for index in chunk):
                    groups.setdefault((name if name in config.limits else "", chunk), []).append(name)
            tasks += [Task(point, chunk, tuple(names)) for (_, chunk), names in groups.items()]
    return tasks


def _key(system: str, point: Point, image: str) -> int:
    return hash((system, point.place, point.seed, image))


def _done(path: Path) -> set[int]:
    return {record_key(record) for record in read_lines(path)} if path.exists() else set()


def record_key(record: dict[str, Any]) -> int:
    """One number for a record's system, point and picture; the same only within a process."""
    return hash((record["system"], place_of(record), record["seed"], record["image"]))


def _keep(outcome: Outcome, folder: Path, path: Path, done: set[int]) -> None:
    """Features first, records after: a unit with records has all that it needs."""
    for root, features in ((folder, outcome.features), (folder / fid.FOLDER, outcome.inception)):
        if features is not None:
            place = folder_of(root, outcome.system, outcome.point.place)
            save(place, features, outcome.digests, outcome.point.seed)
    keys = [_key(record.system, outcome.point, record.image) for record in outcome.records]
    new = [record for key, record in zip(keys, outcome.records, strict=True) if key not in done]
    if new:
        append_lines(new, path)
    done.update(keys)


def _fit(bench: Bench, tasks: Iterable[Task]) -> None:
    """Fit reference systems here, once, so that workers find them in the cache."""
    for name, point in dict.fromkeys((name, task.point) for task in tasks for name in task.systems):
        try:
            bench.system(name, point)
        except UserError:
            continue  # told by the worker, with the number of records it costs


def _originals(bench: Bench, folder: Path, batch: int, extract: Callable[[Chunk], Tensor | None]) -> None:
    """Features of the pictures themselves, once: the real-to-real distance beside every other."""
    place = folder_of(folder, ORIGINALS, None)
    config = bench.config
    count = max((config.pictures(name, len(bench.pictures.entries)) for name in config.systems), default=0)
    kept = read(place)
    if kept is not None and len(kept) >= count:
        return
    for begin in range(0, count, batch):
        chunk = bench.pictures.chunk(tuple(range(begin, min(begin + batch, count))))
        features = extract(chunk) if chunk.entries else None
        if features is not None:
            save(place, features, chunk.digests, 0)


def _claim(folder: Path, config: SweepConfig, bench: Bench) -> None:
    """Write ``sweep.json``, or see that what is there goes together with this sweep; more of the same may be added."""
    about = {
        "format": FORMAT, "commin": commin.__version__, "model": config.model, "weights": bench.weights,
        "split": config.split, "split_sha256": bench.split_hash, "crop": bench.crop, "settings": config.settings,
        "equalizer": config.equalizer, "size": config.size, "refinement": config.refinement,
        "train_sha256": None if bench.train.source is bench.source else split_hash(bench.train.entries),
    }  # fmt: skip
    if config.fid:
        about["fid"] = True
    files: dict[str, str] = {}
    for name in config.systems:
        for ratio in config.bcr:
            files |= bench.files_of(name, ratio)
    path = folder / "sweep.json"
    if path.exists():
        try:
            stored = {"refinement": 0, "train_sha256": None} | json.loads(path.read_text())["about"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(f"{path}: damaged; delete it, or give another -o") from None
        other = [key for key, value in about.items() if stored.get(key) != value]
        if other:
            key = other[0]
            raise UserError(
                f"{folder}: holds records of another {key} ({stored.get(key)}, now {about[key]}); give another -o"
            )
        kept = stored.get("files", {})
        for name in files:
            if kept.get(name, files[name]) != files[name]:
                raise UserError(f"{folder}: holds records of another {name} than is here now; give another -o")
        files = kept | files
    content = {"about": about | {"files": files}, "config": config.model_dump(mode="json")}
    try:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
