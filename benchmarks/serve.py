"""How the page's server bears hostile requests, many people at once and a restart, on loopback.

    python benchmarks/serve.py hostile --requests 1000 --out results/serve-hostile.json
    python benchmarks/serve.py load --people 20 --seconds 600 --restart --out results/serve-load.json
    python benchmarks/serve.py warm --receivers deepjscc --out results/serve-warm.json

Each starts ``commin serve`` as a process of its own on a free port. ``hostile`` sends broken, huge and forged requests
and counts the answers that are not one clear line with a status of 4xx or 503; now and then it checks that an honest
transmission still works. ``load`` lets people upload, send, poll, cancel and stay away. ``warm`` times the first page
and pictures after the click. Memory is the server's resident set, read twice a second.
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

SAMPLE = Path(__file__).parent.parent / "examples" / "astronaut.png"


class Server:
    """A ``commin serve`` of one's own."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.peak_mb, self.restarts = 0.0, 0
        self.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def start(self) -> float:
        """Seconds from the start to the first page."""
        begin = time.perf_counter()
        command = [sys.executable, "-m", "commin", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while True:
            with contextlib.suppress(OSError):
                status, _ = ask(self.port, "GET", "/")
                if status == 200:
                    return time.perf_counter() - begin
            if self.process.poll() is not None or time.perf_counter() - begin > 300:
                raise SystemExit("the server does not start")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in an orderly way."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def restart(self) -> None:
        """End it and start it again on the same port."""
        self.restarts += 1
        self.stop()
        self.start()

    @property
    def up(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def _watch(self) -> None:
        while True:
            with contextlib.suppress(OSError, StopIteration, ValueError):
                lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
                resident = next(line for line in lines if line.startswith("VmRSS"))
                self.peak_mb = max(self.peak_mb, int(resident.split()[1]) / 1024)
            time.sleep(0.5)


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 120
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def raw(port: int, content: bytes, wait: float = 30.0) -> tuple[int, bytes]:
    """Bytes that are no proper request: status (0 for a closed connection) and body of what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head.startswith(b"HTTP/") else 0), body


def transmit(port: int, task: dict[str, Any] | None = None, patience: float = 300) -> tuple[float, int]:
    """An honest visit: seconds from the click to the first picture, and the longest line that was shown."""
    status, content = ask(port, "POST", "/api/photos", SAMPLE.read_bytes(), {"Content-Type": "image/png"})
    if status != 200:
        raise RuntimeError(f"upload: {status} {content[:200]!r}")
    wanted = {"photo": json.loads(content)["photo"], "frame": {"left": 0, "top": 0, "side": 172}, **(task or {})}
    begin, ahead = time.perf_counter(), 0
    status, content = ask(port, "POST", "/api/jobs", json.dumps(wanted), {"Content-Type": "application/json"})
    if status != 202:
        raise RuntimeError(f"job: {status} {content[:200]!r}")
    job = json.loads(content)["job"]
    while time.perf_counter() - begin < patience:
        status, content = ask(port, "GET", f"/api/jobs/{job}")
        if status != 200:
            raise RuntimeError(f"poll: {status} {content[:200]!r}")
        now = json.loads(content)
        ahead = max(ahead, now["ahead"])
        if any(part["kind"] == "restored" for part in now["parts"]):
            return time.perf_counter() - begin, ahead
        if now["state"] in ("failed", "cancelled"):
            raise RuntimeError(f"{now['state']}: {now['error']}")
        time.sleep(0.05)
    raise RuntimeError("no result in time")


def bomb(side: int, promised: bool) -> bytes:
    """A small file of a huge picture; if only promised, its pixels are missing."""
    if not promised:
        buffer = io.BytesIO()
        Image.new("1", (side, side)).save(buffer, "PNG")
        return buffer.getvalue()

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6)))


def attacks(port: int, photo: str) -> dict[str, Callable[[random.Random], tuple[int, bytes]]]:
    """Hostile requests by name."""
    image, plain = {"Content-Type": "image/png"}, {"Content-Type": "application/json"}
    good = SAMPLE.read_bytes()
    paths = [
        "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/app.py", "/page/index.html", "/api/../app.py",
        "/api/jobs/..%2f..%2f..%2fetc%2fpasswd", "/file=/etc/passwd", "/api/photos/%00", "/\\etc\\passwd",
    ]  # fmt: skip
    frame = {"left": 0, "top": 0, "side": 100}
    fields: list[dict[str, Any]] = [
        {"snr_db": 1e308}, {"snr_db": None}, {"seed": -1}, {"seed": 2**80}, {"samples": 10**9}, {"bcr": "1/0"},
        {"bcr": "9" * 5000}, {"channel": "os:system"}, {"receivers": ["../x"]}, {"receivers": ["deepjscc"] * 99},
        {"frame": {**frame, "side": 1e300}}, {"frame": {**frame, "left": -1e300}}, {"photo": "../../etc/passwd"},
        {"photo": "0" * 32}, {"naturalness": "x"}, {"model": "/etc/passwd"}, {"fade": "perhaps"},
    ]  # fmt: skip

    def junk(rng: random.Random) -> tuple[int, bytes]:
        return ask(port, "POST", "/api/photos", rng.randbytes(rng.randrange(1, 200_000)), image)

    def flipped(rng: random.Random) -> tuple[int, bytes]:
        content = bytearray(good)
        for _ in range(40):
            content[rng.randrange(8, 600)] = rng.randrange(256)
        return ask(port, "POST", "/api/photos", bytes(content), image)

    def cut(rng: random.Random) -> tuple[int, bytes]:
        return ask(port, "POST", "/api/photos", good[: rng.randrange(1, len(good) - 200)], image)

    def field(rng: random.Random) -> tuple[int, bytes]:
        task = {"photo": photo, "frame": frame, **rng.choice(fields)}
        return ask(port, "POST", "/api/jobs", json.dumps(task), plain)

    def large(rng: random.Random) -> tuple[int, bytes]:
        return ask(port, "POST", "/api/photos", bytes(50_000_000), image)

    def endless(rng: random.Random) -> tuple[int, bytes]:
        def pieces() -> Iterator[bytes]:
            for _ in range(50):
                yield bytes(10**6)

        return ask(port, "POST", "/api/photos", pieces(), image)

    return {
        "junk": junk,
        "flipped": flipped,
        "cut": cut,
        "field": field,
        "50 MB": large,
        "50 MB without a length": endless,
        "bomb": lambda rng: ask(port, "POST", "/api/photos", bomb(rng.choice((7000, 9000)), False), image),
        "promised bomb": lambda rng: ask(port, "POST", "/api/photos", bomb(rng.choice((6000, 60000)), True), image),
        "path": lambda rng: ask(port, "GET", rng.choice(paths)),
        "json": lambda rng: ask(port, "POST", "/api/jobs", rng.choice((b"{", b"[" * 4000, b"\xff", b"null")), plain),
        "method": lambda rng: ask(port, rng.choice(("PUT", "PATCH", "DELETE")), "/api/jobs"),
        "kind": lambda rng: ask(port, "POST", "/api/photos", good, {"Content-Type": "multipart/form-data"}),
        "host": lambda rng: ask(port, "GET", "/", None, {"Host": "evil.example"}),
        "no request": lambda rng: raw(port, rng.randbytes(200) + b"\r\n\r\n"),
        "long header": lambda rng: raw(port, b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
        "cut upload": lambda rng: raw(port, b"\r\n".join([*CUT_UPLOAD, b"", b"x"])),
    }


CUT_UPLOAD = (
    b"POST /api/photos HTTP/1.1",
    b"Host: localhost",
    b"Content-Type: image/png",
    b"Content-Length: 9999",
)

RAW = ("no request", "long header", "cut upload")
"""These are no HTTP: a closed connection or a bare 400 is answer enough."""


def clear(name: str, status: int, body: bytes) -> bool:
    """Whether that is how a hostile request shall be answered."""
    if name in RAW:
        return status in (0, 400, 431)
    if name == "flipped" and status == 200:  # some flips only change a colour
        return True
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return 400 <= status < 500 and 0 < len(message) <= 300 and "\n" not in message and "Traceback" not in message


def hostile(options: argparse.Namespace) -> dict[str, Any]:
    server, rng = Server(), random.Random(options.seed)
    transmit(server.port)
    calm = server.peak_mb
    status, content = ask(server.port, "POST", "/api/photos", SAMPLE.read_bytes(), {"Content-Type": "image/png"})
    known = attacks(server.port, json.loads(content)["photo"])
    weights = [1 if "50 MB" in name or "bomb" in name else 5 for name in known]
    sent: Counter[str] = Counter()
    bad: list[str] = []
    checks, begin = 0, time.perf_counter()
    for number in range(options.requests):
        name = rng.choices(list(known), weights)[0]
        sent[name] += 1
        try:
            status, body = known[name](rng)
        except (OSError, http.client.HTTPException) as error:
            status, body = -1, repr(error).encode()
        if status == -1 or not clear(name, status, body):
            bad.append(f"{name}: {status} {body[:150]!r}")
        if number % 100 == 99:
            transmit(server.port)
            checks += 1
    report = {
        "requests": options.requests, "seed": options.seed, "sent": dict(sorted(sent.items())),
        "not_answered_clearly": len(bad), "examples": bad[:10], "honest_transmissions_between": checks,
        "server_up": server.up, "peak_mb": round(server.peak_mb), "peak_mb_before": round(calm),
        "seconds": round(time.perf_counter() - begin),
    }  # fmt: skip
    server.stop()
    return report


def load(options: argparse.Namespace) -> dict[str, Any]:
    server = Server()
    transmit(server.port)
    end = time.monotonic() + options.seconds
    times: list[float] = []
    lines: list[int] = []
    failures: Counter[str] = Counter()
    lock, restarting = threading.Lock(), threading.Event()
    left = 0

    def person(number: int) -> None:
        nonlocal left
        rng = random.Random(f"{options.seed} {number}")
        while time.monotonic() < end:
            task = {
                "receivers": options.receivers.split(","), "snr_db": rng.uniform(-5, 5), "seed": rng.randrange(1000),
                "fade": rng.random() < 0.5, "channel": rng.choice(("awgn", "rayleigh-fast")),
            }  # fmt: skip
            disturbed = restarting.is_set()
            try:
                if rng.random() < 0.1:  # uploads and goes away
                    ask(server.port, "POST", "/api/photos", SAMPLE.read_bytes(), {"Content-Type": "image/png"})
                    with lock:
                        left += 1
                else:
                    seconds, ahead = transmit(server.port, task)
                    with lock:
                        times.append(seconds)
                        lines.append(ahead)
            except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
                if disturbed or restarting.is_set():
                    time.sleep(0.5)
                    continue
                with lock:
                    failures[str(error)[:120]] += 1
            time.sleep(rng.uniform(0, 1))

    people = [threading.Thread(target=person, args=(number,), daemon=True) for number in range(options.people)]
    for thread in people:
        thread.start()
    early = 0.0
    middle = time.monotonic() + options.seconds / 2
    while time.monotonic() < end:
        time.sleep(min(1.0, options.seconds / 20))
        if not early and time.monotonic() > middle:
            early = server.peak_mb
            if options.restart:
                restarting.set()
                server.restart()
                time.sleep(2)
                restarting.clear()
    for thread in people:
        thread.join(timeout=330)
    times.sort()
    report = {
        "people": options.people, "seconds": options.seconds, "receivers": options.receivers, "seed": options.seed,
        "transmissions": len(times), "left": left, "failures": dict(failures), "restarts": server.restarts,
        "first_picture_seconds_median": round(times[len(times) // 2], 2) if times else None,
        "first_picture_seconds_95": round(times[int(len(times) * 0.95)], 2) if times else None,
        "longest_line_shown": max(lines, default=0), "peak_mb_first_half": round(early),
        "peak_mb": round(server.peak_mb), "server_up": server.up,
    }  # fmt: skip
    server.stop()
    return report


def warm(options: argparse.Namespace) -> dict[str, Any]:
    Server().stop()  # brings files into the page cache
    server = Server()
    server.stop()
    first = server.start()
    transmit(server.port)
    names = options.receivers.split(",")
    times = {name: sorted(transmit(server.port, {"receivers": [name]})[0] for _ in range(9))[4] for name in names}
    server.stop()
    return {
        "first_page_seconds": round(first, 2),
        "first_picture_seconds_median_of_9": {name: round(value, 3) for name, value in times.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hostile", "load", "warm"])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--restart", action="store_true", help="restart the server in the middle of the load")
    parser.add_argument("--receivers", default="deepjscc", help="separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = {"hostile": hostile, "load": load, "warm": warm}[options.what](options)
    report["threads"] = os.environ.get("OMP_NUM_THREADS", "all")
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
