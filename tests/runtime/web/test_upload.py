"""`POST /read` from outside: the reading of a photograph, and what hostile, late and too many requests get."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import bundles
import cv2
import numpy as np
import pytest
from web_kit import TOKEN, ViewerClient, frame, offer, served, until
from websockets.sync.client import connect

from medtex_edge.api.bundle import open_bundle
from medtex_edge.runtime.photo_reader import PhotoReader
from medtex_edge.runtime.web import upload
from medtex_edge.runtime.web.server import Page

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.bundle(tmp_path_factory.mktemp("bundle") / "tiny.medtex")


@pytest.fixture(scope="module")
def photo() -> bytes:
    return bytes(cv2.imencode(".png", bundles.disc(240, width=320, lesion=True))[1])


def post(page: Page, body: Any, path: str = "/read", headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
    """Status, headers and JSON of the answer."""
    to = urlsplit(page.url)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=20)
    try:
        connection.request("POST", path, body, JPEG if headers is None else headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, answer.headers, json.loads(text)
    finally:
        connection.close()


def raw(page: Page, request: bytes) -> bytes:
    """What comes back for a request that no library would send."""
    to = urlsplit(page.url)
    with socket.create_connection((to.hostname, to.port), 20) as connection:
        connection.sendall(request)
        got = b""
        while part := connection.recv(65536):
            got += part
        return got


@contextmanager
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Readings wait until the event is set."""
    go, read = threading.Event(), PhotoReader.read

    def waiting(self: PhotoReader, *given: Any) -> Any:
        assert go.wait(20)
        return read(self, *given)

    monkeypatch.setattr(PhotoReader, "read", waiting)
    try:
        yield go
    finally:
        go.set()


def timeless(reading: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in reading.items() if k not in ("source", "captured", "age_ms", "latency_ms", "bundle")}


def test_a_photograph_gets_the_reading_that_a_program_gets(bundle: Path, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo)
    with served(bundle=bundle) as page, open_bundle(bundle) as opened:
        status, headers, reading = post(page, photo)
        expected = opened.read(tmp_path / "photo.png")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "application/json", "no-store")
    assert timeless(reading) == timeless(expected.as_dict())
    assert (reading["verdict"], reading["source"], reading["bundle"]) == ("referable", "POST /read", "ab" * 32)


def test_the_map_comes_with_it_where_it_is_requested(bundle: Path, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo)
    with served(bundle=bundle) as page, open_bundle(bundle) as opened:
        _, _, reading = post(page, photo, "/read?saliency=1")
        saliency = opened.read(tmp_path / "photo.png").saliency
    assert saliency is not None
    assert np.allclose(reading["saliency"], saliency, atol=1e-4)


def test_an_ungradable_photograph_is_an_answer_with_its_reason_and_no_map(bundle: Path) -> None:
    black = bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1])
    with served(bundle=bundle) as page:
        status, _, reading = post(page, black, "/read?saliency=1")
    assert (status, reading["verdict"], reading["reason"]) == (200, "ungradable", "black")
    assert reading["saliency"] is None


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-horse-battery"}, {"Cookie": "medtex-edge=1"}])
def test_without_the_token_the_body_is_not_even_read(bundle: Path, photo: bytes, headers: dict[str, str]) -> None:
    with served(bundle=bundle, token=TOKEN) as page:
        status, came, answer = post(page, photo, headers=JPEG | headers)
        assert (status, came["WWW-Authenticate"], came["Connection"]) == (401, "Bearer", "close")
        assert set(answer["error"]) == {"expected", "got", "next"}
        assert "Authorization: Bearer" in answer["error"]["next"]
        assert post(page, photo, headers=JPEG | {"Authorization": f"Bearer {TOKEN}"})[0] == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "0.0.0.0"}]
)
def test_other_pages_and_other_names_are_refused_as_for_the_page(
    bundle: Path, photo: bytes, headers: dict[str, str]
) -> None:
    with served(bundle=bundle) as page:
        status, _, answer = post(page, photo, headers=JPEG | headers)
    assert status == 403
    assert set(answer["error"]) == {"expected", "got", "next"}


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/html", "application/json"])
def test_a_body_of_another_type_is_refused_by_its_header(bundle: Path, photo: bytes, kind: str) -> None:
    with served(bundle=bundle) as page:
        status, _, answer = post(page, photo, headers={"Content-Type": kind})
    assert status == 415
    assert "curl --data-binary" in answer["error"]["next"]


