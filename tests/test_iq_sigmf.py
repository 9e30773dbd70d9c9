"""Recordings: valid SigMF, the same samples back, whole or not at all, and one line for each thing wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commin.errors import UserError
from commin.iq.frame import Modem
from commin.iq.pulse import Complex, Pulse
from commin.iq.sigmf import RecordingWriter, open_recording

MODEM = Modem(Pulse(2, 0.35, 16), "robust", "ofdm")


def samples(count: int = 1000) -> Complex:
    return np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32).view(
        np.complex64
    ).ravel() / np.float32(10)


def write(path: Path, datatype: str = "cf32_le") -> Path:
    with RecordingWriter(path, 2e6, MODEM, datatype, 433.92e6) as writer:
        writer.write(samples()[:300])
        writer.write(samples()[300:])
        writer.annotate(600, 400, "second", {"photos": ["b.png"]})
        writer.annotate(100, 400, "first", {"photos": ["a.png"]})
    return path


@pytest.mark.parametrize(("datatype", "precision"), [("cf32_le", 0), ("ci16_le", 5e-5)])
def test_round_trip(tmp_path: Path, datatype: str, precision: float) -> None:
    recording = open_recording(write(tmp_path / "a.sigmf-meta", datatype))
    assert (recording.samples, recording.sample_rate, recording.frequency) == (1000, 2e6, 433.92e6)
    assert recording.modem == MODEM
    assert [note["core:sample_start"] for note in recording.annotations] == [100, 600]
    assert np.allclose(np.concatenate(list(recording.blocks(170))), samples(), atol=precision, rtol=0)
    assert np.allclose(
        np.concatenate(list(recording.blocks(170, 200, 555))), samples()[200:555], atol=precision, rtol=0
    )
    assert recording.complaints == []
    for name in ("a", "a.sigmf-data"):
        assert open_recording(tmp_path / name).samples == 1000


@pytest.mark.parametrize("datatype", ["cf32_le", "ci16_le"])
def test_valid_by_the_sigmf_package(tmp_path: Path, datatype: str) -> None:
    sigmf = pytest.importorskip("sigmf")
    validate = pytest.importorskip("sigmf.validate")
    path = write(tmp_path / "a.sigmf-meta", datatype)
    validate.validate(json.loads(path.read_text()))
    signal = sigmf.sigmffile.fromfile(str(path))
    signal.validate()
    assert np.allclose(signal.read_samples(), samples(), atol=5e-5)
    assert len(signal.get_annotations()) == 2


@pytest.mark.parametrize("name", ["a.cf32", "a.ci16"])
def test_raw(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert np.allclose(next(open_recording(tmp_path / name, 1e6).blocks()), samples(), atol=5e-5)
    for rate in (None, 0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="--sample-rate"):
            open_recording(tmp_path / name, rate)


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RecordingWriter(tmp_path / "a", 1e6, MODEM) as writer:
        writer.write(samples())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_clipping_is_counted(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a", 1e6, MODEM, "ci16_le", full_scale=0.1) as writer:
        writer.write(samples())
    assert writer.clipped > 300
    recording = open_recording(tmp_path / "a")
    list(recording.blocks())
    assert "full scale" in recording.complaints[0]


@pytest.mark.parametrize(("level", "told"), [(1.0, True), (3.0, False)])
def test_clipped_floats_are_told(tmp_path: Path, level: float, told: bool) -> None:
    """Values that stop at ±1 are clipped, larger ones are another scale."""
    parts = np.random.default_rng(1).standard_normal(20_000).astype(np.float32).clip(-level, level)
    parts.tofile(tmp_path / "a.cf32")
    recording = open_recording(tmp_path / "a.cf32", 1e6)
    list(recording.blocks())
    assert [("full scale" in line) for line in recording.complaints] == [True] * told


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        meta = folder / "a.sigmf-meta"
        content = json.loads(meta.read_text())
        change(content)
        meta.write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda folder: (folder / "a.sigmf-meta").unlink(), "no such file"),
        (lambda folder: (folder / "a.sigmf-data").unlink(), "data file of a.sigmf-meta"),
        (lambda folder: (folder / "a.sigmf-data").write_bytes(b""), "holds no samples"),
        (lambda folder: (folder / "a.sigmf-meta").write_bytes(b"\xff\xfe{"), "not JSON"),
        (lambda folder: (folder / "a.sigmf-meta").write_text("[1]"), "not SigMF"),
        (lambda folder: (folder / "a.sigmf-meta").write_text("[" * 100_000), "not JSON"),
        (edit(lambda c: c["global"].update({"core:datatype": "cu8"})), "'cu8' is not taken"),
        (edit(lambda c: c["global"].update({"core:datatype": ["x"]})), "is not taken"),
        (edit(lambda c: c["global"].update({"core:num_channels": 2})), "2 channels"),
        (edit(lambda c: c["global"].pop("core:sample_rate")), "no sample rate"),
        (edit(lambda c: c["global"].update({"core:sample_rate": -1})), "no sample rate"),
        (edit(lambda c: c["global"].update({"core:dataset": "../b.bin"})), "not the name of a file"),
        (edit(lambda c: c["global"].update({"core:dataset": "b.bin"})), "no such file"),
        (edit(lambda c: c["global"].update({"commin:samples_per_symbol": 3})), "even number"),
        (edit(lambda c: c["global"].update({"commin:samples_per_symbol": "4"})), "not numbers"),
        (edit(lambda c: c["global"].update({"commin:profile": "x"})), "profile x"),
        (edit(lambda c: c.update(annotations=[{"core:sample_start": "1"}])), "annotations are not"),
        (edit(lambda c: c.update(annotations=[{"core:sample_start": 10**30}])), "annotations are not"),
        (edit(lambda c: c.update(captures=3)), "captures are not"),
        (edit(lambda c: c["captures"][0].update({"core:header_bytes": 8})), "headers inside"),
    ],
)
def test_one_line_for_each_thing_wrong(tmp_path: Path, damage: Callable[[Path], object], line: str) -> None:
    write(tmp_path / "a.sigmf-meta")
    damage(tmp_path)
    with pytest.raises(UserError, match=line) as caught:
        open_recording(tmp_path / "a.sigmf-meta")
    assert "\n" not in str(caught.value)


def test_cut_short_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.sigmf-meta")
    data = tmp_path / "a.sigmf-data"
    data.write_bytes(data.read_bytes()[: 700 * 8 + 3])
    recording = open_recording(tmp_path / "a")
    assert sum(map(len, recording.blocks())) == 700
    assert len(recording.complaints) == 2
    assert all("cut short" in line for line in recording.complaints)


def test_shrinking_while_it_is_read(tmp_path: Path) -> None:
    recording = open_recording(write(tmp_path / "a.sigmf-meta"))
    blocks = recording.blocks(100)
    next(blocks)
    shutil.copy(recording.data, tmp_path / "b")
    recording.data.write_bytes((tmp_path / "b").read_bytes()[:2000])
    list(blocks)
    assert any("while it was read" in line for line in recording.complaints)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), RecordingWriter(tmp_path / "file" / "a", 1e6, MODEM):
        pass
    with pytest.raises(UserError, match="datatype"):
        RecordingWriter(tmp_path / "a", 1e6, MODEM, "cu8")
    with pytest.raises(UserError, match="sample rate"):
        RecordingWriter(tmp_path / "a", 0, MODEM)
