"""The command line as a user meets it: pictures, records, warnings, and one line for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from commin.cli.main import main
from commin.images import to_picture
from tests.conftest import smooth_images


def commin(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-m", "commin", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    to_picture(smooth_images(1, 200)[0]).crop((0, 0, 200, 150)).save(path)
    return path


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_transmit_leaves_pictures_and_a_record(photo: Path, codec_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    done = commin("transmit", photo, "--model", codec_file, "--bcr", "1/48", "--snr", "-5,0,9", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "warning: 9 dB is outside the trained -5..5 dB" in done.stderr
    assert "200×150, cropped to x 25..175, y 0..150" in done.stdout
    assert "k = 256, n = 12288, ρ = 1/48" in done.stdout
    records = json.loads((out / "transmit.json").read_text())
    assert [record["snr_db"] for record in records] == [-5, 0, 9]
    for record in records:
        assert record["k"] / record["n"] == 1 / 48
        assert abs(record["measured_snr_db"] - record["snr_db"]) < 1
        assert record["weights"]
    names = {path.name for path in out.iterdir()}
    assert names == {
        "photo.png", "photo.original.png", "photo.deepjscc.-5dB.png", "photo.deepjscc.+0dB.png",
        "photo.deepjscc.+9dB.png", "transmit.json",
    }  # fmt: skip
    assert Image.open(out / "photo.original.png").size == (64, 64)
    assert Image.open(out / "photo.png").width > 4 * 256


def test_same_seed_same_pixels(photo: Path, codec_file: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        commin("transmit", photo, "--model", codec_file, "--seed", seed, "-o", tmp_path / name)
    a, b, c = ((tmp_path / name / "photo.deepjscc.+0dB.png").read_bytes() for name in "abc")
    assert a == b != c


def test_other_photos_are_still_done(photo: Path, codec_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    again = tmp_path / "again"
    again.mkdir()
    (again / photo.name).write_bytes(photo.read_bytes())
    done = commin(
        "transmit",
        broken,
        photo,
        again / photo.name,
        tmp_path / "absent.jpg",
        "--model",
        codec_file,
        "-o",
        tmp_path / "out",
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(f"commin: {broken}")
    assert "absent.jpg: no such file" in done.stderr
    assert "2 of 4 photos" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "photo.png").exists()
    assert (tmp_path / "out" / "photo-1.png").exists()
    assert len(json.loads((tmp_path / "out" / "transmit.json").read_text())) == 2


def test_whole_picture_without_crop(photo: Path, codec_file: Path, tmp_path: Path) -> None:
    done = commin("transmit", photo, "--model", codec_file, "--crop", "none", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out" / "photo.deepjscc.+0dB.png").size == (200, 150)
    # 13 × 10 latent positions: the padding to multiples of 16 is paid for.
    assert json.loads((tmp_path / "out" / "transmit.json").read_text())[0]["k"] == 13 * 10 * 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--snr", "nan"], ["--snr nan", "finite"]),
        (["--snr", "inf"], ["--snr inf", "finite"]),
        (["--snr", "loud"], ["--snr loud", "not a number"]),
        (["--design-snr", "nan"], ["--design-snr nan"]),
        (["--bcr", "1/7"], ["1/768"]),
        (["--bcr", "1/96"], ["1/192, 1/48, 1/12"]),
        (["--channel", "pigeon"], ["--channel pigeon", "awgn"]),
        (["--receiver", "magic"], ["--receiver magic", "deepjscc"]),
        (["--device", "cuda:99"], ["--device cuda:99"]),
        (["--device", "toaster"], ["--device toaster"]),
        (["--equalizer", "best"], ["--equalizer best", "mmse"]),
        (["--crop", "wide"], ["--crop wide"]),
        (["-o", "/proc/nowhere"], ["-o /proc/nowhere"]),
    ],
)
def test_bad_options_are_one_line(
    photo: Path, codec_file: Path, tmp_path: Path, options: list[str], words: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Of `main` in this process, which has torch imported already."""
    command = ["commin", "transmit", photo, "--model", codec_file, "-o", tmp_path / "out", *options]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    with pytest.raises(SystemExit) as stopped:
        main()
    done = subprocess.CompletedProcess(command, int(stopped.value.code or 0), *capsys.readouterr())
    if options[0] == "--crop":  # a fault of the photo: named, then counted
        assert done.returncode == 2
        assert words[0] in done.stderr
        return
    one_line(done, *words)


def test_no_weights_is_one_line(photo: Path, tmp_path: Path) -> None:
    one_line(
        commin("transmit", photo, "--model", "absent.safetensors", "-o", tmp_path), "absent.safetensors", "no such"
    )
    one_line(commin("transmit", photo, "--model", "nobody", "-o", tmp_path), "--model nobody", "faces64")


def test_zoo_commands() -> None:
    listed = commin("zoo", "list")
    assert listed.returncode == 0
    assert "faces64-codec" in listed.stdout
    shown = commin("zoo", "show", "lpips-squeeze")
    assert "third_party: true" in shown.stdout
    assert commin("zoo", "verify").returncode == 0
    one_line(commin("zoo", "show", "nothing"), "nothing", "faces64-codec")


def test_help_names_every_command_and_imports_no_torch() -> None:
    assert {"transmit", "train", "zoo"} <= set(commin("--help").stdout.split())
    code = "import sys, commin.cli.main; print([m for m in ('torch', 'numpy', 'PIL', 'diffusers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_demo_never_needs_lpips(photo: Path, codec_file: Path, tmp_path: Path) -> None:
    done = commin(
        "transmit", photo, "--model", codec_file, "-o", tmp_path / "out",
        env={"COMMIN_WEIGHTS": "", "TORCH_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    assert "LPIPS n/a" in done.stdout
    assert json.loads((tmp_path / "out" / "transmit.json").read_text())[0]["lpips"] is None
    assert torch.__version__ in (tmp_path / "out" / "transmit.json").read_text()