def hostile() -> dict[str, bytes]:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    huge = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    jpeg = bytes(cv2.imencode(".jpg", bundles.disc(64))[1])
    return {
        "empty": b"", "text": b"no photograph", "script": b"#!/bin/sh\nrm -rf /", "cut": jpeg[: len(jpeg) // 8],
        "bomb": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", huge) + chunk(b"IDAT", zlib.compress(b"\0" * 90000))
        + chunk(b"IEND", b""),
        "noise": np.random.default_rng(0).bytes(5000), "magic alone": b"\xff\xd8\xff",
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_a_body_that_is_no_photograph_gets_a_reason_and_harms_nothing(bundle: Path, photo: bytes, name: str) -> None:
    with served(bundle=bundle) as page:
        status, _, answer = post(page, hostile()[name])
        assert status == (413 if name == "bomb" else 422), answer
        assert all(answer["error"][part] for part in ("expected", "got", "next"))
        assert post(page, photo)[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(bundle: Path) -> None:
    with served(bundle=bundle) as page:
        host = urlsplit(page.url).netloc.encode()
        head = b"POST /read HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: %d\r\n\r\n" % (upload.LARGEST_FILE + 1)
        assert raw(page, head).startswith(b"HTTP/1.1 413")
        chunked = b"POST /read HTTP/1.1\r\nHost: " + host + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        assert raw(page, chunked).startswith(b"HTTP/1.1 411")
        for length in (b"-1", b"1e3", b"5, 6"):
            head = b"POST /read HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: " + length + b"\r\n\r\n"
            assert raw(page, head).startswith(b"HTTP/1.1 4")


def test_the_body_is_bounded_while_it_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [b"x" * 600] * 1000
    taken: list[bytes] = []

    class Streaming:
        async def stream(self) -> Any:
            for part in parts:
                taken.append(part)
                yield part

    monkeypatch.setattr(upload, "LARGEST_FILE", 1000)
    with pytest.raises(upload.Refused) as refused:
        asyncio.run(upload._body(Streaming()))  # type: ignore[arg-type]
    assert refused.value.response.status_code == 413
    assert len(taken) == 2


def test_a_body_that_never_ends_is_given_up(bundle: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "UPLOAD_S", 0.3)
    with served(bundle=bundle) as page:
        host = urlsplit(page.url).netloc.encode()
        slow = b"POST /read HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 1000\r\n\r\nhalf"
        assert raw(page, slow).startswith(b"HTTP/1.1 408")
        assert post(page, photo)[0] == 200, "its place is free again"


def test_one_photograph_is_read_at_a_time_and_more_than_can_wait_are_sent_away(
    bundle: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[int] = []
    with served(bundle=bundle) as page, busy(monkeypatch) as go:
        reader = page._reader
        assert reader is not None
        threads = [threading.Thread(target=lambda: got.append(post(page, photo)[0])) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: reader._requests == upload.MOST_REQUESTS)
        status, headers, answer = post(page, photo)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "again" in answer["error"]["next"]
        client = ViewerClient(page)
        offer(page, frame(), 7)
        assert client.next().index == 7, "viewers are served meanwhile"
        client.close()
        go.set()
        for thread in threads:
            thread.join(20)
        assert got == [200] * 3
        assert reader._requests == 0


def test_a_bundle_that_this_machine_does_not_reproduce_reads_nothing(tmp_path: Path, photo: bytes) -> None:
    with served(bundle=bundles.bundle(tmp_path / "drifted.medtex", drift=0.5)) as page:
        status, _, answer = post(page, photo)
    assert status == 500
    assert "does not give the answers" in answer["error"]["got"]


def test_a_page_without_a_bundle_reads_nothing_and_a_get_is_no_upload(bundle: Path) -> None:
    with served() as page:
        connection = http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=10)
        connection.request("POST", "/read", b"x")
        assert connection.getresponse().status == 404
        connection.close()
    with served(bundle=bundle) as page:
        connection = http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=10)
        connection.request("GET", "/read")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert json.loads(answer.read())["error"]["got"] == "GET /read"
        connection.close()


def test_another_address_and_a_parameter_that_cannot_be_meant_get_json_too(bundle: Path, photo: bytes) -> None:
    with served(bundle=bundle) as page:
        status, _, answer = post(page, photo, "/read/")
        assert (status, answer["error"]["expected"]) == (404, "POST /read")
        status, _, answer = post(page, photo, "/read?saliency=true")
        assert (status, answer["error"]["got"]) == (422, "saliency=true")
        status, _, answer = post(page, photo, "/read?saliency=0")
        assert status == 200
        assert "saliency" not in answer


def test_no_picture_and_no_name_of_a_request_reaches_the_log(
    bundle: Path, photo: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(bundle=bundle) as page:
        post(page, photo, "/read?patient=Doe")
        post(page, b"Doe", "/read?patient=Doe")
    assert capfd.readouterr() == ("", "")


def test_a_run_with_a_page_reads_uploads_next_to_its_own_pictures(bundle: Path, photo: bytes, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "own.png"), bundles.disc(240, width=320))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "medtex_edge", "run", str(bundle), "--source", "own.png", "--json"]
    command += ["--serve", f"127.0.0.1:{port}"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        page = cast(Page, SimpleNamespace(url=f"http://127.0.0.1:{port}/"))
        until(lambda: _answers(port), 30)
        with connect(f"ws://127.0.0.1:{port}/live") as viewer:  # until the run's own photograph is read
            until(lambda: isinstance(viewer.recv(timeout=10), bytes) or viewer.send("drawn"))
        status, _, reading = post(page, photo)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
    assert child.returncode == 0, err
    summary = json.loads(out)
    assert (status, reading["verdict"]) == (200, "referable")
    assert reading["bundle"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert summary["verdicts"] == {"not referable": 1}, "an upload is no frame of the run"


def _answers(port: int) -> bool:
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) == 0
