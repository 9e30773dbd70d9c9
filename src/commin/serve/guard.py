"""What stands before every request: whom the server answers, how much it reads, and what a page of it may load."""

import asyncio
import time

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""The page loads nothing from anywhere else, and no other site may show or read it."""

UPLOAD_SECONDS = 60.0
"""An upload must be through by then."""

DRAINED = 5
"""Times the limit that is read and thrown away, so that whoever sends too much still gets to read why."""


class Guard:
    """Middleware: refuses requests for another host's name, and adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] = ()) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self.hosts and _host(scope) not in self.hosts:
            refusal = JSONResponse({"error": "This server does not answer to that name; see --host."}, 421)
            await refusal(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)


def _host(scope: Scope) -> str:
    """The name a request asks for, without its port."""
    value = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    return value[: value.find("]") + 1] if value.startswith("[") else value.partition(":")[0]


async def read_body(request: Request, limit: int, message: str) -> bytes:
    """The body of a request, at most ``limit`` bytes of it in memory.

    Raises:
        HTTPException: 413 with the message if it is longer, 408 if it takes longer than `UPLOAD_SECONDS`.
    """
    begin, body, size = time.monotonic(), bytearray(), 0
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > DRAINED * limit):
        raise HTTPException(413, message, {"Connection": "close"})
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    body += chunk
                elif size > DRAINED * limit:
                    break
    except TimeoutError:
        raise HTTPException(408, f"The upload took longer than {time.monotonic() - begin:.0f} s.") from None
    except ClientDisconnect:
        raise HTTPException(400, "The upload was cut short.") from None
    if size > limit:
        raise HTTPException(413, message, {"Connection": "close"} if size > DRAINED * limit else None)
    return bytes(body)
