"""Choose the source that a path, a glob, a URL or `-` names, and open it."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from medtex_edge.errors import DataError, SettingsError, SourceError
from medtex_edge.image.photo import SUFFIXES
from medtex_edge.runtime.sources.base import FrameSource
from medtex_edge.runtime.sources.photos import PhotoSource

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".ogv", ".ts", ".webm", ".wmv", ".y4m"}
)
STREAM_SCHEMES = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")


def open_source(
    spec: str, *, leave_out: Path | None = None, kind: str | None = None, size: tuple[int, int] | None = None
) -> FrameSource:
    """Open a file, folder, glob, video, stream URL, or `-` for standard input, of which alone `kind` and `size` speak.

    `leave_out` is a folder that is being written to: a folder that contains it must not read its own overlays.
    Raises `SettingsError` for settings that this source has not, `SourceError` for what is not there or of no known
    kind, `DataError` for a folder without photographs.
    """
    # Imported here since photographs need nothing of video.
    from medtex_edge.runtime.sources.video import VideoFile

    if spec == "-":
        from medtex_edge.runtime.sources.stdin import open_stdin

        return open_stdin(kind, size)
    if kind is not None or size is not None:
        raise SettingsError(
            f"{without_secrets(spec)} says its own size and format", hint="--size and --format are for --source -"
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", spec):
        scheme = urlsplit(spec).scheme.lower()
        if scheme not in STREAM_SCHEMES:
            raise SourceError(
                f"{without_secrets(spec)}: expected a URL of {', '.join(STREAM_SCHEMES)}, got {scheme}",
                hint="name a file by its path",
            )
        return _open_url(spec, scheme)
    path = Path(spec).expanduser()
    if path.is_dir():
        return PhotoSource(_photos_in(path, leave_out), str(path))
    if path.exists():
        if path.suffix.lower() in SUFFIXES:
            return PhotoSource([path], str(path))
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return VideoFile(path)
        raise SourceError(
            f"{path}: expected a photograph ({', '.join(sorted(SUFFIXES))}) or a video "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}), got {path.suffix or 'a name without an ending'}",
            hint="rename or convert it; for a camera use --camera",
        )
    if any(c in spec for c in "*?["):
        return _matching(spec, leave_out)
    raise SourceError(
        f"{path}: no such file or folder",
        hint="name a photograph, a folder of them, a glob in quotes, a video or a stream's URL",
    )


def _open_url(url: str, scheme: str) -> FrameSource:
    from medtex_edge.runtime.sources.http_mjpeg import HttpMjpeg, NotMjpeg
    from medtex_edge.runtime.sources.stream import Stream

    if scheme in ("http", "https"):
        try:
            return HttpMjpeg(url, without_secrets(url))
        except NotMjpeg:
            pass
    return Stream(url, without_secrets(url))


def without_secrets(url: str) -> str:
    """The URL without user, password and query, for readings, messages and logs."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "...." if parts.query else "", ""))


def _photos_in(folder: Path, leave_out: Path | None) -> list[Path]:
    """Every photograph in the folder and below, by name, hidden ones left out."""
    files = [
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and not _within(path, leave_out)
    ]
    photos = sorted(path for path in files if path.suffix.lower() in SUFFIXES and not path.is_dir())
    if not photos:
        videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        raise DataError(
            f"{folder}: no photograph in it ({', '.join(sorted(SUFFIXES))})",
            hint=f"for a video name the file itself, such as {videos[0]}" if videos else "name another folder",
        )
    return photos


def _matching(pattern: str, leave_out: Path | None) -> PhotoSource:
    # Not Path.glob, which needs the pattern split into a folder and the rest.
    found = glob.glob(str(Path(pattern).expanduser()), recursive=True)  # noqa: PTH207
    paths = sorted(path for path in map(Path, found) if not path.is_dir() and not _within(path, leave_out))
    if not paths:
        raise SourceError(f"{pattern}: no file matches", hint="put the pattern in quotes and check the folder")
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        raise SourceError(
            f"{pattern}: expected photographs alone, got the video {videos[0]} among them",
            hint="name one video by itself",
        )
    return PhotoSource(paths, pattern)


def _within(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())
