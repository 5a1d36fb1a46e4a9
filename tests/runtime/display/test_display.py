"""The window: what is seen, what the keys do, and what happens when the glass breaks."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from medtex_edge.image.geometry import FieldOfView
from medtex_edge.runtime.display import text
from medtex_edge.runtime.display.latest_frame import LatestFrame
from medtex_edge.runtime.display.overlay import STRONGEST_ALPHA, Overlay, blend_table
from medtex_edge.runtime.display.snapshot import Snapshots
from medtex_edge.runtime.display.window import LARGEST, Window
from medtex_edge.runtime.reading import Reading, Reason, Verdict

Pixels = npt.NDArray[np.uint8]
CONTRACT = bundles.contract()


class Glass:
    """OpenCV's window, as far as it is used: keys go in, pictures come out."""

    def __init__(self) -> None:
        self.keys: deque[str] = deque()
        self.shown: list[Pixels] = []
        self.visible = 1.0
        self.broken = False

    def wait_key(self, milliseconds: int) -> int:
        if self.broken:
            raise cv2.error("no display")
        return ord(self.keys.popleft()) if self.keys else -1

    def show(self, title: str, picture: Pixels) -> None:
        self.shown.append(picture.copy())


opened: list[Snapshots] = []


@pytest.fixture
def glass(monkeypatch: pytest.MonkeyPatch) -> Iterator[Glass]:
    made = Glass()
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: made.visible)
    monkeypatch.setattr(cv2, "waitKey", made.wait_key)
    monkeypatch.setattr(cv2, "imshow", made.show)
    yield made
    while opened:
        opened.pop().close()


