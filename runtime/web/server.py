"""The page's server: Starlette on uvicorn, in a thread of its own that ends with the run."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from importlib.resources import files
from types import TracebackType
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from medtex_edge.runtime.frame import Pixels
from medtex_edge.runtime.reading import Reading
from medtex_edge.runtime.web.access import COOKIE, AccessPolicy, headers_for
from medtex_edge.runtime.web.feed import Feed
from medtex_edge.runtime.web.upload import PATH, UploadReader, not_served, refusal
from medtex_edge.runtime.web.viewer import POLICY, Viewer

MOST_VIEWERS = 8
MOST_CONNECTIONS = 32  # viewers, pages being loaded, and connections without a request
REQUEST_S = 10.0  # a connection without a request by then is closed
FULL = 4029  # close code: too many viewers
_WRONG_TOKEN_S = 1.0
_LARGEST_BODY = 1024  # bytes
_END_S = 5.0


class Page:
    """A context manager: serves `feed` from `listener`, which it closes; with a `reader` it answers `POST /read` too.

    `offer` is for the showing thread.
    """

    def __init__(
        self,
        listener: socket.socket,
        feed: Feed,
        policy: AccessPolicy,
        on_message: Callable[[str], None] = lambda line: None,
        reader: UploadReader | None = None,
    ) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._listener, self._feed, self._policy, self._on_message = listener, feed, policy, on_message
        self._reader = reader
        self._html = (files(__package__) / "page.html").read_text(encoding="utf-8")
        self._viewers: set[Viewer] = set()
        self._connections: dict[Any, asyncio.Transport] = {}
        self._sent = self._left_out = 0
        self._error = ""
        self._started = threading.Event()
        self._server = Server(self._config())
        self._thread = threading.Thread(target=self._run, name="medtex-edge-page", daemon=True)

    def offer(self, pixels: Pixels, reading: Reading, captured: float, frames_per_second: float | None) -> None:
        """Copy a frame and its reading for the viewers."""
        if not self._error:
            self._feed.offer(pixels, reading, captured, frames_per_second)

    def tick(self, why: str, progress: str = "") -> None:
        """From the main thread: why the source is not live, or '', and the progress of an engine; checks the server."""
        self._feed.why, self._feed.progress = why, progress
        if not self._error and not self._thread.is_alive():
            self._error = "the server has ended"
            self._on_message(f"page {self.url}: {self._error}; the run goes on without it")

    def to_json(self) -> dict[str, str | int | None]:
        """The summary: pictures sent to viewers, and those that were replaced while a viewer was busy."""
        name = f"page {self.url}"
        return {"name": name, "written": self._sent, "lost": self._left_out, "error": self._error or None}

    def __enter__(self) -> Page:
        self._thread.start()
        self._started.wait(_END_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_END_S)
        self._listener.close()
        if self._reader is not None:
            self._reader.close()

    def _config(self) -> Config:
        quiet = os.environ.get("MEDTEX_EDGE_DEBUG") != "1"
        if quiet:  # strangers' malformed requests are no news for this terminal
            for name in ("uvicorn.error", "uvicorn.access", "websockets"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        config = Config(
            self._app(), http=_bounded(self._connections), ws="websockets-sansio", loop="asyncio", lifespan="off",
            log_config=None, access_log=False, server_header=False, proxy_headers=False, ws_max_size=64,
            ws_max_queue=4, ws_per_message_deflate=False, ws_ping_interval=None, h11_max_incomplete_event_size=16384,
            timeout_keep_alive=5, timeout_graceful_shutdown=1,
        )  # fmt: skip
        config.load()  # here, so that a missing package is reported to the user
        return config

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._feed.open()
        self._started.set()
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            for transport in self._connections.values():
                transport.abort()

    def _app(self) -> ASGIApp:
        routes = [
            Route("/", self._page, methods=["GET"]),
            Route("/token", self._token, methods=["POST"]),
            WebSocketRoute("/live", self._live),
        ]
        if self._reader is not None:
            routes.append(Route(PATH, self._reader.answer, methods=["POST"]))
        app = Starlette(routes=routes, exception_handlers={404: not_served, 405: not_served})
        app.router.redirect_slashes = False

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            why = self._policy.refuse(Headers(scope=scope))
            if not why:
                await app(scope, receive, send)
            elif scope["type"] == "http" and scope["path"] == PATH:
                expected = "a request to this page by its own name, from no other page"
                answer = refusal(403, expected, why, "use the address that the run prints", Connection="close")
                await answer(scope, receive, send)
            elif scope["type"] == "http":
                await PlainTextResponse(f"{why}\n", 403)(scope, receive, send)
            else:
                await WebSocket(scope, receive, send).send_denial_response(PlainTextResponse(f"{why}\n", 403))

        return guarded

    async def _page(self, request: Request) -> Response:
        known = self._policy.allows(request.headers)
        page = self._html if known else self._html.replace('data-page="live"', 'data-page="token"', 1)
        return HTMLResponse(page, 200 if known else 401, headers_for(page))

    async def _token(self, request: Request) -> Response:
        try:
            given = await asyncio.wait_for(_body(request), REQUEST_S)
        except asyncio.TimeoutError:
            return PlainTextResponse("too slow\n", 408, {"Connection": "close"})
        if not self._policy.is_token(given.decode("utf-8", "replace").strip()):
            await asyncio.sleep(_WRONG_TOKEN_S)
            return PlainTextResponse("this is not the token\n", 401)
        answer = Response(status_code=204)
        answer.set_cookie(COOKIE, self._policy.cookie, path="/", httponly=True, samesite="strict")
        return answer

    async def _live(self, websocket: WebSocket) -> None:
        if not self._policy.allows(websocket.headers):
            await websocket.send_denial_response(PlainTextResponse("expected the token\n", 401))
            return
        if len(self._viewers) >= MOST_VIEWERS:
            await websocket.accept()
            await websocket.close(FULL, f"there are {MOST_VIEWERS} viewers already")
            return
        viewer = Viewer(websocket, self._feed)
        self._viewers.add(viewer)
        self._feed.watched = True
        try:
            await websocket.accept()
            if not await viewer.serve():
                await self._dismiss(websocket)
        except WebSocketDisconnect:
            pass
        finally:
            self._viewers.discard(viewer)
            self._feed.watched = bool(self._viewers)
            self._sent += viewer.sent
            self._left_out += viewer.left_out

    async def _dismiss(self, websocket: WebSocket) -> None:
        """Close; what an idle viewer has not read by then is dropped."""
        try:
            await asyncio.wait_for(websocket.close(POLICY, "expected an answer to every message"), 1)
            await asyncio.sleep(0.1)
        except (asyncio.TimeoutError, WebSocketDisconnect):
            pass
        transport = self._connections.pop(tuple(websocket.client or ()), None)
        if transport is not None:
            transport.abort()


async def _body(request: Request) -> bytes:
    """The body, or its beginning where it is longer than any token."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BODY:
            break
    return body


def _bounded(connections: dict[Any, asyncio.Transport]) -> type[H11Protocol]:
    """uvicorn's HTTP with a bound on connections, and on how long one may take to send a request."""

    class Bounded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            for key in [key for key, each in connections.items() if each.is_closing()]:
                del connections[key]
            if len(connections) >= MOST_CONNECTIONS:
                transport.abort()
            super().connection_made(transport)
            connections[self.client] = transport
            self.loop.call_later(REQUEST_S, self._late)

        def _late(self) -> None:
            request: object | None = vars(self)["scope"]
            if request is None and not self.transport.is_closing():
                self.transport.abort()

    return Bounded
