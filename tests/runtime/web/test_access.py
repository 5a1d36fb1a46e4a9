"""The page's access policy: who is served, from where, and on which addresses."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from web_kit import TOKEN, Page, ViewerClient, ask, live, served
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from medtex_edge.cli import main
from medtex_edge.errors import SettingsError
from medtex_edge.runtime.web import address, server


def turned_away(page: Page, **how: Any) -> int:
    """The status with which a viewer is refused."""
    with pytest.raises(InvalidStatus) as refused:
        with connect(live(page), **how):
            pass
    return int(refused.value.response.status_code)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1.evil.example"]
)
def test_another_page_in_the_viewers_browser_gets_nothing(origin: str) -> None:
    with served() as page:
        assert turned_away(page, origin=origin) == 403
        assert ask(page, Origin=origin)[0] == 403
        own = page.url.rstrip("/")
        client = ViewerClient(page, origin=own)
        client.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8710", "0.0.0.0", "10.0.0.7:8710", "[::1", "", "a@b"])
def test_a_name_that_somebody_points_at_this_machine_gets_nothing(host: str) -> None:
    with served() as page:
        status, _, text = ask(page, Host=host)
        assert status in (400, 403)
        assert "canvas" not in text
        for known in ("localhost:9000", "127.0.0.1", "[::1]:8710"):
            assert ask(page, Host=known)[0] == 200


def test_without_the_token_there_is_a_sign_in_form_and_no_picture() -> None:
    with served(token=TOKEN) as page:
        status, _, text = ask(page)
        assert status == 401
        assert 'data-page="token"' in text
        assert TOKEN not in text
        for headers in ({}, {"Cookie": "medtex-edge=abc"}, {"Authorization": "Bearer wrong"}, {"Cookie": '=;"; a b=['}):
            assert turned_away(page, additional_headers=headers) == 401


def test_the_token_signs_in_by_a_cookie_that_scripts_and_other_sites_do_not_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_WRONG_TOKEN_S", 0.01)
    with served(token=TOKEN) as page:
        for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "\u20ac" * 20, "x" * 100_000):
            assert ask(page, "POST", "/token", wrong)[0] == 401
        assert ask(page, "POST", "/token", TOKEN, Origin="http://evil.example")[0] == 403
        status, headers, _ = ask(page, "POST", "/token", TOKEN)
        assert status == 204
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert TOKEN not in cookie
        value = cookie.partition(";")[0]
        assert ask(page, Cookie=value)[0] == 200
        for headers in ({"Cookie": value}, {"Authorization": f"Bearer {TOKEN}"}):
            client = ViewerClient(page, additional_headers=headers)
            client.close()


def test_the_page_is_one_file_that_asks_nobody_else_for_anything() -> None:
    with served() as page:
        status, headers, text = ask(page)
        assert ask(page, path="/etc/passwd")[0] == 404
        assert ask(page, "POST")[0] == 405
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"(?!data:)", text)
    assert not re.search(r"@import|url\(|\son\w+=", text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8710", "127.0.0.1", 8710), ("9000", "127.0.0.1", 9000), ("localhost", "localhost", 8710),
        (":9000", "127.0.0.1", 9000), ("[::1]:9000", "::1", 9000), ("::1", "::1", 8710), ("0.0.0.0:0", "0.0.0.0", 0),
    ],
)  # fmt: skip
def test_an_address_can_be_given_in_every_usual_way(text: str, host: str, port: int) -> None:
    assert address.parse(text) == address.Address(host, port)


@pytest.mark.parametrize("text", ["eye.medtex", "/dev/video0", "127.0.0.1:65536", "127.0.0.1:x", "", "a b", "host:-1"])
def test_what_is_no_address_is_said_with_an_example(text: str) -> None:
    if not text:
        assert address.parse(text).port == 8710
        return
    with pytest.raises(SettingsError, match=r"expected an address such as 127\.0\.0\.1:8710"):
        address.parse(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_only_served_with_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="expected a token"):
        address.listen(address.Address(host, 0), "")


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SettingsError, match="Address already in use") as error:
            address.listen(address.Address("127.0.0.1", taken.getsockname()[1]), "")
    assert "another program listens there" in error.value.hint


def test_the_token_comes_from_the_file_or_the_variable_and_has_to_be_hard_to_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(address.TOKEN_VARIABLE, raising=False)
    assert address.read_token(None) == ""
    monkeypatch.setenv(address.TOKEN_VARIABLE, "e" * 20)
    assert address.read_token(None) == "e" * 20
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert address.read_token(path) == TOKEN
    for bad in ("", "short", "has spaces in it, many", "\u00e9" * 20):
        path.write_text(bad)
        with pytest.raises(SettingsError, match="expected 16 printable ASCII characters"):
            address.read_token(path)
    with pytest.raises(SettingsError, match="No such file"):
        address.read_token(tmp_path / "none")


def test_a_page_that_cannot_be_served_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(address.TOKEN_VARIABLE, raising=False)
    assert main(["run", "none.medtex", "--source", "none.png", "--serve", "0.0.0.0:0"]) == 2
    err = capsys.readouterr().err
    assert "expected a token" in err
    assert "--token-file FILE" in err
    assert main(["run", "none.medtex", "--source", "none.png", "--token-file", "t"]) == 2
    assert main(["run", "none.medtex", "--source", "none.png", "--display", "--no-display"]) == 2


def test_without_the_extra_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("starlette", "medtex_edge.runtime.web.s"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert main(["run", "none.medtex", "--source", "none.png", "--serve"]) == 2
    assert "pip install 'medtex-edge[web]'" in capsys.readouterr().err
