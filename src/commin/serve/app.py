"""The server: the page's files, photos in, jobs in, results out. Every mistake is answered by one clear line."""

import asyncio
import secrets
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from commin.errors import UserError
from commin.images import crop_box, frame, to_tensor
from commin.serve.faces import find_faces
from commin.serve.guard import Guard, read_body
from commin.serve.line import FullError, Job, Line
from commin.serve.photos import MAX_BYTES, Shelf, open_upload, too_large
from commin.serve.pictures import data_url, image_url
from commin.serve.studio import Studio
from commin.serve.task import parse_task

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/photo.js": ("photo.js", "text/javascript; charset=utf-8"),
    "/results.js": ("results.js", "text/javascript; charset=utf-8"),
    "/sample.png": ("sample.png", "image/png"),
}
"""All files that are served, by address: no address is ever made into a path."""

PREVIEW_SIDE = 640
MAX_TASK_BYTES = 4096
UPLOAD_WAIT_SECONDS = 60.0
UPLOADS_AT_ONCE = 6
"""Together with `MAX_BYTES` this bounds the memory that uploads on their way in can take."""


class Server:
    """What the requests share: photos, the waiting line, the links."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.shelf, self.line = studio, Shelf(), Line()
        self.options = {**studio.options(), "max_bytes": MAX_BYTES}
        self.uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self.decoder = anyio.CapacityLimiter(1)

    async def get_options(self, request: Request) -> Response:
        """What the page may offer."""
        return JSONResponse(self.options)

    async def post_photo(self, request: Request) -> Response:
        """The bytes of a photo in, its name, a preview and the faces' frames out."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(415, "Send the photo's bytes as image/… or application/octet-stream.")
        async with self._upload_slot():
            content = await read_body(request, MAX_BYTES, too_large())
            answer = await anyio.to_thread.run_sync(partial(self._photo, content), limiter=self.decoder)
        return JSONResponse(answer)

    @asynccontextmanager
    async def _upload_slot(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self.uploads.acquire(), UPLOAD_WAIT_SECONDS)
        except TimeoutError:
            raise HTTPException(503, "Many photos are being uploaded; try again in a minute.") from None
        try:
            yield
        finally:
            self.uploads.release()

    def _photo(self, content: bytes) -> dict[str, Any]:
        photo = open_upload(content)
        boxes, note = [], ""
        try:
            boxes = [face.box for face in find_faces(photo)]
            if not boxes:
                note = "No face found: the middle of the photo is framed. Move the frame onto the face."
        except UserError as error:
            note = f"The middle of the photo is framed ({error})."
        preview = photo.copy()
        preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
        squares = [(box.left, box.top, box.right - box.left) for box in boxes]
        centre = crop_box(*photo.size, "centre")
        return {
            "photo": self.shelf.put(photo),
            "width": photo.width,
            "height": photo.height,
            "preview": data_url(preview, "JPEG"),
            "faces": [dict(zip(("left", "top", "side"), square, strict=True)) for square in squares],
            "centre": {"left": centre.left, "top": centre.top, "side": centre.right - centre.left},
            "note": note,
        }

    async def post_job(self, request: Request) -> Response:
        """A task in, the name of its job out."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "Send application/json.")
        task = parse_task(await read_body(request, MAX_TASK_BYTES, "The request is too large."))
        if task.bcr not in (offer["bcr"] for offer in self.options["bcrs"]):
            raise UserError(f"bcr: choose {', '.join(offer['bcr'] for offer in self.options['bcrs'])}")
        photo = self.shelf.get(task.photo)
        if photo is None:
            raise HTTPException(410, "The server does not have this photo any more; choose it again.")
        box, side = task.frame.box(*photo.size), self.studio.config.image_size
        image = to_tensor(await anyio.to_thread.run_sync(frame, photo, box, (side, side), limiter=self.decoder))
        job = self.line.submit(lambda job: self.studio.run(job, task, image))
        return JSONResponse({"job": job.name, "original": image_url(image)}, 202)

    async def get_job(self, request: Request) -> Response:
        """How far a job is, and the parts of its result from number ``have`` on."""
        job = self._job(request)
        have = request.query_params.get("have", "0")
        if not have.isascii() or not have.isdigit() or len(have) > 4:
            raise HTTPException(400, "have: a small whole number.")
        state = job.state  # read before the parts: whoever sees "done" has all of them
        done, total, label = job.steps
        return JSONResponse(
            {
                "state": state,
                "ahead": self.line.ahead(job),
                "done": done,
                "total": total,
                "label": label,
                "error": job.error,
                "parts": job.parts[int(have) :],
            }
        )

    async def delete_job(self, request: Request) -> Response:
        """Cancel."""
        job = self._job(request)
        self.line.cancel(job)
        return JSONResponse({"state": job.state})

    async def get_file(self, request: Request) -> Response:
        """A download."""
        name = request.path_params["file"]
        found = self._job(request).files.get(name)
        if found is None:
            raise HTTPException(404, "There is no such file.")
        kind, content = found
        return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    def _job(self, request: Request) -> Job:
        job = self.line.get(request.path_params["job"])
        if job is None:
            raise HTTPException(404, "The server does not know this transmission any more; send again.")
        return job


def make_app(studio: Studio, hosts: tuple[str, ...] = (), warm: bool = True) -> Starlette:
    """The application.

    Args:
        studio: the work behind it.
        hosts: names by which it may be called, so that no other site's page reaches it; empty for any.
        warm: whether to run the links once before the first visitor.
    """
    server = Server(studio)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if warm:
            server.line.submit(studio.warm_up)
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(server.line.close)

    def file_route(path: str, name: str, kind: str) -> Route:
        async def serve_file(request: Request) -> Response:
            return FileResponse(Path(__file__).parent / "page" / name, media_type=kind)

        return Route(path, serve_file)

    routes = [file_route(path, name, kind) for path, (name, kind) in PAGE.items()]
    routes += [
        Route("/api/options", server.get_options),
        Route("/api/photos", server.post_photo, methods=["POST"]),
        Route("/api/jobs", server.post_job, methods=["POST"]),
        Route("/api/jobs/{job}", server.get_job, methods=["GET"]),
        Route("/api/jobs/{job}", server.delete_job, methods=["DELETE"]),
        Route("/api/jobs/{job}/{file}", server.get_file),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={UserError: _mistake, HTTPException: _refusal, Exception: _failure},
    )
    app.state.server = server
    return app


async def _mistake(request: Request, error: Exception) -> Response:
    return _message(503 if isinstance(error, FullError) else 400, str(error))


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _message(error.status_code, error.detail, error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    number = secrets.token_hex(3)
    print(f"report {number}:", "".join(traceback.format_exception(error)), file=sys.stderr)
    return _message(500, f"Something went wrong in the server (report {number} in its log).")


def _message(status: int, text: str, headers: Any = None) -> Response:
    return JSONResponse({"error": " ".join(text.split())[:300]}, status, headers=headers)
