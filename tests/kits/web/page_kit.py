"""Parses an HTML page for its tests, and a name that would break one without escaping."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = "\"><img src=x onerror=alert(1)><script>alert(2)</script>&amp;'\x1b[31m\u202e"


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about a tag that is not closed in its turn."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
