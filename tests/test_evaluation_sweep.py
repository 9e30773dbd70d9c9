"""Sweeps: the same records whatever the batch, the workers or the interruption; the rest goes on after a mistake."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from commin.errors import UserError
from commin.evaluation.bench import Bench, Spec
from commin.evaluation.config import SweepConfig, read_sweep
from commin.evaluation.records import drop_torn_line, read_lines
from commin.evaluation.results import read_results
from commin.evaluation.sweep import RECORDS, run_sweep
from commin.evaluation.table import summarise, write_csv
from commin.images import save_picture, to_picture
from tests.conftest import smooth_images

Sweep = Callable[..., Spec]


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 train and 7 test pictures of 3 persons, with a manifest."""
    folder = tmp_path_factory.mktemp("faces")
    rows = ["file,split,identity"]
    for index, image in enumerate(smooth_images(31, 64)):
        split = "train" if index < 24 else "test"
        save_picture(to_picture(image), folder / f"{index:03}.png")
        rows.append(f"{index:03}.png,{split},{split}{index % 3}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def sweep(codec_file: Path, faces: Path) -> Sweep:
    def make(data: Path = faces, **changes: Any) -> Spec:
        content = {"model": str(codec_file), "systems": ["deepjscc"], "bcr": ["1/48"], "snr_db": [0, 5], "crop": "none"}
        return Spec(SweepConfig.model_validate(content | changes), data)

    return make


def records(folder: Path) -> dict[tuple[object, ...], dict[str, Any]]:
    lines = list(read_lines(folder / RECORDS))
    names = ("system", "bcr", "channel", "snr_db", "design_snr_db", "told_snr_db", "seed", "image")
    found = {tuple(line[name] for name in names): line for line in lines}
    assert len(found) == len(lines), "a record twice"
    for line in lines:
        line.pop("seconds")
    return found


def test_a_record_for_every_picture(sweep: Sweep, tmp_path: Path) -> None:
    assert not run_sweep(sweep(seeds=[0, 1], channels=["awgn", "rayleigh-block"]), tmp_path)
    found = records(tmp_path)
    assert len(found) == 7 * 2 * 2 * 2
    line = next(iter(found.values()))
    assert line["k"] / line["n"] == 1 / 48
    assert abs(line["measured_snr_db"] - line["snr_db"]) < 1
    assert line["ssim"] is not None
    assert line["weights"]
    assert len(line["split_hash"]) == 64
    assert line["identity"].startswith("test")


def test_pictures_larger_than_the_models(sweep: Sweep, tmp_path: Path) -> None:
    assert not run_sweep(sweep(systems=["deepjscc", "random-face"], size=96, crop="centre", limit=2), tmp_path)
    found = records(tmp_path)
    assert len(found) == 2 * 2 * 2
    assert {(line["k"], line["n"]) for line in found.values()} == {(576, 3 * 96**2)}
    with pytest.raises(UserError, match="size"):
        run_sweep(sweep(crop="centre"), tmp_path)


def test_reference_systems_fitted_to_another_set(sweep: Sweep, faces: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for index, image in enumerate(smooth_images(2)):
        save_picture(to_picture(image), others / f"{index}.png")
    spec = sweep(others, systems=["retrieval", "random-face"], settings={"retrieval": {"pool": 8}})
    assert sum(run_sweep(spec, tmp_path / "alone").values()) == 2 * 2 * 2
    fitted = replace(spec, train_data=faces)
    assert (Bench(spec).train.crop, Bench(fitted).train.crop) == ("none", "centre")  # the sweep's, the model's
    assert not run_sweep(fitted, tmp_path / "fitted")
    assert {line["image"] for line in records(tmp_path / "fitted").values()} == {"0.png", "1.png"}
    with pytest.raises(UserError, match="train_sha256"):
        run_sweep(spec, tmp_path / "fitted")


def test_refined_symbols_are_told_and_kept_apart(sweep: Sweep, tmp_path: Path) -> None:
    systems = {"systems": ["deepjscc", "retrieval", "pca"], "settings": {"retrieval": {"pool": 8}}, "limit": 2}
    assert not run_sweep(sweep(model="faces64", refinement=3, **systems), tmp_path / "refined")
    assert not run_sweep(sweep(model="faces64", **systems), tmp_path / "plain")
    refined, plain = records(tmp_path / "refined"), records(tmp_path / "plain")
    assert {(line["system"], line["refinement"]) for line in refined.values()} == {
        ("deepjscc", 3), ("retrieval", 3), ("pca", 0),
    }  # fmt: skip
    psnr = [
        sum(line["psnr_db"] for line in found.values() if line["system"] == "deepjscc") for found in (plain, refined)
    ]
    assert psnr[0] < psnr[1]
    with pytest.raises(UserError, match="refinement"):
        run_sweep(sweep(model="faces64", **systems), tmp_path / "refined")


def test_records_do_not_depend_on_batch_or_workers(sweep: Sweep, tmp_path: Path) -> None:
    spec = sweep(systems=["deepjscc", "random-face", "retrieval", "pca", "opta"], limits={"pca": 5})
    spec.config.settings["retrieval"] = {"pool": 8}
    base = None
    for batch, workers in ((16, 1), (1, 1), (4, 1), (16, 2)):
        folder = tmp_path / f"{batch}-{workers}"
        folder.mkdir()
        assert not run_sweep(spec, folder, workers, batch)
        found = records(folder)
        base = base or found
        assert found.keys() == base.keys()
        for key, record in found.items():
            assert record["psnr_db"] == pytest.approx(base[key]["psnr_db"], abs=1e-3)
            assert record["ssim"] is None or record["ssim"] == pytest.approx(base[key]["ssim"], abs=1e-4)
            assert record["measured_snr_db"] == pytest.approx(base[key]["measured_snr_db"], abs=2e-4)
            changing = ("psnr_db", "ssim", "measured_snr_db")
            assert {k: v for k, v in record.items() if k not in changing} == {
                k: v for k, v in base[key].items() if k not in changing
            }
            if batch == 16:
                assert record == base[key]


def test_every_system_gets_the_same_symbols(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(sweep(systems=["deepjscc", "retrieval"], settings={"retrieval": {"alpha": 0.0}}), tmp_path)
    found = records(tmp_path)
    for key, record in found.items():
        assert record["psnr_db"] == found["deepjscc", *key[1:]]["psnr_db"]
        assert record["measured_snr_db"] == found["deepjscc", *key[1:]]["measured_snr_db"]


def test_killed_anywhere_and_run_again(sweep: Sweep, tmp_path: Path) -> None:
    spec = sweep(systems=["deepjscc", "random-face"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        run_sweep(spec, folder, batch=3)
    table = {}
    content = (broken / RECORDS).read_bytes()
    cuts = torch.randint(len(content), (4,), generator=torch.Generator().manual_seed(0)).tolist()
    for cut in cuts:
        (broken / RECORDS).write_bytes(content[:cut])
        run_sweep(spec, broken, batch=3)
        assert records(broken) == records(whole)
        for folder in (whole, broken):
            write_csv(summarise(read_results(folder)), folder / "table.csv")
            table[folder] = (folder / "table.csv").read_bytes()
        assert table[whole] == table[broken]
    steps: list[int] = []
    run_sweep(spec, broken, batch=3, progress=lambda done, total: steps.append(total))
    assert not steps, "a finished sweep has nothing left"


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for content, kept in ((b'{"a": 1}\n{"b"', b'{"a": 1}\n'), (b'{"a', b""), (b"", b""), (b"x\n", b"x\n")):
        path.write_bytes(content)
        drop_torn_line(path)
        assert path.read_bytes() == kept


def test_what_cannot_be_done_is_counted_and_the_rest_goes_on(sweep: Sweep, faces: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    out.mkdir()
    data.mkdir()
    for path in faces.iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    (data / "025.png").write_bytes(b"no picture")
    spec = sweep(data, systems=["nothing", "deepjscc"], bcr=["1/48", "1/96"], snr_db=[0])
    skipped = run_sweep(spec, out)
    assert len(records(out)) == 6
    assert {reason.split(":")[0]: count for reason, count in skipped.items()} == {
        "system nothing": 14, "this codec has no ρ = 1/96; it has 1/192, 1/48, 1/12": 7,
        data.name: 1,
    }  # fmt: skip
    again = run_sweep(spec, out)
    assert again == skipped
    assert len(records(out)) == 6


@pytest.mark.parametrize("name", ["faces64-prior", "faces64-finish"])
def test_a_folder_holds_one_of_each_network(name: str, sweep: Sweep, tmp_path: Path) -> None:
    """A restored picture depends on more than the codec: records before and after a new prior do not mix."""
    run_sweep(sweep(model="faces64", snr_db=[0], limit=1), tmp_path)
    path = tmp_path / "sweep.json"
    content = json.loads(path.read_text())
    assert content["about"]["files"] == {}  # deepjscc needs none
    content["about"]["files"] = {name: "0" * 64}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"another {name}"):
        run_sweep(sweep(model="faces64", systems=["commin-fast"], snr_db=[0], limit=1), tmp_path)


def test_a_folder_holds_one_sweep(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(sweep(snr_db=[0]), tmp_path)
    run_sweep(sweep(snr_db=[0, 5], limit=3), tmp_path)  # more of the same
    assert len(records(tmp_path)) == 10
    with pytest.raises(UserError, match="another split"):
        run_sweep(sweep(split="train"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / RECORDS).read_text().splitlines()]
    (tmp_path / RECORDS).write_text("".join(json.dumps(line | {"format": 99}) + "\n" for line in lines))
    with pytest.raises(UserError, match="records of format 99"):
        run_sweep(sweep(snr_db=[0]), tmp_path)


def test_mismatched_snrs(sweep: Sweep, tmp_path: Path) -> None:
    run_sweep(sweep(snr_db=0, design_snr_db=[-10, 0], told_snr_db=[5], limit=2), tmp_path)
    found = records(tmp_path)
    assert {(key[3], key[4], key[5]) for key in found} == {(0, -10, 5), (0, 0, 5)}
    assert len(summarise(read_results(tmp_path))) == 2


def test_set_level_lines_make_one_record(sweep: Sweep, tmp_path: Path) -> None:
    skipped = run_sweep(sweep(systems="opta", seeds=[0, 1], channels=["awgn", "rayleigh-fast"]), tmp_path)
    found = records(tmp_path)
    assert [key[-1] for key in found] == ["*", "*"]
    assert list(skipped) == ["opta: a line for the channel awgn alone, not for rayleigh-fast"]
    row = summarise(read_results(tmp_path))[0]
    assert row.pictures == 0
    assert row.psnr_of_mse_db > 10


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("systems: [deepjscc]\nbcr: [1/48]\nsnr: [0]", "snr_db: Field required"),
        ("systems: [deepjscc]\nbcr: [1/48]\nsnr_db: [0]\nbatches: 3", "unknown key batches; the keys here are data"),
        ("systems: [deepjscc]\nbcr: [x]\nsnr_db: [0]", "bandwidth compression ratio 'x'"),
        ("systems: [deepjscc]\nbcr: [1/48]\nsnr_db: [.nan]", "snr_db"),
        ("systems: []\nbcr: [1/48]\nsnr_db: [0]", "systems"),
        ("[", "cannot be read as YAML"),
    ],
)
def test_a_wrong_sweep_file_is_one_line(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as caught:
        read_sweep(path)
    assert "\n" not in str(caught.value)


def test_the_issues_form_of_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "data: faces.zip\nsplit: test\nmodel: faces64\nsystems: [deepjscc, commin-fast]\nbcr: ['1/48', 1/192]\n"
        "snr_db: [-5, 0, 5]\ndesign_snr_db: null\nchannels: [awgn]\nseeds: [0]\nlimit: 460\nlimits: {commin-fast: 60}\n"
    )
    config = read_sweep(path)
    assert config.bcr == ("1/48", "1/192")
    assert len(config.points()) == 6
    assert (config.pictures("deepjscc", 1000), config.pictures("commin-fast", 1000)) == (460, 60)


def test_ray_that_is_not_there(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"commin\[cluster\]"):
        run_sweep(sweep(), tmp_path, "ray")


def ray_workers() -> list[int]:
    """Process ids of the Ray workers that descend from this process and have a sweep's bench."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::_RayWorker"):
                found.append(int(folder.name))
        except OSError:
            continue  # gone meanwhile

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return [pid for pid in found if ours(pid)]


def test_ray_gives_the_records_of_one_process_and_does_a_killed_workers_unit_again(
    sweep: Sweep, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
    spec = sweep(systems=["deepjscc", "random-face", "opta"])
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if not killed:
            killed.extend(ray_workers()[:1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    found = {}
    for workers in (1, 2, "ray"):
        folder = tmp_path / str(workers)
        folder.mkdir()
        assert not run_sweep(spec, folder, workers, 2, kill_one if workers == "ray" else None)  # type: ignore[arg-type]
        found[workers] = records(folder)
    assert found[1] == found[2] == found["ray"]
    assert killed or not Path("/proc/self/cmdline").exists()


def test_systems_without_a_codec_need_no_weights_and_count_what_is_lost(sweep: Sweep, tmp_path: Path) -> None:
    spec = sweep(systems=["deepjscc", "separation-capacity"], bcr=["1/192", "1/3"], snr_db=5, limit=2)
    skipped = run_sweep(spec, tmp_path)
    assert list(skipped) == ["this codec has no ρ = 1/3; it has 1/192, 1/48, 1/12"]
    rows = {(row.system, row.place.bcr): row for row in summarise(read_results(tmp_path))}
    assert rows.keys() == {("deepjscc", "1/192"), ("separation-capacity", "1/192"), ("separation-capacity", "1/3")}
    assert rows["separation-capacity", "1/3"].k == 4096
    assert rows["separation-capacity", "1/192"].lost == 1
    assert rows["separation-capacity", "1/3"].lost == rows["deepjscc", "1/192"].lost == 0
    notes = {record["note"] for record in records(tmp_path).values() if record["system"] != "deepjscc"}
    assert "nothing fits" in notes
    assert any("bytes" in note for note in notes)
