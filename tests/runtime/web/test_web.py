"""The live page from outside: what viewers get, and how slow and hostile ones are kept from doing harm."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bundles
import cv2
import numpy as np
import pytest
import streams
from web_kit import AGREED, ViewerClient, ask, frame, live, offer, reading, refused, served, to_the_end, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from medtex_edge.cli import main
from medtex_edge.runtime.web import server, viewer
from medtex_edge.runtime.web.viewer import AHEAD


def test_a_viewer_gets_the_bare_picture_its_map_and_its_reading_in_one_message() -> None:
    pixels = frame()
    with served() as page:
        client = ViewerClient(page)
        offer(page, pixels, 7)
        got = client.next()
        client.close()
    assert client.hello["classes"] == list(AGREED.classes)
    assert client.hello["threshold"] == AGREED.operating_point.threshold
    assert np.abs(got.picture.astype(int) - pixels).mean() < 4, "JPEG, and nothing drawn into it"
    saliency = reading(pixels).saliency
    assert saliency is not None
    assert np.array_equal(got.map, np.round(saliency * 255).astype(np.uint8))
    row = got.header["reading"]
    assert (row["frame"], row["verdict"], row["label"]) == (7, "referable", "severe")
    assert row["probabilities"]["severe"] == pytest.approx(0.7)
    assert 0 <= got.header["now"] - got.header["captured"] < 5000


def test_an_ungradable_frame_comes_with_its_reason_and_no_map() -> None:
    pixels = frame()
    with served() as page:
        client = ViewerClient(page)
        page.offer(pixels, refused(pixels), time.monotonic(), 25.0)
        got = client.next()
        client.close()
    assert got.map.size == 0
    assert (got.header["reading"]["reason"], got.header["reading"]["probabilities"]) == ("blurred", None)


def test_a_picture_larger_than_a_screen_is_made_smaller_with_its_field_of_view() -> None:
    pixels = cv2.resize(frame(), (2880, 2160), interpolation=cv2.INTER_NEAREST)
    with served() as page:
        client = ViewerClient(page)
        offer(page, pixels)
        got = client.next()
        client.close()
    assert got.picture.shape[:2] == (1080, 1440)
    assert got.header["reading"]["field_of_view"]["side"] == 1080


def test_a_slow_viewer_gets_fewer_frames_never_an_older_one_and_a_fast_one_beside_it_is_not_held_up() -> None:
    frames = [frame(seed) for seed in range(8)]
    with served() as page:
        slow, fast = ViewerClient(page), ViewerClient(page)
        seen: dict[str, list[tuple[int, int]]] = {"slow": [], "fast": []}
        now = 0

        def run(name: str, client: ViewerClient, pause_s: float) -> None:
            while not seen[name] or seen[name][-1][0] < 150:
                got = client.next(answer=False)
                time.sleep(pause_s)
                client.answer()
                seen[name].append((got.index, now))

        threads = [
            threading.Thread(target=run, args=("slow", slow, 0.25)),
            threading.Thread(target=run, args=("fast", fast, 0.0)),
        ]
        for thread in threads:
            thread.start()
        for now in range(151):
            offer(page, frames[now % 8], now)
            time.sleep(0.01)
        for thread in threads:
            thread.join(10)
        slow.close()
        fast.close()
    for got in seen.values():
        indices = [index for index, _ in got]
        assert indices == sorted(set(indices)), "in order, none twice"
    assert len(seen["slow"]) < 15 < len(seen["fast"])
    # What a slow viewer draws was the newest when its turn came: at most two turns old when the next one begins.
    assert all(at - index < 3 * 25 + 20 for index, at in seen["slow"])
    assert page.to_json()["written"] == sum(map(len, seen.values()))


def test_a_picture_is_encoded_once_for_all_viewers_and_never_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = cv2.imencode

    def counted(suffix: str, *rest: Any) -> Any:
        encoded.append(suffix)
        return encode(suffix, *rest)

    monkeypatch.setattr(cv2, "imencode", counted)
    with served() as page:
        for index in range(20):
            offer(page, frame(), index)
        time.sleep(0.1)
        assert encoded == []
        clients = [ViewerClient(page) for _ in range(3)]
        for index in range(20, 25):
            offer(page, frame(), index)
            for client in clients:
                while client.next().index != index:
                    pass
        assert len(encoded) <= 6
        for client in clients:
            client.close()
        until(lambda: not page._viewers)
        count = len(encoded)
        offer(page, frame(), 30)
        time.sleep(0.1)
        assert len(encoded) == count


def test_who_comes_late_sees_the_newest_picture_with_its_true_age() -> None:
    with served(live=False) as page:
        offer(page, frame(), 3, age_s=5.0)
        client = ViewerClient(page)
        got = client.next()
        client.close()
    assert got.index == 3
    assert 5000 < got.header["now"] - got.header["captured"] < 9000


def test_while_there_is_no_frame_viewers_hear_why() -> None:
    with served() as page:
        page.tick("camera 0 is being opened again")
        client = ViewerClient(page)
        assert json.loads(client.socket.recv(timeout=5))["why"] == "camera 0 is being opened again"
        page.tick("")
        client.answer()
        assert json.loads(client.socket.recv(timeout=5))["why"] == ""
        client.close()


def test_a_viewer_that_answers_nothing_gets_two_messages_and_is_dismissed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "SILENT_S", 0.6)
    with served() as page:
        offer(page, frame())
        with connect(live(page)) as connection:
            assert len(to_the_end(connection)) == AHEAD
            assert connection.close_code == 1008
        until(lambda: not page._viewers)


def test_a_viewer_that_reads_nothing_is_dropped_and_what_it_did_not_take_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewer, "SILENT_S", 0.6)
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)  # megabytes as JPEG
    with served() as page:
        to = urlsplit(page.url)
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((to.hostname, to.port))
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        deaf.sendall(
            f"GET /live HTTP/1.1\r\nHost: {to.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        until(lambda: page._viewers)
        client = ViewerClient(page)
        for index in range(5):
            offer(page, noise, index)
            assert client.next().index <= index
        until(lambda: len(page._viewers) == 1, 15)
        until(lambda: sum(not each.is_closing() for each in page._connections.values()) == 1)
        offer(page, noise, 9)
        while client.next().index != 9:
            pass
        client.close()
        deaf.close()


@pytest.mark.parametrize("nonsense", ["drawn" * 100, "hello", b"drawn", "drawn drawn"])
def test_a_viewer_that_says_anything_else_is_dismissed(nonsense: str | bytes) -> None:
    with served() as page:
        client = ViewerClient(page)
        client.socket.send(nonsense)
        assert len(to_the_end(client.socket)) <= AHEAD, "it ends, after what was sent already"


def test_answers_to_nothing_are_not_credit() -> None:
    with served() as page:
        client = ViewerClient(page)
        with suppress(ConnectionClosed):  # the page may hang up at the first, before the others are sent
            for _ in range(5):
                client.answer()
        assert len(to_the_end(client.socket)) <= 5 + AHEAD


def test_the_number_of_viewers_is_bounded_and_the_next_one_gets_the_reason() -> None:
    with served() as page:
        clients = [ViewerClient(page) for _ in range(server.MOST_VIEWERS)]
        with connect(live(page)) as connection, pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (server.FULL, "there are 8 viewers already")
        clients.pop().close()
        until(lambda: len(page._viewers) < server.MOST_VIEWERS)
        clients.append(ViewerClient(page))
        for client in clients:
            client.close()


def test_connections_are_bounded_and_one_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 2.0)
    with served() as page:
        to = urlsplit(page.url)
        idle = [socket.create_connection((to.hostname, to.port)) for _ in range(server.MOST_CONNECTIONS + 8)]
        until(lambda: len(page._connections) >= server.MOST_CONNECTIONS)
        assert len(page._connections) <= server.MOST_CONNECTIONS + 1
        for each in idle:
            each.settimeout(10)
            with suppress(ConnectionResetError):
                assert each.recv(1) == b""
            each.close()
        assert ask(page)[0] == 200


def test_nothing_listens_and_no_thread_is_left_when_the_page_is_closed_even_with_viewers() -> None:
    before = threading.active_count()
    with served() as page:
        to = urlsplit(page.url)
        clients = [ViewerClient(page) for _ in range(3)]
        idle = socket.create_connection((to.hostname, to.port))
        offer(page, frame())
        clients[0].next()
    assert threading.active_count() - before <= len(clients), "only the viewers' own threads"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((to.hostname, to.port), timeout=2)
    idle.close()
    for client in clients:
        client.close()
    until(lambda: threading.active_count() == before)


def test_a_server_that_has_ended_is_said_once_and_offers_go_on() -> None:
    messages: list[str] = []
    with served(messages=messages) as page:
        client = ViewerClient(page)
        page._server.should_exit = True
        until(lambda: not page._thread.is_alive())
        for index in range(3):
            offer(page, frame(), index)
            page.tick("")
        client.close()
    assert messages == [f"page {page.url}: the server has ended; the run goes on without it"]
    assert page.to_json()["error"] == "the server has ended"


def test_a_run_serves_its_page_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bundles.bundle(tmp_path / "tiny.medtex")
    camera = streams.Camera(lambda index: bundles.disc(120, width=160, seed=index % 40))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    got: list[str] = []

    def watch() -> None:
        until(lambda: _answers(port))
        with connect(f"ws://127.0.0.1:{port}/live") as viewer:
            while len(got) < 5:
                data = viewer.recv(timeout=10)
                viewer.send("drawn")
                if isinstance(data, bytes):
                    got.append("picture")

    looking = threading.Thread(target=watch)
    looking.start()
    try:
        arguments = ["run", "--source", camera.url, "--serve", f"127.0.0.1:{port}", "--max-frames", "60", "--json"]
        assert main(arguments) == 0
    finally:
        looking.join(20)
        camera.off()
    captured = capsys.readouterr()
    assert f"live page: http://127.0.0.1:{port}/" in captured.err
    assert "no window" not in captured.err, "a page implies that there is none"
    (page,) = json.loads(captured.out)["sinks"]
    assert page["written"] >= len(got) == 5
    assert not _answers(port)


def test_photographs_are_held_on_the_page_until_ctrl_c_and_that_is_a_good_end(tmp_path: Path) -> None:
    bundles.bundle(tmp_path / "tiny.medtex")
    cv2.imwrite(str(tmp_path / "eye.png"), frame())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "medtex_edge", "run", "--source", "eye.png", "--json"]
    command += ["--serve", f"127.0.0.1:{port}"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: _answers(port), 20)
        with connect(f"ws://127.0.0.1:{port}/live") as viewer:
            until(lambda: isinstance(viewer.recv(timeout=10), bytes) or viewer.send("drawn"))
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
    assert child.returncode == 0, err
    assert json.loads(out)["verdicts"] == {"not referable": 1}
    assert b"it keeps the last photograph until Ctrl-C" in err


def _answers(port: int) -> bool:
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) == 0
