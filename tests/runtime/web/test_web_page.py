"""The live page as a person sees it: in real Chromium."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import bundles
import cv2
import numpy as np
import pytest
import streams
from chromium import PROGRAM, Chromium
from web_kit import TOKEN, Page, Pixels, frame, offer, reading, refused, served, until

from medtex_edge.runtime.display.overlay import blend_table
from medtex_edge.runtime.display.pixels import draw_saliency
from medtex_edge.runtime.web import server

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")

LIVE = "document.documentElement.dataset.state === 'on'"
NOT_LIVE = "document.documentElement.dataset.state === 'off'"
BANNER = "get('banner').hidden ? '' : get('banner-why').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def page(browser: Chromium) -> Iterator[Page]:
    with served() as up:
        browser.open(up.url)
        browser.wait("typeof hello === 'object' && hello !== null")
        yield up
        browser.open("about:blank")


def seen(browser: Chromium) -> Pixels:
    """What is on the page's canvas, BGR."""
    width, height = browser.ask("[get('picture').width, get('picture').height]")
    data = browser.ask(f"Array.from(get('picture').getContext('2d').getImageData(0, 0, {width}, {height}).data)")
    return np.array(data, np.uint8).reshape(height, width, 4)[..., 2::-1]


def shown(browser: Chromium, index: int) -> None:
    browser.wait(f"document.documentElement.dataset.frame === '{index}'")


def is_live(browser: Chromium, page: Page, pixels: Pixels | None = None) -> bool:
    """Whether a new picture makes the page live. On a busy machine one may be old before the page is checked."""
    for index in range(1000, 1005):
        if browser.ask(LIVE):
            return True
        offer(page, frame() if pixels is None else pixels, index)
        shown(browser, index)
    return False


def test_the_page_shows_the_picture_with_the_devices_own_overlay_and_the_reading_beside_it(
    browser: Chromium, page: Page
) -> None:
    pixels = frame(side=120)
    offer(page, pixels, 7)
    shown(browser, 7)
    assert is_live(browser, page, pixels)
    read = reading(pixels)
    drawn = pixels.copy()
    assert read.saliency is not None
    assert read.field_of_view is not None
    draw_saliency(drawn, read.saliency, read.field_of_view, blend_table())
    apart = np.abs(cv2.blur(seen(browser), (3, 3)).astype(int) - cv2.blur(drawn, (3, 3)))
    assert (drawn != pixels).any()
    assert apart.mean() < 3
    assert np.percentile(apart, 99) < 16
    browser.wait("get('time').innerText.includes('infer')")
    text = browser.ask("document.body.innerText")
    for piece in ("REFERABLE", "severe", "0.70", "threshold 0.50", "infer", "12.5 ms", "camera 0", "LIVE"):
        assert piece in text
    assert browser.ask("get('fill').style.width") == "70%"
    assert browser.ask("getComputedStyle(get('word')).backgroundColor") == "rgb(213, 70, 0)"


def test_the_overlay_is_the_viewers_choice_and_the_page_says_what_was_chosen(browser: Chromium, page: Page) -> None:
    pixels = frame(side=120)
    offer(page, pixels, 1)
    shown(browser, 1)
    made = seen(browser).astype(int)
    browser.ask("get('drawn').click()")
    bare = seen(browser).astype(int)
    assert np.abs(bare - pixels).mean() < 5
    assert browser.ask("get('note').innerText") == "overlay off"
    browser.ask("get('drawn').click(); get('opacity').value = 90; get('opacity').oninput()")
    assert browser.ask("get('note').innerText") == "overlay at 90 %, made for 55 %"
    assert np.abs(seen(browser) - bare).mean() > np.abs(made - bare).mean() > 1
    browser.ask("get('usual').click()")
    assert browser.ask("get('note').hidden")
    assert np.array_equal(seen(browser), made)


