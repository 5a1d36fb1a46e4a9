"""One run from the user's side: open everything in order, check the device, run, report the summary."""

from __future__ import annotations

import datetime
import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from medtex_edge.bundle import Bundle
from medtex_edge.errors import DataError, MedtexError, SettingsError, StorageError
from medtex_edge.files import sha256
from medtex_edge.runtime import console
from medtex_edge.runtime.backend import Backend, handover
from medtex_edge.runtime.backend.golden_check import check_golden
from medtex_edge.runtime.backend.handover import Handover
from medtex_edge.runtime.pipeline import Pipeline
from medtex_edge.runtime.reading import Reason
from medtex_edge.runtime.scorer import Scorer
from medtex_edge.runtime.screens import Screens
from medtex_edge.runtime.sinks.base import Sink
from medtex_edge.runtime.sinks.photos import PhotoFolder
from medtex_edge.runtime.sinks.readings import ReadingsFile
from medtex_edge.runtime.sinks.video import VIDEO_CODES, VideoSink
from medtex_edge.runtime.smoothing import LIVE_S
from medtex_edge.runtime.sources.base import FrameSource
from medtex_edge.runtime.sources.camera import CameraSettings, open_camera
from medtex_edge.runtime.sources.open import open_source
from medtex_edge.runtime.sources.photos import PhotoSource
from medtex_edge.runtime.summary import Summary

INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """The options of `medtex-edge run`; exactly one of `camera` and `source` is given."""

    bundle: Path
    camera: str | None = None
    source: str | None = None
    save: Path | None = None
    readings: Path | None = None
    display: bool | None = None  # None: a window unless there is a page
    serve: str | None = None
    token_file: Path | None = None
    max_frames: int | None = None
    backend: str = "auto"  # TensorRT where it is there, else ONNX Runtime
    precision: str | None = None  # None: fp16 for TensorRT where the bundle has it, else fp32
    require_tensorrt: bool = False
    threads: int | None = None
    retries: int | None = None  # None: without limit
    settings: CameraSettings = field(default_factory=CameraSettings)
    format: str | None = None  # of standard input
    smooth: float | None = None  # seconds; None: the default of the kind of source
    as_json: bool = False


