"""`POST /read`: a photograph in the body, its reading as JSON in the answer, for programs in any language.

The body is the image file itself (JPEG, PNG, TIFF, ...), at most `LARGEST_FILE` bytes, with a Content-Length. The
answer is the object that `medtex-edge run --readings` writes; `?saliency=1` adds "saliency": rows of numbers in 0..1
over the field of view, or null. An ungradable photograph is an answer too. Errors are JSON: {"error": {"expected":
..., "got": ..., "next": ...}}. No picture is kept, and nothing of a request is logged.

The live run is not disturbed: an inference session of its own, on one core, reads one photograph at a time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from medtex_edge.bundle import Bundle
from medtex_edge.errors import ImageError, MedtexError
from medtex_edge.image.header import HeaderError, read_header
from medtex_edge.image.photo import decode_photo
from medtex_edge.runtime.backend import Backend, onnxruntime
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.photo_reader import PhotoReader
from medtex_edge.runtime.web.access import AccessPolicy

PATH = "/read"
LARGEST_FILE = 32 << 20  # bytes
MOST_PIXELS = 50_000_000  # fundus cameras stay below; a board has to hold the picture twice
MOST_REQUESTS = 3  # one that is read, two that wait
UPLOAD_S = 30.0  # for the whole body
SOURCE = "POST /read"  # what a reading names as its source
_TYPES = ("application/octet-stream", "application/x-www-form-urlencoded")  # the second is what curl sends unasked
_CURL = "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' ADDRESS/read"


class Refused(Exception):
    """A request that gets no reading, with the answer that says why."""

    def __init__(self, status: int, expected: str, got: str, next_step: str, **headers: str) -> None:
        super().__init__(expected)
        self.response = refusal(status, expected, got, next_step, **headers)


def refusal(status: int, expected: str, got: str, next_step: str, **headers: str) -> Response:
    """An error as JSON: what was expected, what came, what to do next."""
    error = {"error": {"expected": expected, "got": got, "next": next_step}}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(error, status, {"Cache-Control": "no-store", **names})


async def not_served(request: Request, error: Exception) -> Response:
    """The answer to another method or address: JSON where an upload was meant, a line of text elsewhere."""
    assert isinstance(error, HTTPException)
    if request.url.path.rstrip("/") != PATH:
        return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)
    answer = refusal(error.status_code, f"POST {PATH}", f"{request.method} {request.url.path}", _CURL)
    answer.headers.update({**(error.headers or {}), "Connection": "close"})
    return answer


class UploadReader:
    """Answers `POST /read` from the page's loop. `close` gives back the session, which the first request opens."""

    def __init__(self, bundle: Bundle, sha256: str, policy: AccessPolicy) -> None:
        self._bundle, self._sha256, self._policy = bundle, sha256, policy
        self._requests = 0
        self._turn: asyncio.Lock | None = None
        self._opening = threading.Lock()
        self._backend: Backend | None = None
        self._reader: PhotoReader | None = None

    async def answer(self, request: Request) -> Response:
        """The reading of the photograph in the body, or why there is none."""
        try:
            self._check_head(request)
            with_saliency = _flag(request, "saliency")
            if self._requests >= MOST_REQUESTS:
                raise Refused(
                    503, f"at most {MOST_REQUESTS} photographs at a time", "one more", "send it again in a second",
                    Retry_After="1",
                )  # fmt: skip
            self._requests += 1
            try:
                return await self._read(request, with_saliency)
            finally:
                self._requests -= 1
        except Refused as refused:
            # The rest of a body that was not read would be taken for the next request.
            refused.response.headers["Connection"] = "close"
            return refused.response

    def close(self) -> None:
        """Give back the inference session."""
        with self._opening:
            if self._backend is not None:
                self._backend.close()

    def _check_head(self, request: Request) -> None:
        """What can be refused before the body is read."""
        if not self._policy.allows(request.headers):
            raise Refused(
                401, "the token", "none, or another one", "send the header Authorization: Bearer TOKEN",
                WWW_Authenticate="Bearer",
            )  # fmt: skip
        kind = request.headers.get("content-type", _TYPES[0]).partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind not in _TYPES:
            raise Refused(415, "an image file as the body", f"Content-Type {kind[:100]}", _CURL)
        length = request.headers.get("content-length")
        if length is None or not length.isdecimal():
            raise Refused(411, "a Content-Length", "none", _CURL)
        if not 0 < int(length) <= LARGEST_FILE:
            raise Refused(
                413 if int(length) else 422, f"1 to {LARGEST_FILE} bytes", f"{length} bytes",
                "send a smaller file, such as a JPEG" if int(length) else _CURL,
            )  # fmt: skip

    async def _read(self, request: Request, with_saliency: bool) -> Response:
        try:
            data = await asyncio.wait_for(_body(request), UPLOAD_S)
        except asyncio.TimeoutError:
            raise Refused(408, f"the whole body within {UPLOAD_S:.0f} s", "a part of it", "send it again") from None
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        _check_size(data)
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            return await asyncio.to_thread(self._answer, data, with_saliency)

    def _answer(self, data: bytes, with_saliency: bool) -> Response:
        """In a thread of its own: decode, read, encode."""
        began = time.monotonic()
        try:
            image = decode_photo(data, "the body")
        except ImageError as error:
            raise Refused(422, "a photograph that can be decoded", error.message, error.hint or _CURL) from None
        try:
            reader = self._opened()
            reading, _ = reader.read(image, SOURCE, (time.monotonic() - began) * 1e3)
        except MedtexError as error:
            raise Refused(
                500, "a reading", error.message, error.hint or "run `medtex-edge verify` on the device"
            ) from error
        row: dict[str, Any] = reading.to_json(self._bundle.contract, self._sha256)
        if with_saliency:
            saliency = reading.saliency
            row["saliency"] = None if saliency is None else [[round(float(v), 4) for v in line] for line in saliency]
        return JSONResponse(row, headers={"Cache-Control": "no-store"})

    def _opened(self) -> PhotoReader:
        with self._opening:
            if self._reader is None:
                backend = onnxruntime.open(self._bundle, precision="fp32", threads=1)
                try:
                    check_golden(backend, self._bundle, "fp32")
                except MedtexError:
                    backend.close()
                    raise
                self._backend, self._reader = backend, PhotoReader(backend, self._bundle.contract)
            return self._reader


def _flag(request: Request, name: str) -> bool:
    """Whether the address has `NAME=1`."""
    value = request.query_params.get(name, "0")
    if value not in ("0", "1"):
        raise Refused(422, f"{name}=0 or {name}=1", f"{name}={value[:100]}", f"ADDRESS{PATH}?{name}=1")
    return value == "1"


async def _body(request: Request) -> bytes:
    """The body, given up as soon as it is longer than any file may be."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FILE:
            raise Refused(413, f"at most {LARGEST_FILE} bytes", "more", "send a smaller file, such as a JPEG")
    return bytes(body)


def _check_size(data: bytes) -> None:
    """Refuse what is no image, and what is too large to hold, by its header."""
    try:
        header = read_header(data)
    except HeaderError as error:
        raise Refused(422, "an image file (JPEG, PNG, TIFF, ...)", str(error), _CURL) from None
    if header.width * header.height > MOST_PIXELS:
        got = f"{header.width} x {header.height} pixels"
        raise Refused(413, f"at most {MOST_PIXELS // 1_000_000} megapixels", got, "make the photograph smaller")