def frame(seed: int = 0, side: int = 480) -> Pixels:
    return bundles.disc(side, width=side * 4 // 3, seed=seed)


def reading(pixels: Pixels, index: int = 0) -> Reading:
    height, width = pixels.shape[:2]
    saliency = np.zeros((16, 16), np.float32)
    saliency[6:10, 6:10] = 1
    return Reading(
        source="camera 0", frame=index, captured=datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.timezone.utc),
        age_ms=40.0, size=(width, height), verdict=Verdict.REFERABLE, label="severe",
        probabilities=np.array([0.1, 0.2, 0.7], np.float32), referable_probability=0.7, saliency=saliency,
        field_of_view=FieldOfView((width - height) // 2, 0, height, 1.0),
    )  # fmt: skip


def window(folder: Path, messages: list[str] | None = None, *, live: bool = True, alone: bool = True) -> Window:
    report = (messages if messages is not None else []).append
    opened.append(Snapshots(folder, CONTRACT, "ab" * 32, report))
    return Window(CONTRACT, opened[-1], live=live, alone=alone, on_message=report)


def offer(to: Window, pixels: Pixels, index: int = 0, *, age_s: float = 0.0) -> None:
    to.offer(pixels, reading(pixels, index), time.monotonic() - age_s, 25.0)


def pressed(glass: Glass, to: Window, keys: str) -> Pixels:
    """The picture after those keys."""
    glass.keys.extend(keys)
    for _ in range(len(keys) + 1):
        assert to.poll()
    return glass.shown[-1]


def middle(pixels: Pixels) -> Pixels:
    """Where there is neither text nor border."""
    height, width = pixels.shape[:2]
    return pixels[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8]


def test_without_overlay_the_frame_is_bare_and_says_that_the_overlay_is_off(glass: Glass, tmp_path: Path) -> None:
    viewer, pixels = window(tmp_path), frame()
    offer(viewer, pixels)
    assert viewer.poll()
    assert (middle(glass.shown[-1]) != middle(pixels)).any()
    bare = pressed(glass, viewer, "o")
    changed = (bare != pixels).any(axis=2)
    assert 0 < changed.mean() < 0.05, "a note, and nothing else"
    assert not changed[: len(pixels) * 3 // 4].any()
    offer(viewer, pixels)
    assert (middle(pressed(glass, viewer, "o")) != middle(pixels)).any()


def test_a_paused_picture_stands_is_marked_and_ages_while_frames_go_on(glass: Glass, tmp_path: Path) -> None:
    viewer, first, second = window(tmp_path), frame(1), frame(2)
    offer(viewer, first)
    running = pressed(glass, viewer, "o")
    paused = pressed(glass, viewer, " ")
    offer(viewer, second)
    time.sleep(0.25)
    later = pressed(glass, viewer, "")
    assert np.array_equal(middle(later), middle(first))
    assert (running != paused).any()
    assert (paused != later).any(), "the age that it shows has grown"
    assert np.array_equal(middle(pressed(glass, viewer, " ")), middle(second))


def test_a_paused_picture_never_shows_the_age_that_it_had_when_it_was_new(glass: Glass, tmp_path: Path) -> None:
    viewer, pixels = window(tmp_path), frame()
    offer(viewer, pixels, age_s=0.5)
    young = pressed(glass, viewer, " ")
    time.sleep(0.25)
    old = pressed(glass, viewer, "")
    footer = np.s_[-40:, : pixels.shape[1] // 2]
    assert (young[footer] != old[footer]).any()


def test_a_live_picture_that_stands_is_marked_within_a_second_with_or_without_overlay(
    glass: Glass, tmp_path: Path
) -> None:
    for keys in ("", "o"):
        viewer, pixels = window(tmp_path), frame()
        offer(viewer, pixels, age_s=1.1)
        stale = pressed(glass, viewer, keys)
        assert middle(stale).mean() < 0.7 * middle(pixels).mean()
        viewer = window(tmp_path, live=False)
        offer(viewer, pixels, age_s=60)
        assert middle(pressed(glass, viewer, keys)).mean() > 0.7 * middle(pixels).mean()


def test_another_opacity_is_said_on_the_picture_and_leaves_the_fixed_scale_alone(glass: Glass, tmp_path: Path) -> None:
    before = blend_table()
    viewer, pixels = window(tmp_path), frame()
    offer(viewer, pixels)
    usual = pressed(glass, viewer, "")
    strong = pressed(glass, viewer, "++")
    weak = pressed(glass, viewer, "----")
    away = [np.abs(middle(each).astype(int) - middle(pixels)).sum() for each in (weak, usual, strong)]
    assert away == sorted(away)
    assert away[0] < away[2]
    note = np.s_[pixels.shape[0] * 3 // 4 : -60]
    assert (strong[note] != usual[note]).any()
    assert np.array_equal(blend_table(), before)
    for key in "0+-":
        again = pressed(glass, viewer, key)
    assert np.array_equal(middle(again), middle(usual))
    assert np.array_equal(again[note], usual[note])


def test_a_saved_frame_is_kept_bare_drawn_and_as_a_reading(glass: Glass, tmp_path: Path) -> None:
    messages: list[str] = []
    viewer, pixels = window(tmp_path / "frames", messages), frame()
    offer(viewer, pixels, 7)
    pressed(glass, viewer, "s")
    until(lambda: viewer.poll() and messages)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    base = "camera-0-20260102T030405678Z-7"
    assert names == [f"{base}-overlay.png", f"{base}.json", f"{base}.png"]
    assert np.array_equal(read(tmp_path / f"frames/{base}.png"), pixels)
    drawn = pixels.copy()
    Overlay(CONTRACT).draw(drawn, reading(pixels, 7), 25.0)
    assert np.array_equal(read(tmp_path / f"frames/{base}-overlay.png"), drawn)
    row = json.loads((tmp_path / f"frames/{base}.json").read_text())
    assert (row["frame"], row["verdict"]) == (7, "referable")
    assert messages == [f"saved {tmp_path / 'frames' / base}.png"]


def test_a_frame_saved_with_another_opacity_says_so_in_its_name_and_without_overlay_there_is_none(
    glass: Glass, tmp_path: Path
) -> None:
    messages: list[str] = []
    viewer = window(tmp_path, messages)
    offer(viewer, frame(), 1)
    pressed(glass, viewer, "+s")
    until(lambda: viewer.poll() and len(messages) == 1)
    offer(viewer, frame(), 2)
    pressed(glass, viewer, "os")
    until(lambda: viewer.poll() and len(messages) == 2)
    drawn = sorted(path.name.rpartition("Z-")[2] for path in tmp_path.glob("*.png"))
    assert drawn == ["1-overlay-at-65-percent.png", "1.png", "2.png"]


def test_a_disk_that_refuses_is_said_and_counted_and_the_window_goes_on(glass: Glass, tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("in the way")
    messages: list[str] = []
    snapshots = Snapshots(tmp_path / "frames", CONTRACT, "", messages.append)
    viewer = Window(CONTRACT, snapshots, live=True, on_message=messages.append)
    offer(viewer, frame())
    pressed(glass, viewer, "s")
    until(lambda: viewer.poll() and messages)
    assert messages[0].startswith("not saved: cannot write")
    snapshots.close()
    assert (snapshots.to_json()["written"], snapshots.to_json()["lost"]) == (0, 1)
    assert viewer.poll()


@pytest.mark.parametrize("key", ["q", "\x1b"])
def test_q_and_escape_end_the_run_also_when_it_has_other_outputs(key: str, glass: Glass, tmp_path: Path) -> None:
    viewer = window(tmp_path, alone=False)
    glass.keys.append(key)
    assert not viewer.poll()


def test_a_closed_window_ends_a_run_that_has_nothing_else_and_no_other(glass: Glass, tmp_path: Path) -> None:
    glass.visible = 0.0
    assert not window(tmp_path).poll()
    messages: list[str] = []
    viewer = window(tmp_path, messages, alone=False)
    assert viewer.poll()
    offer(viewer, frame())
    assert viewer.poll()
    assert messages == ["the window was closed; the run goes on without it (Ctrl-C ends it)"]


def test_a_display_that_is_lost_does_not_end_the_run(glass: Glass, tmp_path: Path) -> None:
    messages: list[str] = []
    viewer = window(tmp_path, messages)
    glass.broken = True
    assert viewer.poll()
    assert viewer.poll()
    assert len(messages) == 1
    assert "the run goes on" in messages[0]


def test_the_help_names_every_key(glass: Glass, tmp_path: Path) -> None:
    viewer, pixels = window(tmp_path), frame()
    offer(viewer, pixels)
    before = pressed(glass, viewer, "o")
    helped = pressed(glass, viewer, "h")
    assert middle(helped).mean() < 0.6 * middle(before).mean()
    assert np.array_equal(middle(pressed(glass, viewer, "h")), middle(before))


def test_a_picture_larger_than_a_screen_is_shown_smaller_with_its_map_in_its_place(
    glass: Glass, tmp_path: Path
) -> None:
    pixels = cv2.resize(frame(), (3840, 2880), interpolation=cv2.INTER_NEAREST)
    viewer = window(tmp_path)
    offer(viewer, pixels)
    shown = pressed(glass, viewer, "")
    assert shown.shape[0] == LARGEST[1]
    bare = cv2.resize(pixels, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    centre, neighbour = np.s_[500:580, 680:760], np.s_[500:580, 350:430]
    assert np.abs(shown[centre].astype(int) - bare[centre]).mean() > 20
    assert np.array_equal(shown[neighbour], bare[neighbour])


def test_the_newest_picture_wins_and_no_frame_allocates() -> None:
    newest = LatestFrame()
    frames = [frame(seed, 240) for seed in range(6)]
    buffers = set()
    for turn in range(40):
        for index in range(3):
            newest.offer(frames[(turn + index) % 6], reading(frames[0], turn), 0.0, None)
        taken = newest.take()
        assert taken is not None
        assert np.array_equal(taken.pixels, frames[(turn + 2) % 6])
        assert taken.serial == 3 * turn + 3
        assert newest.take() is None
        buffers.add(taken.pixels.ctypes.data)
    assert len(buffers) == 2


def test_a_taken_picture_is_not_touched_by_the_frames_that_come_after_it() -> None:
    newest = LatestFrame()
    first = frame(0, 240)
    newest.offer(first, reading(first), 0.0, None)
    taken = newest.take()
    assert taken is not None
    for seed in range(1, 5):
        newest.offer(frame(seed, 240), reading(first), 0.0, None)
    assert np.array_equal(taken.pixels, first)


def test_two_threads_that_draw_text_at_once_draw_it_as_one_would() -> None:
    def drawn(bold: bool) -> Pixels:
        picture = np.zeros((48, 320, 3), np.uint8)
        text.put(picture, "REFERABLE 0.87", 4, 36, 28, (255, 255, 255), bold=bold)
        return picture

    right = {bold: drawn(bold) for bold in (False, True)}
    wrong: list[bool] = []

    def draw(bold: bool) -> None:
        for _ in range(200):
            if not np.array_equal(drawn(bold), right[bold]):
                wrong.append(bold)

    threads = [threading.Thread(target=draw, args=(bold,)) for bold in right]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_bare_frame_still_says_that_it_is_ungradable(glass: Glass, tmp_path: Path) -> None:
    pixels, now = frame(), datetime.datetime.now(datetime.timezone.utc)
    refused = Reading("camera 0", 0, now, 1.0, None, Verdict.UNGRADABLE, Reason.BLURRED, "sharpness 0.1")
    viewer = window(tmp_path)
    offer(viewer, pixels)
    graded = pressed(glass, viewer, "o")
    viewer.offer(pixels, refused, time.monotonic(), 25.0)
    assert (pressed(glass, viewer, "") != graded).sum() > 100


def read(path: Path) -> Pixels:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return pixels.astype(np.uint8)


def until(true: object, seconds: float = 10.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"


def test_the_opacity_that_the_overlay_was_made_for_is_the_default() -> None:
    assert np.array_equal(blend_table(), blend_table(STRONGEST_ALPHA))
    kept = [int(blend_table(alpha)[255, 0]) for alpha in (0.2, STRONGEST_ALPHA, 0.9)]
    assert kept == sorted(kept, reverse=True)
