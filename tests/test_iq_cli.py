"""Photo → samples → air → photo through the commands; each thing wrong is one line."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from commin.cli.channel import channel
from commin.cli.decode import decode
from commin.cli.encode import encode
from commin.cli.listen import listen
from commin.errors import UserError
from commin.images import save_picture, to_picture
from commin.iq.sigmf import open_recording
from tests.conftest import smooth_images

app = typer.Typer()
for command in (encode, channel, decode, listen):
    app.command()(command)


def run(*words: object) -> str:
    """Standard output of a command that works."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def complaint(*words: object) -> str:
    """The one line of a command that cannot work."""
    with pytest.raises(UserError) as caught:
        run(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, smooth_images(3, 80), strict=True):
        save_picture(to_picture(image), path)
    return paths


@pytest.fixture
def sent(tmp_path: Path, photos: list[Path], codec_file: Path) -> Path:
    run("encode", *photos, "-o", tmp_path / "tx.sigmf-meta", "--model", codec_file, "--per-frame", 2)
    return tmp_path / "tx.sigmf-meta"


def pictures(folder: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))}


def test_encode_says_what_it_costs(tmp_path: Path, photos: list[Path], codec_file: Path) -> None:
    said = run("encode", *photos, "-o", tmp_path / "tx", "--model", codec_file, "--bcr", "1/192")
    assert "3 pictures, 192 of 598 symbols payload" in said
    assert "ρ = 0.00521 payload" in said
    assert "PAPR" in said
    (note,) = open_recording(tmp_path / "tx").annotations
    assert note["commin:photos"] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("waveform", ["single", "ofdm"])
@pytest.mark.parametrize("datatype", ["cf32_le", "ci16_le"])
def test_there_and_back(tmp_path: Path, photos: list[Path], codec_file: Path, datatype: str, waveform: str) -> None:
    """At 30 dB the pictures are those that come back without noise, whatever else happens."""
    tx, rx = tmp_path / "tx.sigmf-meta", tmp_path / "rx.sigmf-meta"
    options = ["--datatype", datatype, "--waveform", waveform, "--profile", "robust"]
    run("encode", *photos, "-o", tx, "--model", codec_file, "--per-frame", 2, *options)
    run("decode", tx, "-o", tmp_path / "clean", "--model", codec_file)
    impairments = ["--snr", 30, "--delay", 100.3, "--frequency-offset", 900, "--ppm", 5, "--seed", 1]
    run("channel", tx, "-o", rx, *impairments)
    said = run("decode", rx, "-o", tmp_path / "noisy", "--model", codec_file)
    assert "3 pictures of 2 frames" in said
    clean, noisy = pictures(tmp_path / "clean"), pictures(tmp_path / "noisy")
    assert list(clean) == list(noisy) == ["0000-00.png", "0000-01.png", "0001-00.png"]
    for name, picture in clean.items():
        assert np.mean(np.abs(picture - noisy[name])) < 4
    records = [json.loads(line) for line in (tmp_path / "noisy" / "frames.jsonl").read_text().splitlines()]
    assert [record["files"] for record in records] == [["0000-00.png", "0000-01.png"], ["0001-00.png"]]
    assert records[0]["frequency_hz"] == pytest.approx(900, abs=30)
    assert records[0]["bcr_frame"] > records[0]["bcr_payload"] == pytest.approx(1 / 48)


def test_several_receivers_and_an_unknown_one(tmp_path: Path, photos: list[Path]) -> None:
    """A file for each receiver; a name that is none is refused before a sample is read."""
    run("encode", photos[0], "-o", tmp_path / "tx")
    run("decode", tmp_path / "tx", "-o", tmp_path / "out", "--receiver", "deepjscc,commin-fast")
    assert list(pictures(tmp_path / "out")) == ["0000-00.commin-fast.png", "0000-00.deepjscc.png"]
    assert "--receiver magic: unknown" in complaint("decode", tmp_path / "tx", "-o", tmp_path, "--receiver", "magic")


