"""A live page on a free port of loopback, and viewers of it that know its protocol."""

from __future__ import annotations

import datetime
import http.client
import json
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import bundles
import cv2
import numpy as np
import numpy.typing as npt
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from medtex_edge.bundle import Bundle
from medtex_edge.image.geometry import FieldOfView
from medtex_edge.runtime.reading import Reading, Reason, Verdict
from medtex_edge.runtime.sources.base import FrameSource
from medtex_edge.runtime.web import address
from medtex_edge.runtime.web.access import AccessPolicy
from medtex_edge.runtime.web.feed import Feed
from medtex_edge.runtime.web.server import Page
from medtex_edge.runtime.web.upload import UploadReader

Pixels = npt.NDArray[np.uint8]
AGREED = bundles.contract()
TOKEN = "correct-horse-battery"


@contextmanager
def served(
    *, token: str = "", live: bool = True, messages: list[str] | None = None, bundle: Path | None = None
) -> Iterator[Page]:
    """A page that is up; with a bundle it answers `POST /read` too. Nothing of it is left afterwards."""
    source = cast(FrameSource, SimpleNamespace(name="camera 0", live=live, stream=live))
    where = address.parse("127.0.0.1:0")
    listener = address.listen(where, token)
    policy = AccessPolicy(address.names(where), token, loopback=address.is_loopback(listener))
    sha256 = "ab" * 32
    reader = None if bundle is None else UploadReader(Bundle.open(bundle), sha256, policy)
    on_message = (messages if messages is not None else []).append
    with Page(listener, Feed(AGREED, sha256, source), policy, on_message, reader) as page:
        yield page


def frame(seed: int = 0, side: int = 240) -> Pixels:
    return bundles.disc(side, width=side * 4 // 3, seed=seed)


def reading(pixels: Pixels, index: int = 0) -> Reading:
    """A referable one, with a map that is strong in the middle."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:16, :16] - 7.5
    return Reading(
        source="camera 0", frame=index, captured=datetime.datetime.now(datetime.timezone.utc), age_ms=40.0,
        size=(width, height), verdict=Verdict.REFERABLE, label="severe",
        probabilities=np.array([0.1, 0.2, 0.7], np.float32), referable_probability=0.7,
        saliency=np.exp(-(x * x + y * y) / 20).astype(np.float32),
        field_of_view=FieldOfView((width - height) // 2, 0, height, 1.0), latency_ms={"infer": 12.5},
    )  # fmt: skip


def refused(pixels: Pixels, index: int = 0) -> Reading:
    return replace(
        reading(pixels, index), verdict=Verdict.UNGRADABLE, reason=Reason.BLURRED,
        detail="sharpness 0.100, 0.225 needed", label="", probabilities=None, referable_probability=None, saliency=None,
    )  # fmt: skip


def offer(page: Page, pixels: Pixels, index: int = 0, *, age_s: float = 0.0) -> None:
    page.offer(pixels, reading(pixels, index), time.monotonic() - age_s, 25.0)


@dataclass
class Got:
    """One message, taken apart."""

    header: dict[str, Any]
    map: npt.NDArray[np.uint8]
    picture: Pixels

    @property
    def index(self) -> int:
        return int(self.header["reading"]["frame"])


class ViewerClient:
    """A viewer that answers when its test wants it to."""

    def __init__(self, page: Page, **how: Any) -> None:
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(connect(live(page), max_size=None, **how))
        self.hello = json.loads(self.socket.recv(timeout=10))["hello"]
        self.answer()

    def answer(self) -> None:
        self.socket.send("drawn")

    def next(self, *, answer: bool = True) -> Got:
        """The next picture; heartbeats are answered."""
        end = time.monotonic() + 10
        while not isinstance(data := self.socket.recv(timeout=10), bytes):
            assert time.monotonic() < end, "no picture comes"
            self.answer()
        if answer:
            self.answer()
        (length,) = struct.unpack("<I", data[:4])
        header = json.loads(data[4 : 4 + length])
        rows, columns = header["grid"]
        start = 4 + length
        grid = np.frombuffer(data, np.uint8, rows * columns, start).reshape(rows, columns)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8, offset=start + rows * columns), cv2.IMREAD_COLOR)
        assert picture is not None
        return Got(header, grid, picture.astype(np.uint8))

    def close(self) -> None:
        self._stack.close()


def live(page: Page) -> str:
    """The address of its WebSocket."""
    return page.url.replace("http", "ws") + "live"


def ask(page: Page, method: str = "GET", path: str = "/", body: str = "", **headers: str) -> tuple[int, Any, str]:
    """Status, headers and text of one request."""
    to = urlsplit(page.url)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=10)
    try:
        connection.request(method, path, body.encode() or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def to_the_end(socket: ClientConnection) -> list[str | bytes]:
    """Everything that comes, without an answer, until the page closes the connection."""
    got: list[str | bytes] = []
    with suppress(ConnectionClosed):
        while True:
            got.append(socket.recv(timeout=10))
    return got


def until(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
