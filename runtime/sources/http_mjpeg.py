"""MJPEG over HTTP, as network cameras, ESP32 boards, ustreamer and mjpg-streamer serve it."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
from urllib.parse import unquote, urlsplit

from medtex_edge.errors import SourceError
from medtex_edge.runtime.sources import jpeg
from medtex_edge.runtime.sources.bytestream import CHUNK, QUIET_S, MjpegStream, readable
from medtex_edge.runtime.sources.stream import STREAM_HINT
from medtex_edge.runtime.sources.video import OPEN_TIMEOUT_MS

_REOPEN_TIMEOUT_MS = 1500  # shorter: a host that was away answers once it is back, or the next attempt reaches it
_SNIFF = 1 << 12  # bytes, in which a multipart stream has named its first picture


class NotMjpeg(Exception):
    """The server answers with something other than MJPEG, which FFmpeg may know."""


class HttpMjpeg(MjpegStream):
    """A camera that serves MJPEG (multipart/x-mixed-replace). Opened again when it stops."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name)
        self._url = urlsplit(url)
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._socket: socket.socket | None = None
        self._open(OPEN_TIMEOUT_MS)

    def reopen(self) -> None:
        """Close and connect again. Raises `SourceError`."""
        try:
            self._open(_REOPEN_TIMEOUT_MS)
        except NotMjpeg as error:
            raise SourceError(f"{self.name}: {error}", hint=STREAM_HINT) from None

    def close(self) -> None:
        """Close the connection. May be called twice."""
        for each in (self._response, self._connection, self._socket):
            if each is not None:
                each.close()
        self._connection = self._response = self._socket = None

    def _open(self, timeout_ms: int) -> None:
        """Connect. Raises `SourceError` if there is no answer, `NotMjpeg` for any other content."""
        self.close()
        broken = self._splitter.broken
        self._splitter = jpeg.Splitter()  # drops the half picture of before the loss
        self._splitter.broken = broken
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        try:
            connection = self._connection = kind(self._url.hostname or "", self._url.port, timeout=timeout_ms / 1e3)
            connection.request("GET", self._target(), headers=self._headers())
            self._socket = connection.sock  # taken now: the connection lets go of it when it reads the answer
            self._response = connection.getresponse()
            self._socket.settimeout(QUIET_S)
            self._check(self._response)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise NotMjpeg(f"its certificate is not trusted: {error.verify_message}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            why = "does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise SourceError(f"{self.name}: no picture. Tried HTTP: {why}", hint=STREAM_HINT) from error
        except NotMjpeg:
            self.close()
            raise

    def _check(self, response: http.client.HTTPResponse) -> None:
        kind = response.getheader("Content-Type", "")
        if response.status != 200:
            raise NotMjpeg(f"the server answers {response.status} {response.reason}")
        if kind.lower().startswith("multipart/x-mixed-replace"):
            return
        if kind.lower().startswith(("video/", "image/", "text/")):
            raise NotMjpeg(f"the server sends {kind}")
        # Small servers name no type.
        head = response.read1(_SNIFF)
        if b"image/jpeg" not in head.lower():
            raise NotMjpeg("the server sends no MJPEG")
        self._splitter.feed(head, time.monotonic())

    def _target(self) -> str:
        return (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")

    def _headers(self) -> dict[str, str]:
        if self._url.username is None:
            return {}
        secret = f"{unquote(self._url.username)}:{unquote(self._url.password or '')}"
        return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}

    def _more(self) -> bytes:
        try:
            return self._response.read1(CHUNK) if self._response is not None else b""
        except (OSError, http.client.HTTPException, ValueError):
            return b""

    def _waiting(self, seconds: float) -> bool:
        return self._socket is not None and readable(self._socket.fileno(), seconds)
