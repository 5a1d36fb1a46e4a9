"""The parts of a report: whatever is text stays text, and only what the templates made is HTML."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from markupsafe import Markup
from page_kit import HOSTILE, Page

from medtex_edge.train.report import page as html

PARTS: dict[str, Callable[[str], Markup]] = {
    "title": html.title,
    "heading": lambda text: html.heading(text, text),
    "subheading": html.subheading,
    "contents": lambda text: html.contents([(text, text)]),
    "paragraph": lambda text: html.paragraph(text, text),
    "warning": lambda text: html.warning(text, text),
    "bullets": lambda text: html.bullets([text]),
    "footer": html.footer,
    "table": lambda text: html.table([text, text], [[text, text]]),
    "compare": lambda text: html.compare([text, text], [(text, text, [html.Cell(text, text, text)])]),
    "folded": lambda text: html.folded(text, Markup("<p>inside</p>")),
    "details": lambda text: html.details(text, text),
    "figure": lambda text: html.figure(b"png", text, text),
    "interval chart": lambda text: html.interval_chart([html.Interval(text, 0.8, 0.7, 0.9)], text),
}


@pytest.mark.parametrize("name", PARTS)
def test_hostile_text_adds_no_tag_and_no_attribute_to_any_part(name: str) -> None:
    harmless, hostile = (Page(html.page("report", [PARTS[name](text)])) for text in ("text", HOSTILE))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert [list(of) for _, of in hostile.tags] == [list(of) for _, of in harmless.tags]
    assert "\x1b" not in hostile.text
    assert "\u202e" not in hostile.text


def test_the_title_of_the_page_is_text() -> None:
    page = Page(html.page(HOSTILE, []))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(2)</script>" in page.text


def test_text_where_html_is_expected_is_escaped_and_not_trusted() -> None:
    page = Page(html.page("report", [HOSTILE]))  # type: ignore[list-item]
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>" not in html.join([html.paragraph("first"), HOSTILE])  # type: ignore[list-item]
    folded = html.folded("more", HOSTILE)  # type: ignore[arg-type]
    assert "<script>" not in folded


def test_parts_without_content_are_empty() -> None:
    assert not html.table(["a"], [])
    assert not html.compare(["a"], [])
    assert not html.bullets([])
    assert not html.contents([])
    assert not html.folded("more", html.EMPTY)
    assert not html.side_by_side([])
    assert not html.interval_chart([], "axis")


def test_a_table_without_a_head_has_no_head_row() -> None:
    assert "<thead>" not in html.table(["", ""], [["threshold", "0.3"]])
    assert '<td class="number">0.3</td>' in html.table(["", "value"], [["threshold", "0.3"]])
    assert "<td>0.3</td>" in html.table(["", "value"], [["threshold", "0.3"]], numbers=False)