class Session:
    """Runs once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def run(self) -> int:
        """Run to the end and return the exit code. Raises `MedtexError`."""
        o = self._options
        with ExitStack() as stack:
            screens = stack.enter_context(self._screens())
            bundle = Bundle.open(o.bundle)
            digest = sha256(o.bundle)
            contract = bundle.contract
            backend = stack.enter_context(
                handover.open(
                    bundle, o.backend, precision=o.precision, threads=o.threads, require=o.require_tensorrt,
                    on_message=self._print_line,
                )
            )  # fmt: skip
            drift = check_golden(backend, bundle, o.precision or "fp32")
            self._print_line(
                f"{bundle.path.name}: {contract.name}, {len(contract.classes)} classes, by {backend.name}; "
                f"{drift.count} golden vectors hold (off by {max(drift.probability, drift.saliency):.1g})"
            )
            source = self._open_source()
            stack.callback(source.close)
            summary = Summary(source.name, str(o.bundle), digest, backend.name)
            reading_sinks: list[Sink] = []
            picture_sinks = self._picture_sinks(source)
            if o.readings is not None:
                self._refuse_input(o.readings, source)
                reading_sinks.append(ReadingsFile(o.readings, contract, digest))
            if not source.stream and not o.as_json:
                reading_sinks.append(console.Lines())
            scorer = Scorer(
                backend, contract, live=source.live, stream=source.stream, rate=source.rate,
                smooth_s=o.smooth if o.smooth is not None else LIVE_S if source.live else 0.0,
            )  # fmt: skip
            screens.open(bundle, digest, source)
            pipeline = Pipeline(
                source, scorer, contract, summary, reading_sinks=reading_sinks, picture_sinks=picture_sinks,
                screen=screens.window, viewers=screens.viewers, on_message=self._print_line, max_frames=o.max_frames,
                retries=o.retries,
            )  # fmt: skip
            return self._go(pipeline, source, summary, screens, backend)

    def _go(
        self, pipeline: Pipeline, source: FrameSource, summary: Summary, screens: Screens, backend: Backend
    ) -> int:  # fmt: skip
        failure: MedtexError | None = None
        changing = backend if isinstance(backend, Handover) else None
        if changing is not None:
            self._prepare(changing, source)
        with _signals(pipeline), console.Status(self._err, source, self._print_line) as status:

            def tick(pipeline: Pipeline) -> None:
                progress = "" if changing is None else changing.progress
                status.tick(pipeline, progress)
                screens.tick(pipeline.lost_s, progress)

            try:
                pipeline.run(tick)
            except MedtexError as error:
                failure = error
        if changing is not None:
            summary.backend = changing.name
            summary.notes.extend(changing.notes)
        summary.sinks.extend(screens.close())
        if summary.verdicts or not isinstance(failure, DataError):
            self._report(summary)
        if failure is not None:
            raise failure
        return self._exit_code(source, summary)

    def _exit_code(self, source: FrameSource, summary: Summary) -> int:
        """The exit code of a run that has ended. Raises `StorageError` or `DataError` for unusable results."""
        broken = [sink["error"] for sink in summary.sinks if sink["error"]]
        if broken:
            raise StorageError(
                f"{len(broken)} of {len(summary.sinks)} outputs could not be finished: {'; '.join(broken)}",
                hint="free some space or choose another place, then run again",
            )
        if summary.read and summary.refused[Reason.UNREADABLE.value] == summary.read:
            raise DataError(
                f"{source.name}: none of {summary.read} files could be read as a photograph",
                hint="the lines above name the reason of each" if not self._options.as_json else "",
            )
        # Photographs that were all read stay on display until Ctrl-C, so that this is no interruption.
        whole = source.live or sum(summary.verdicts.values()) == source.count
        return INTERRUPTED if summary.ended == "interrupted" and not whole else 0

    def _prepare(self, backend: Handover, source: FrameSource) -> None:
        """A file is read by one backend from end to end, so that a second run gives the same readings."""
        if source.live:
            backend.begin()
        else:
            again = f"medtex-edge engine build {self._options.bundle}"
            self._print_line(f"{backend.name} serves: TensorRT has no engine of this bundle here yet (`{again}`)")

    def _open_source(self) -> FrameSource:
        o = self._options
        if o.camera is not None:
            if o.format is not None:
                raise SettingsError("--format is for --source -", hint="--camera-format is a camera's")
            return open_camera(o.camera, o.settings)
        assert o.source is not None
        if o.settings != CameraSettings(size=o.settings.size):
            raise SettingsError("--camera-format, --fps, --exposure and --white-balance are for --camera")
        folder = o.save if o.save is not None and o.save.suffix.lower() not in VIDEO_CODES else None
        return open_source(o.source, leave_out=folder, kind=o.format, size=o.settings.size)

    def _picture_sinks(self, source: FrameSource) -> list[Sink]:
        """A video for a stream, a folder for photographs."""
        path = self._options.save
        if path is None:
            return []
        folder = path.is_dir() or not path.suffix
        if isinstance(source, PhotoSource):
            if not folder:
                raise SettingsError(
                    f"--save: expected a folder for the overlays of photographs, got {path}",
                    hint=f"such as --save {path.with_suffix('')}",
                )
            return [PhotoFolder(path, source.paths)]
        if folder:
            path = path / f"{_file_name(source)}.mp4"
        self._refuse_input(path, source)
        return [VideoSink(path, source.rate, live=source.live)]

    def _refuse_input(self, path: Path, source: FrameSource) -> None:
        """Refuse an output that would replace an input. Raises `SettingsError`."""
        inputs = [self._options.bundle, Path(source.name)]
        inputs += source.paths if isinstance(source, PhotoSource) else ()
        if any(path.resolve() == each.resolve() for each in inputs):
            raise SettingsError(f"{path} is read by this run and cannot be written too", hint="choose another name")

    def _screens(self) -> Screens:
        o = self._options
        if o.token_file is not None and o.serve is None:
            raise SettingsError(
                "--token-file is for --serve, which is not given", hint="add --serve, or omit --token-file"
            )
        return Screens(
            window=o.serve is None if o.display is None else o.display, serve=o.serve, token_file=o.token_file,
            alone=o.readings is None and o.save is None, on_message=self._print_line,
        )  # fmt: skip

    def _report(self, summary: Summary) -> None:
        if self._options.as_json:
            json.dump(summary.to_json(), sys.stdout, indent=2, allow_nan=False)
            sys.stdout.write("\n")
            sys.stdout.flush()
        else:
            console.print_summary(summary)

    def _print_line(self, line: str) -> None:
        console.print_line(self._err, line)


@contextmanager
def _signals(pipeline: Pipeline) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run with finished outputs; a second signal ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, frame: Any) -> None:
        pipeline.stop("interrupted")
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _file_name(source: FrameSource) -> str:
    """A name for a video of this source: a file's own, or the camera's with the time, so that no file is replaced."""
    if not source.live:
        return Path(source.name).stem or "video"
    name = re.sub(r"[^A-Za-z0-9]+", "-", source.name).strip("-") or "camera"
    return f"{name}-{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"
