"""A ``commin serve`` of one's own, and an honest visitor, for ``benchmarks/serve.py``."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

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
