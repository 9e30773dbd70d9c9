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
import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serve_hostile import hostile
from serve_server import SAMPLE, Server, ask, transmit


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
