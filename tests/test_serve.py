"""The page's server: what it offers, what it answers to good and to hostile requests, and its waiting line."""

import io
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from commin.errors import UserError
from commin.units import capacity_bits
from tests.serving import EXAMPLE, example_in_a_photo, offer_slow, photo_bytes

pytest.importorskip("starlette", reason="the extra serve is not installed")
testing = pytest.importorskip("starlette.testclient")

from commin.serve.app import PAGE, make_app  # noqa: E402
from commin.serve.guard import DRAINED  # noqa: E402
from commin.serve.line import CANCELLED, DONE, FAILED, FullError, Job, Line  # noqa: E402
from commin.serve.photos import MAX_BYTES, Shelf, open_upload  # noqa: E402
from commin.serve.pictures import MAP_TOP, heat  # noqa: E402
from commin.serve.studio import Studio  # noqa: E402
from commin.serve.task import FADE_DB, parse_task  # noqa: E402

FRAME = {"left": 25, "top": 0, "side": 150}


@pytest.fixture
def client(codec_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    offer_slow(monkeypatch)
    with testing.TestClient(make_app(Studio(str(codec_file)), warm=False), raise_server_exceptions=False) as client:
        yield client


def upload(client: Any, content: bytes, kind: str = "image/png") -> Any:
    return client.post("/api/photos", content=content, headers={"Content-Type": kind})


def send(client: Any, **task: Any) -> Any:
    photo = task.pop("photo", None) or upload(client, photo_bytes()).json()["photo"]
    return client.post("/api/jobs", json={"photo": photo, "frame": FRAME, **task})


def finished(client: Any, job: str) -> dict[str, Any]:
    for _ in range(1500):
        answer: dict[str, Any] = client.get(f"/api/jobs/{job}").json()
        if answer["state"] not in ("waiting", "running"):
            return answer
        time.sleep(0.02)
    raise AssertionError("the job does not end")


def refused(answer: Any, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]
    assert "\n" not in message
    assert len(message) <= 300
    assert all(word in message for word in words), message


def test_the_page_and_its_files_come_with_a_policy(client: Any) -> None:
    for address, (_, kind) in PAGE.items():
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind.partition(";")[0])
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_nothing_on_the_page_is_from_elsewhere() -> None:
    import commin.serve

    folder = Path(str(commin.serve.__file__)).parent / "page"
    for name in ("index.html", "page.css", "page.js", "photo.js", "results.js"):
        text = (folder / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "innerHTML" not in text


def test_options_tell_which_receivers_draw_and_which_have_naturalness(client: Any) -> None:
    options = client.get("/api/options").json()
    assert [(offer["bcr"], offer["k"]) for offer in options["bcrs"]] == [("1/192", 64), ("1/48", 256), ("1/12", 1024)]
    offered = {receiver["name"]: receiver for receiver in options["receivers"]}
    assert list(offered) == ["deepjscc", "commin-fast"]
    assert not offered["deepjscc"]["samples"]
    assert offered["commin-fast"]["samples"]
    assert offered["commin-fast"]["naturalness"]


def test_a_transmission_gives_pictures_symbols_records_and_fades(client: Any) -> None:
    begun = send(client, receivers=["deepjscc", "commin-fast"], samples=3, snr_db=5.0, fade=True)
    assert begun.status_code == 202
    done = finished(client, begun.json()["job"])
    assert done["state"] == "done", done["error"]
    kinds = [part["kind"] for part in done["parts"]]
    assert kinds == ["symbols", "restored", "restored", "files", "fade", "fade"]
    symbols, plain, drawn = done["parts"][:3]
    assert len(symbols["received"]) == len(symbols["sent"]) == symbols["k"] == 256
    assert symbols["ideal_bits"] == round(capacity_bits(256, 5.0))
    assert abs(symbols["measured_snr_db"] - 5) < 1.5
    assert plain["record"]["system"] == "deepjscc"
    assert plain["record"]["bcr"] == "1/48"
    assert plain["record"]["weights"]
    assert "samples" not in plain
    assert len(drawn["samples"]) == 3
    assert drawn["spread"]["picture"].startswith("data:image/png;base64,")
    assert 0 < drawn["spread"]["mean"] < drawn["error"]["mean"] < 1
    assert [step["snr_db"] for step in done["parts"][4]["steps"]] == list(FADE_DB)
    rest = client.get(f"/api/jobs/{begun.json()['job']}?have=4").json()
    assert [part["kind"] for part in rest["parts"]] == ["fade", "fade"]
    files = f"/api/jobs/{begun.json()['job']}"
    assert Image.open(io.BytesIO(client.get(f"{files}/commin.png").content)).width > 700
    records = json.loads(client.get(f"{files}/commin.json").content)
    assert [record["system"] for record in records] == ["deepjscc", "commin-fast"]


def test_the_page_shows_what_the_link_gives(client: Any, codec_file: Path) -> None:
    import base64

    import commin
    from commin.images import Box, frame, to_picture, to_tensor

    done = finished(client, send(client, snr_db=-3.0, seed=7).json()["job"])
    photo = open_upload(photo_bytes())
    image = to_tensor(frame(photo, Box(25, 0, 175, 150), (64, 64)))
    expected = to_picture(commin.load(str(codec_file)).transmit(image[None], -3.0, seed=7).images[0])
    shown = base64.b64decode(done["parts"][1]["picture"].partition(",")[2])
    assert Image.open(io.BytesIO(shown)).tobytes() == expected.tobytes()


def test_ideal_bits_follow_the_gains_of_a_fading_channel(client: Any) -> None:
    awgn = finished(client, send(client).json()["job"])["parts"][0]["ideal_bits"]
    seeds = [finished(client, send(client, channel="rayleigh-fast", seed=s).json()["job"]) for s in range(3)]
    for done in seeds:
        assert 0.6 * awgn < done["parts"][0]["ideal_bits"] < 1.05 * awgn  # Jensen: fading costs capacity


def test_naturalness_reaches_the_receiver_and_is_not_remembered(client: Any) -> None:
    photo = upload(client, photo_bytes()).json()["photo"]
    pictures = []
    for naturalness in (None, 0.0, 0.9, None):
        job = send(client, photo=photo, receivers=["commin-fast"], naturalness=naturalness).json()["job"]
        pictures.append(finished(client, job)["parts"][1]["picture"])
    assert pictures[0] == pictures[3]
    assert len(set(pictures)) == 3


def test_a_face_in_the_photo_is_offered_as_a_frame(client: Any) -> None:
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    buffer = io.BytesIO()
    example_in_a_photo().save(buffer, "JPEG", quality=95)
    answer = upload(client, buffer.getvalue(), "image/jpeg").json()
    assert len(answer["faces"]) == 1
    assert 400 <= answer["faces"][0]["left"] + answer["faces"][0]["side"] / 2 <= 572
    assert answer["note"] == ""
    assert "middle" in upload(client, photo_bytes()).json()["note"]


def bomb() -> bytes:
    """A PNG of a few kB whose header promises 60,000×60,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def large_flat() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 not a picture", "not a photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not a photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a photo"),
        (photo_bytes()[:3000], "damaged or cut short"),
        (photo_bytes(8, 8), "at least 16×16"),
        (bomb(), "million pixels"),
        (large_flat(), "81 million pixels"),
    ],
)
def test_what_is_no_photo_gets_one_clear_line(client: Any, content: bytes, words: str) -> None:
    refused(upload(client, content), 400, words)


def test_too_many_bytes_are_refused_with_and_without_a_length(client: Any) -> None:
    refused(upload(client, bytes(MAX_BYTES + 1)), 413, "larger than 20 MB")

    def pieces() -> Iterator[bytes]:
        for _ in range(25):
            yield bytes(10**6)

    answer = client.post("/api/photos", content=pieces(), headers={"Content-Type": "image/png"})
    refused(answer, 413, "larger than 20 MB")
    claimed = {"Content-Type": "image/png", "Content-Length": str(DRAINED * MAX_BYTES + 1)}
    refused(client.post("/api/photos", content=b"x", headers=claimed), 413)


@pytest.mark.parametrize(
    "address",
    [
        "/../pyproject.toml", "/..%2f..%2fetc%2fpasswd", "/page.css/../app.py", "/%2e%2e/app.py", "/app.py",
        "/static/index.html", "/api/jobs/..%2f..%2fetc", "/api/photos/etc/passwd", "//etc/passwd", "/\\..\\app.py",
    ],
)  # fmt: skip
def test_no_address_is_a_path(client: Any, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code in (404, 405)
    assert b"root:" not in answer.content
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photo": "../../etc/passwd"}, "photo"),
        ({"bcr": "1/7"}, "1/192, 1/48, 1/12"),
        ({"bcr": "../x"}, "bcr"),
        ({"snr_db": 1e9}, "snr_db"),
        ({"snr_db": "NaN"}, "snr_db"),
        ({"channel": "os:system"}, "channel: choose awgn"),
        ({"receivers": ["deepjscc", "os.system"]}, "receivers: unknown receiver"),
        ({"receivers": []}, "receivers"),
        ({"samples": 10**6}, "samples"),
        ({"naturalness": 2}, "naturalness"),
        ({"seed": -1}, "seed"),
        ({"frame": {"left": 0, "top": 0, "side": 1e9}}, "frame"),
        ({"frame": {"left": 1e5, "top": 0, "side": 100}}, "frame"),
        ({"frame": {"left": 0, "top": 0, "side": -5}}, "frame.side"),
        ({"model": "/etc/passwd"}, "model"),
    ],
)
def test_a_task_that_cannot_be_is_refused(client: Any, change: dict[str, Any], words: str) -> None:
    refused(send(client, **change), 400, words)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"frame":' + b"[" * 2000, b"\xff\xfe", b'{"seed": 1e400}']
)
def test_a_body_that_is_no_task_is_refused(client: Any, body: bytes) -> None:
    refused(client.post("/api/jobs", content=body, headers={"Content-Type": "application/json"}), 400)


def test_other_refusals(client: Any) -> None:
    json_kind = {"Content-Type": "application/json"}
    refused(client.post("/api/jobs", content=b"x" * 5000, headers=json_kind), 413, "too large")
    refused(client.post("/api/jobs", content=b"{}", headers={"Content-Type": "text/plain"}), 415, "application/json")
    refused(upload(client, photo_bytes(), "multipart/form-data; boundary=x"), 415, "image/")
    refused(send(client, photo="0" * 32), 410, "choose it again")
    refused(client.get("/api/jobs/" + "0" * 32), 404, "send again")
    refused(client.delete("/api/jobs/nothing"), 404)
    job = send(client).json()["job"]
    refused(client.get(f"/api/jobs/{job}?have=-1"), 400, "have")
    refused(client.get(f"/api/jobs/{job}/passwd"), 404)
    refused(client.put("/api/jobs"), 405)


def test_only_this_machines_names_are_answered(codec_file: Path) -> None:
    app = make_app(Studio(str(codec_file)), hosts=("127.0.0.1", "localhost", "[::1]"), warm=False)
    with testing.TestClient(app, base_url="http://127.0.0.1:7860") as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"Host": "[::1]:7860"}).status_code == 200
        refused(client.get("/", headers={"Host": "evil.example:7860"}), 421)


def test_memory_of_photos_is_bounded() -> None:
    shelf = Shelf(limit=3 * 100 * 100 * 5)
    names = [shelf.put(Image.new("RGB", (100, 100))) for _ in range(20)]
    assert shelf.size <= shelf.limit
    assert shelf.get(names[-1]) is not None
    assert shelf.get(names[0]) is None


def test_colours_of_a_map() -> None:
    colours = heat(torch.tensor([[0.0, MAP_TOP / 2, MAP_TOP, 9.0]]))
    brightness = colours.mean(0)[0]
    assert (brightness.diff() >= 0).all()
    assert torch.equal(colours[:, 0, 2], colours[:, 0, 3])


def test_parse_task_takes_defaults() -> None:
    task = parse_task(json.dumps({"photo": "a" * 32, "frame": FRAME, "receivers": ["deepjscc", "deepjscc"]}).encode())
    assert task.receivers == ("deepjscc",)
    with pytest.raises(UserError, match="photo"):
        parse_task(b"{}")


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(limit=3, kept=2, patience=0.3)
    yield made
    made.close()


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come true")


def endless(job: Job) -> None:
    while True:
        job.report(1, 2, "endless")
        time.sleep(0.005)


def test_the_line_tells_positions_and_is_bounded(line: Line) -> None:
    first = line.submit(endless)
    until(lambda: first.state == "running")
    rest = [line.submit(endless) for _ in range(3)]
    assert [line.ahead(job) for job in [first, *rest]] == [0, 1, 2, 3]
    with pytest.raises(FullError, match="waiting already"):
        line.submit(endless)
    line.cancel(rest[0])
    assert rest[0].state == CANCELLED
    assert line.ahead(rest[1]) == 1


def test_a_running_job_is_cancelled_and_the_next_one_runs(line: Line) -> None:
    first, second = line.submit(endless), line.submit(lambda job: job.publish({"kind": "x"}))
    until(lambda: first.state == "running")
    line.cancel(first)
    until(lambda: second.state == DONE)
    assert first.state == CANCELLED
    assert second.parts == [{"kind": "x"}]


def test_a_job_whose_page_is_gone_is_given_up(line: Line) -> None:
    first, second = line.submit(endless), line.submit(endless)
    until(lambda: first.state == CANCELLED)
    until(lambda: second.state == CANCELLED)


def test_a_failing_job_says_why_and_the_line_goes_on(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(job: Job) -> None:
        raise UserError("the weights are not here")

    def broken(job: Job) -> None:
        raise RuntimeError("secret path")

    jobs = [line.submit(wrong), line.submit(broken)]
    until(lambda: all(job.state == FAILED for job in jobs))
    assert jobs[0].error == "the weights are not here"
    assert "secret" not in jobs[1].error
    assert "RuntimeError" in jobs[1].error
    capsys.readouterr()


def test_the_sample_is_the_example() -> None:
    import commin.serve

    assert (Path(str(commin.serve.__file__)).parent / "page" / "sample.png").read_bytes() == EXAMPLE.read_bytes()


def test_a_port_in_use_is_one_line() -> None:
    import socket
    import subprocess
    import sys

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "commin", "serve", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--port" in done.stderr
