"""Hostile requests, and whether they are answered by one clear line, for ``benchmarks/serve.py``."""

import argparse
import http.client
import io
import json
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image
from serve_server import SAMPLE, Server, ask, raw, transmit


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