def test_an_ungradable_picture_says_so_across_itself_with_its_reason_and_shows_no_probability(
    browser: Chromium, page: Page
) -> None:
    pixels = frame()
    offer(page, pixels, 1)
    shown(browser, 1)
    page.offer(pixels, refused(pixels, 2), time.monotonic(), 25.0)
    shown(browser, 2)
    assert browser.ask("get('refusal').innerText") == "UNGRADABLE\nblurred: sharpness 0.100, 0.225 needed"
    assert browser.ask("get('refer-value').textContent") == "\u2013"
    assert "0.70" not in browser.ask("get('panel').innerText")
    assert np.abs(seen(browser).astype(int) - pixels).mean() < 4, "no map of an earlier frame"


def test_a_picture_that_stands_is_not_live_within_a_second_and_a_half(browser: Chromium, page: Page) -> None:
    assert is_live(browser, page)
    browser.wait(NOT_LIVE, 4)
    assert "no new picture for 1." in browser.ask(BANNER)
    assert browser.ask("document.title").startswith("NOT LIVE")
    assert is_live(browser, page)


def test_an_old_frame_that_comes_late_is_not_live_from_its_first_moment(browser: Chromium, page: Page) -> None:
    offer(page, frame(), 3, age_s=2.0)
    shown(browser, 3)
    assert browser.ask(NOT_LIVE)
    assert "no new picture for 2." in browser.ask(BANNER)


def test_a_frame_that_the_network_held_up_is_as_old_as_it_is(browser: Chromium, page: Page) -> None:
    with PausedNetwork(page) as network:
        browser.open(network.url)
        browser.wait("typeof hello === 'object' && hello !== null")
        offer(page, frame(), 1)
        shown(browser, 1)
        note = "ages[shown.header.reading.frame] = [pictureAge(), document.documentElement.dataset.state]"
        browser.ask(
            f"window.ages = {{}}; const was = showReading; showReading = () => {{ was(); checkLive(); {note}; }}"
        )
        network.paused.set()
        offer(page, frame(), 2)
        browser.wait(f"({BANNER}).startsWith('no message from the device')", 5)
        time.sleep(0.6)
        network.paused.clear()
        shown(browser, 2)
        age_ms, state = browser.ask("ages[2]")
        assert age_ms > 1500
        assert state == "off"
        offer(page, frame(), 3)
        shown(browser, 3)
        assert browser.ask("ages[3][0]") < 1000
        assert browser.ask("ages[3][1]") == "on"


def test_a_page_out_of_sight_costs_nothing_and_is_not_live_when_it_comes_back(browser: Chromium, page: Page) -> None:
    offer(page, frame(), 1)
    shown(browser, 1)
    hide = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }});"
    hide += "document.dispatchEvent(new Event('visibilitychange'));"
    browser.ask(hide.format("true"))
    assert browser.ask(NOT_LIVE)
    until(lambda: not page._viewers)
    # One expression, since the device may answer before a second one is evaluated.
    assert browser.ask(hide.format("false") + NOT_LIVE), "until a message of the device arrives"
    browser.wait("hello !== null && socket !== null && socket.readyState === 1")
    assert is_live(browser, page)


def test_a_source_that_is_being_reopened_is_said_at_once(browser: Chromium, page: Page) -> None:
    offer(page, frame(), 1)
    shown(browser, 1)
    page.tick("camera 0 is being opened again")
    browser.wait(f"({BANNER}).includes('camera 0 is being opened again')", 4)


def test_an_engine_that_is_being_built_is_shown_with_its_progress_until_it_is_there(
    browser: Chromium, page: Page
) -> None:
    page.tick("", "43%: choosing kernels")
    offer(page, frame(), 1)
    browser.wait("get('time').innerText.includes('43%: choosing kernels')")
    page.tick("")
    offer(page, frame(), 2)
    shown(browser, 2)
    browser.wait("!get('time').innerText.includes('engine')")
    assert is_live(browser, page)


