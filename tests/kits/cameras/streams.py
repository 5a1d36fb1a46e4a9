"""A small camera on the network: MJPEG over HTTP on loopback, that can be cut, stalled and switched on again."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import numpy.typing as npt

LONGEST_S = 60.0  # no server of a test may run for longer


class Camera:
    """Serves `picture(index)` at `rate` frames per second. `port` is free to choose once and kept over restarts."""

    def __init__(self, picture: Callable[[int], npt.NDArray[np.uint8]], rate: float = 30.0, secret: str = "") -> None:
        self.picture, self.rate, self.secret = picture, rate, secret  # user:password
        self.port = 0
        self.sent = 0
        self.stalled = threading.Event()
        self._off = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.on()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/live.mjpg"

    def on(self) -> None:
        self._off.clear()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = "Basic " + base64.b64encode(camera.secret.encode()).decode()
                if camera.secret and self.headers["Authorization"] != wanted:
                    self.send_error(401)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                camera.stream(self.wfile.write)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stream(self, write: Callable[[bytes], object]) -> None:
        end = time.monotonic() + LONGEST_S
        while not self._off.is_set() and time.monotonic() < end:
            if not self.stalled.is_set():
                data = cv2.imencode(".jpg", self.picture(self.sent))[1].tobytes()
                self.sent += 1
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                write(head.encode() + data + b"\r\n")
            time.sleep(1 / self.rate)

    def off(self) -> None:
        self._off.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
