"""The screens of a run: a window, a page in the browser, both or neither."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from medtex_edge.bundle import Bundle
from medtex_edge.runtime.display.base import Viewer
from medtex_edge.runtime.display.snapshot import Snapshots
from medtex_edge.runtime.display.window import Probe, Window
from medtex_edge.runtime.sources.base import FrameSource

if TYPE_CHECKING:
    from medtex_edge.runtime.web.server import Page

FRAMES = "frames"  # the folder that the window saves to


class Screens:
    """A context manager. Made first, so that an address that cannot be used is reported before anything else is done.

    `alone`: the window is the only output, so that closing it ends the run. Raises `SettingsError`.
    """

    def __init__(
        self,
        *,
        window: bool,
        serve: str | None,
        token_file: Path | None,
        alone: bool,
        on_message: Callable[[str], None],
    ) -> None:
        self._alone = alone and serve is None
        self._on_message = on_message
        self._name = ""
        self._stack = ExitStack()
        self._snapshots: Snapshots | None = None
        self._page: Page | None = None
        self.window: Window | None = None
        self._probe = Probe() if window else None  # runs while the bundle is read
        self._serve = None if serve is None else _listen(serve, token_file, self._stack)

    def open(self, bundle: Bundle, sha256: str, source: FrameSource) -> None:
        """Open the page and the window, which show every frame offered from now on."""
        self._name = source.name
        if self._serve is not None:
            self._page = self._stack.enter_context(self._serve(bundle, sha256, source, self._on_message))
            end = "" if source.stream else "; it keeps the last photograph until Ctrl-C"
            self._on_message(f"live page: {self._page.url}{end}")
        why = "" if self._probe is None else self._probe.why_not()
        if why:
            self._on_message(f"no window: {why}; the run goes on without it (--no-display avoids the attempt)")
        elif self._probe is not None:
            self._snapshots = Snapshots(Path.cwd() / FRAMES, bundle.contract, sha256, self._on_message)
            self.window = Window(
                bundle.contract, self._snapshots, live=source.live, alone=self._alone, on_message=self._on_message
            )
            self._stack.callback(self._snapshots.close)
            self._stack.callback(self.window.close)

    @property
    def viewers(self) -> tuple[Viewer, ...]:
        """The viewers in addition to the window."""
        return () if self._page is None else (self._page,)

    def tick(self, lost_s: float, progress: str = "") -> None:
        """Update the page; for the main thread. `lost_s`: seconds without frames; `progress`: of an engine build."""
        if self._page is not None:
            self._page.tick(f"{self._name} is being opened again" if lost_s > 0 else "", progress)

    def close(self) -> list[dict[str, Any]]:
        """Close them; returns their counts as entries of a summary's sinks."""
        self._stack.close()
        saved = self._snapshots if self._snapshots is not None and self._snapshots.requested else None
        return [each.to_json() for each in (self._page, saved) if each is not None]

    def __enter__(self) -> Screens:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _listen(
    serve: str, token_file: Path | None, stack: ExitStack
) -> Callable[[Bundle, str, FrameSource, Callable[[str], None]], Page]:
    """Start to listen, and return the function that makes the page once there is something to show."""
    # Imported here since only a page needs the extra.
    from medtex_edge.runtime.web import address
    from medtex_edge.runtime.web.access import AccessPolicy
    from medtex_edge.runtime.web.feed import Feed
    from medtex_edge.runtime.web.server import Page
    from medtex_edge.runtime.web.upload import UploadReader

    where, token = address.parse(serve), address.read_token(token_file)
    listener = address.listen(where, token)
    stack.callback(listener.close)
    policy = AccessPolicy(address.names(where), token, loopback=address.is_loopback(listener))

    def page(bundle: Bundle, sha256: str, source: FrameSource, on_message: Callable[[str], None]) -> Page:
        reader = UploadReader(bundle, sha256, policy)
        return Page(listener, Feed(bundle.contract, sha256, source), policy, on_message, reader)

    return page
