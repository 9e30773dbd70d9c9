"""Damaged recordings: a picture, a named loss or one line, never a traceback and never a hang."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commin.cli.decode import decode
from commin.errors import UserError
from commin.iq.frame import Modem, frame_samples
from commin.iq.header import model_id
from commin.iq.impairments import Impairments
from commin.iq.sigmf import RecordingWriter
from tests.test_iq_frame import HEADER, payload
from tests.test_iq_receive import air, silence

EXAMPLES = int(os.environ.get("COMMIN_CORRUPTIONS", "40"))
quick = settings(
    max_examples=EXAMPLES,
    deadline=60_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

flips = st.lists(st.tuples(st.floats(0, 0.999999), st.integers(0, 7)), max_size=30)


@pytest.fixture(scope="module", params=["cf32_le", "ci16_le"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, codec_file: Path) -> Path:
    path, header = (
        tmp_path_factory.mktemp("original") / "a.sigmf-meta",
        replace(HEADER, model=model_id(codec_file.stem)),
    )
    sent = np.concatenate([silence(300), frame_samples(header, payload(header), Modem()), silence(300)])
    with RecordingWriter(path, 1e6, Modem(), request.param, 1e9) as writer:
        writer.annotate(300, len(sent) - 600, "frame", {"photos": ["a.png"]})
        writer.write(np.float32(0.1) * air(sent, Impairments(5.0, seed=1)))
    return path


def read(path: Path, codec_file: Path) -> None:
    """``commin decode``, pictures and all; only a `UserError` of one line may come out."""
    try:
        decode(path, path.parent / "out", model=str(codec_file), threads=1)
    except UserError as error:
        if "\n" in str(error):
            pytest.fail(str(error))


def test_undamaged(original: Path, tmp_path: Path, codec_file: Path) -> None:
    decode(original, tmp_path, model=str(codec_file), threads=1)
    assert len(list(tmp_path.glob("*.png"))) == 4


def damaged(content: bytes, where: list[tuple[float, int]], left: float) -> bytes:
    changed = bytearray(content)
    for place, bit in where:
        changed[int(place * len(changed))] ^= 1 << bit
    return bytes(changed[: round(left * len(changed))])


@given(where=flips, left=st.one_of(st.just(1.0), st.floats(0, 1)))
@quick
def test_damaged_data(
    original: Path, tmp_path: Path, codec_file: Path, where: list[tuple[float, int]], left: float
) -> None:
    (tmp_path / "a.sigmf-meta").write_bytes(original.read_bytes())
    data = original.with_suffix(".sigmf-data").read_bytes()
    (tmp_path / "a.sigmf-data").write_bytes(damaged(data, where, left))
    read(tmp_path / "a.sigmf-meta", codec_file)


@given(where=flips, left=st.one_of(st.just(1.0), st.floats(0, 1)))
@quick
def test_damaged_meta(
    original: Path, tmp_path: Path, codec_file: Path, where: list[tuple[float, int]], left: float
) -> None:
    (tmp_path / "a.sigmf-meta").write_bytes(damaged(original.read_bytes(), where, left))
    (tmp_path / "a.sigmf-data").write_bytes(original.with_suffix(".sigmf-data").read_bytes()[:80])
    read(tmp_path / "a.sigmf-meta", codec_file)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("core:datatype", "core:sample_rate", "core:num_channels", "core:dataset", "commin:samples_per_symbol",
        "commin:rolloff", "commin:span", "commin:profile", "commin:waveform")  # fmt: skip


@given(key=st.sampled_from((*KEYS, "captures", "annotations", "global")), value=json_values)
@quick
def test_any_value_anywhere_in_the_meta_file(
    original: Path, tmp_path: Path, codec_file: Path, key: str, value: object
) -> None:
    content = json.loads(original.read_text())
    if key in KEYS:
        content["global"][key] = value
    elif key == "global":
        content[key] = value
    else:
        content[key] = [{"core:sample_start": value, "core:sample_count": value, "core:frequency": value}]
    (tmp_path / "a.sigmf-meta").write_text(json.dumps(content))
    (tmp_path / "a.sigmf-data").write_bytes(original.with_suffix(".sigmf-data").read_bytes()[:80])
    read(tmp_path / "a.sigmf-meta", codec_file)