def test_decoding_needs_no_annotations(tmp_path: Path, sent: Path, codec_file: Path) -> None:
    run("channel", sent, "-o", tmp_path / "rx.cf32", "--snr", 5, "--fading", "block", "--seed", 8)
    said = run("decode", tmp_path / "rx.cf32", "--sample-rate", 1e6, "-o", tmp_path / "out", "--model", codec_file)
    assert "frame 0" in said


def test_channel_sets_the_snr(tmp_path: Path, sent: Path) -> None:
    run("channel", sent, "-o", tmp_path / "rx", "--snr", 3)
    transmitted, received = (
        np.concatenate(list(open_recording(path).blocks())) for path in (sent, tmp_path / "rx.sigmf-meta")
    )
    notes = open_recording(sent).annotations
    inside = np.concatenate(
        [transmitted[n["core:sample_start"] : n["core:sample_start"] + n["core:sample_count"]] for n in notes]
    )
    noise = received[: len(transmitted)] - transmitted
    assert 10 * np.log10(4 * np.mean(np.abs(inside) ** 2) / np.mean(np.abs(noise) ** 2)) == pytest.approx(3, abs=0.15)
    assert [n["core:sample_start"] for n in open_recording(tmp_path / "rx").annotations] == [
        n["core:sample_start"] for n in notes
    ]


def test_listen(tmp_path: Path, sent: Path, codec_file: Path) -> None:
    zmq = pytest.importorskip("zmq")
    socket = zmq.Context.instance().socket(zmq.PUB)
    address = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
    content = np.concatenate(list(open_recording(sent).blocks())).tobytes()

    def publish() -> None:
        time.sleep(0.5)
        for start in range(0, len(content), 12_345):
            socket.send(content[start : start + 12_345])

    thread = threading.Thread(target=publish)
    thread.start()
    said = run("listen", "--zmq", address, "-o", tmp_path / "out", "--model", codec_file, "--quiet", 3)
    thread.join()
    socket.close(linger=0)
    assert "3 pictures of 2 frames" in said
    assert len(pictures(tmp_path / "out")) == 3


def test_lines_for_what_is_wrong(tmp_path: Path, photos: list[Path], sent: Path, codec_file: Path) -> None:
    out = ["-o", tmp_path / "out"]
    assert "no such file" in complaint("decode", tmp_path / "none.sigmf-meta", *out)
    assert "--sample-rate" in complaint("decode", tmp_path / "none.cf32", *out)
    assert "--crop none" in complaint("encode", *photos, *out, "--model", codec_file, "--crop", "none")
    assert "no ρ = 1/24" in complaint("encode", *photos, *out, "--model", codec_file, "--bcr", "1/24")
    assert "design SNR" in complaint("encode", *photos, *out, "--model", codec_file, "--design-snr", 40)
    assert "--clip" in complaint("encode", *photos, *out, "--model", codec_file, "--clip", -1)
    assert "fading" in complaint("channel", sent, *out, "--fading", "slow")
    assert "--taps" in complaint("channel", sent, *out, "--taps", "x")
    (tmp_path / "noise.cf32").write_bytes(np.random.default_rng(0).standard_normal(100_000, np.float32).tobytes())
    assert "no frame was found" in complaint("decode", tmp_path / "noise.cf32", "--sample-rate", 1e6, *out)
    assert not list(tmp_path.glob("out.sigmf*"))


def test_frames_of_another_model(tmp_path: Path, sent: Path, codec_file: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(codec_file.read_bytes())
    assert "2 frames were lost" in complaint("decode", sent, "-o", tmp_path / "out", "--model", other)
    records = [json.loads(line) for line in (tmp_path / "out" / "frames.jsonl").read_text().splitlines()]
    assert all("model id" in record["lost"] for record in records)