def test_photographs_and_files_do_not_go_stale_but_a_lost_connection_is_said(browser: Chromium) -> None:
    with served(live=False) as up:
        browser.open(up.url)
        offer(up, frame(), 4, age_s=30)
        shown(browser, 4)
        time.sleep(1.3)
        assert browser.ask(LIVE)
        assert "LIVE" not in browser.ask("get('chip').innerText")
    browser.wait(f"({BANNER}).startsWith('the run has ended')", 4)


def test_nothing_on_the_page_breaks_its_own_policy_and_it_fits_a_phone(browser: Chromium) -> None:
    with served() as up:
        listen = "window.broken = []; window.onerror = (e) => broken.push(e);"
        listen += "document.addEventListener('securitypolicyviolation', (e) => broken.push(e.blockedURI))"
        browser.call("Page.enable")
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=listen)
        for width, height in ((360, 740), (1280, 720), (3840, 2160)):
            browser.open(up.url, width, height)
            browser.wait("typeof hello === 'object' && hello !== null")
            offer(up, frame(), width)
            shown(browser, width)
            assert browser.ask("broken") == []
            assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
            assert browser.ask("get('word').scrollWidth <= get('word').clientWidth"), "the verdict is cut off"
            assert browser.ask("get('verdict').getBoundingClientRect().bottom <= innerHeight"), "it is not in sight"


def test_the_sign_in_form_takes_the_token_by_hand_and_by_a_link(
    browser: Chromium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_WRONG_TOKEN_S", 0.01)
    for by_link in (False, True):
        with served(token=TOKEN) as up:
            browser.call("Network.clearBrowserCookies")
            browser.open(f"{up.url}#token={TOKEN}" if by_link else up.url)
            if not by_link:
                browser.wait("document.readyState === 'complete' && !get('sign-in').hidden")
                browser.ask("get('token').value = 'wrong'; get('form').requestSubmit()")
                browser.wait("get('wrong').textContent === 'This is not the token.'")
                browser.ask(f"get('token').value = '{TOKEN}'; get('form').requestSubmit()")
            browser.wait("document.readyState === 'complete' && typeof hello === 'object' && hello !== null")
            offer(up, frame(), 5)
            shown(browser, 5)
            assert TOKEN not in browser.ask("location.href")
            assert TOKEN not in browser.ask("document.cookie")


def test_a_device_that_stops_is_killed_and_comes_back_is_shown_for_what_it_is(
    browser: Chromium, tmp_path: Path
) -> None:
    bundles.bundle(tmp_path / "tiny.medtex")
    camera = streams.Camera(lambda index: bundles.disc(120, width=160, seed=index % 40))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "medtex_edge", "run", "tiny.medtex", "--source", camera.url]
    command += ["--serve", f"127.0.0.1:{port}"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env={**os.environ})  # fmt: skip

    device = start()
    try:
        end = time.monotonic() + 20
        while _refused(port):
            assert time.monotonic() < end
            time.sleep(0.05)
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait(f"typeof hello === 'object' && {LIVE}")
        camera.off()
        browser.wait(f"({BANNER}).includes('opened again')")
        camera.on()
        browser.wait(LIVE)
        device.send_signal(signal.SIGSTOP)
        browser.wait(NOT_LIVE, 5)
        device.send_signal(signal.SIGCONT)
        browser.wait(LIVE)
        device.kill()
        browser.wait(f"({BANNER}).includes('the connection to the device is lost')", 5)
        device.wait()
        device = start()
        browser.wait(LIVE, 20)
        assert browser.ask("pictureAge()") < 1000
    finally:
        device.kill()
        device.wait()
        camera.off()
        browser.open("about:blank")


class PausedNetwork:
    """A network between the page and its viewer, on which nothing moves while `paused` is set."""

    def __init__(self, page: Page) -> None:
        self._to = urlsplit(page.url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.paused = threading.Event()
        self._open: list[socket.socket] = []

    def __enter__(self) -> PausedNetwork:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((self._to.hostname or "", self._to.port or 0))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                while self.paused.is_set():
                    time.sleep(0.01)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for each in self._open:
            each.close()


def _refused(port: int) -> bool:
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) != 0
