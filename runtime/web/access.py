"""Who is served: the requested host, the page that sends the request, and the token. No decision is made elsewhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

COOKIE = "medtex-edge"


class AccessPolicy:
    """The rules of one page. `loopback`: it is served to this machine alone."""

    def __init__(self, names: frozenset[str], token: str, *, loopback: bool) -> None:
        self._names, self._token, self._loopback = names, token.encode(), loopback
        # The same after a restart, so that a screen on a wall stays signed in; the token cannot be computed from it.
        self.cookie = hmac.new(self._token, b"medtex-edge page", hashlib.sha256).hexdigest()

    def refuse(self, headers: Mapping[str, str]) -> str:
        """Why a request is not answered at all, or ''. Header names in lower case.

        A foreign Host is a name that somebody points at this address (DNS rebinding). A foreign Origin is another page
        in the viewer's browser, which may open WebSockets to any address.
        """
        host = headers.get("host", "")
        if not self._knows(host):
            return f"this page is not {host!r}: open it by its number, or serve it under that name"
        origin = headers.get("origin")
        if origin is not None:
            parts = urlsplit(origin) if origin.isascii() else urlsplit("")
            if parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower():
                return f"a page of {origin!r} may not request this"
        return ""

    def allows(self, headers: Mapping[str, str]) -> bool:
        """Whether the request carries the token, as this page's cookie or as `Authorization: Bearer`."""
        if not self._token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(given.strip())
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and _same(cookies[COOKIE].value, self.cookie)

    def is_token(self, given: str) -> bool:
        """Whether this is the token, in a time that does not depend on how much of it is right."""
        return bool(self._token) and _same(given, self._token.decode())

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            number = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        # A number cannot be rebound, but 0.0.0.0 reaches loopback from any page.
        return number.is_loopback if self._loopback else not number.is_unspecified


def headers_for(page: str) -> dict[str, str]:
    """The headers that go with the page: nothing but its own script and style may run, nobody may frame it."""
    script, style = (_hashes(page, element) for element in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-store",
    }


def _hashes(page: str, element: str) -> str:
    found = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), right.encode())
