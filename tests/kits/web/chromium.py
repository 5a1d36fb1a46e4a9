"""Real Chromium without a window, driven over its own protocol: open a page, query it, take a picture of it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """One browser with one tab. A context manager that leaves no process."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        command = [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        command += ["--no-first-run", "--disable-extensions", "--disable-background-networking", "--mute-audio"]
        command += ["--disable-dev-shm-usage", f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._number = 0
        self._stack = ExitStack()
        try:
            self._socket = self._attach(folder / "DevToolsActivePort")
        except BaseException:
            self._process.kill()
            raise

    def _attach(self, where: Path) -> ClientConnection:
        end = time.monotonic() + 30
        while not (where.exists() and where.read_text().strip()):
            assert time.monotonic() < end, "chromium does not start"
            time.sleep(0.05)
        port = where.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            (tab,) = [tab for tab in json.load(answer) if tab["type"] == "page"]
        return self._stack.enter_context(connect(tab["webSocketDebuggerUrl"], max_size=None))

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol, and its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str, width: int = 1280, height: int = 800) -> None:
        """Go there, in a window of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 15.0) -> Any:
        """Until the expression is true; the test fails where it never is. On the way to a page nothing is defined."""
        end = time.monotonic() + seconds
        while not (value := self.ask(f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()")):
            assert time.monotonic() < end, f"never true: {expression}; {self.ask('document.body?.innerText')}"
            time.sleep(0.05)
        return value

    def picture(self) -> bytes:
        """What is on the screen, PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
