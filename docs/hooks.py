"""The examples in the commands' help as blocks of code, one command a line, on the page of the command line."""

from __future__ import annotations

import re
from typing import Any

# A paragraph of commands alone, as `\b` keeps them apart on the terminal.
_COMMANDS = re.compile(r"<p>(?:Example:\n)?((?: *(?:medtex-edge|rpicam-vid) [^<\n]*\n?)+)</p>")


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs with the HTML of each page."""
    if page.file.src_uri != "reference/cli.md":
        return html
    return _COMMANDS.sub(lambda found: f"<pre><code>{_aligned(found[1])}</code></pre>", html)


def _aligned(block: str) -> str:
    return "\n".join(line.strip() for line in block.splitlines())
