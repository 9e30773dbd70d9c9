"""Listen: a socket, the application behind it, and an orderly end."""

import contextlib
import socket

import torch
import uvicorn

from commin.errors import UserError
from commin.serve.app import make_app
from commin.serve.studio import Studio

CONNECTIONS = 256
"""More at a time are answered 503."""

LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")
"""This machine's names for itself."""


def run(host: str, port: int, model: str, device: torch.device) -> None:
    """Serve until interrupted.

    Raises:
        UserError: the address cannot be listened on, or there is no such model.
    """
    listening = _listen(host, port)
    studio = Studio(model, device)
    local = host in LOCAL
    app = make_app(studio, LOCAL if local else ())
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=10,
        timeout_graceful_shutdown=3, h11_max_incomplete_event_size=16384, server_header=False, ws="none",
    )  # fmt: skip
    shown = f"[{host}]" if ":" in host else host
    print(f"The page is at http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    if not local:
        print("Everybody who reaches this address can use it; there is no password.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(256)
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port") from None
    return listening
