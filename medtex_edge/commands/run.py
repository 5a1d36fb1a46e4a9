"""`medtex-edge run`: a bundle on a camera, a video, a stream or photographs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from medtex_edge.errors import SettingsError


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", value or "")
    if value is not None and found is None:
        raise click.BadParameter(f"expected WIDTHxHEIGHT such as 1920x1080, got {value!r}", ctx, param)
    return (int(found[1]), int(found[2])) if found else None


def _auto_or_number(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    if value in (None, "auto"):
        return value
    if not re.fullmatch(r"[1-9]\d{0,6}", value or ""):
        raise click.BadParameter(f"expected a positive whole number or auto, got {value!r}", ctx, param)
    return int(value or 0)


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--camera", is_flag=False, flag_value="0", metavar="[N|/dev/videoN|csi|gst:PIPELINE]",
    help="A camera by number or path, the CSI connector of a Jetson, or a GStreamer pipeline. Alone it means camera 0.",
)  # fmt: skip
@click.option(
    "--source", metavar="WHAT",
    help="A photograph, a folder of them, a glob in quotes, a video, the URL of a stream, or - for standard input.",
)  # fmt: skip
@click.option(
    "--camera-format", default="auto", show_default=True, type=click.Choice(["auto", "yuyv", "nv12", "mjpg", "grey"]),
    help="Pixel format of the camera. Raw formats need no decoder; mjpg is for large frames over USB 2.",
)  # fmt: skip
@click.option(
    "--size", callback=_size, metavar="WxH", help="Frame size of the camera, or of raw frames on standard input."
)
@click.option("--fps", type=click.FloatRange(1, 1000), metavar="N", help="Frames per second that the camera is set to.")
@click.option("--exposure", callback=_auto_or_number, metavar="MICROSECONDS|auto", help="Lock the camera's exposure.")
@click.option(
    "--white-balance", callback=_auto_or_number, metavar="KELVIN|auto", help="Lock the camera's white balance."
)
@click.option(
    "--format", "format", type=click.Choice(["mjpeg", "bgr", "nv12", "yuyv", "grey"]),
    help="Format of standard input.  [default: mjpeg]",
)  # fmt: skip
@click.option(
    "--save", type=click.Path(path_type=Path),
    help="Save the overlay to a video (name.mp4 or name.avi), or to a folder for photographs.",
)  # fmt: skip
@click.option(
    "--readings", type=click.Path(path_type=Path), help="Write one JSON reading per frame (docs/reference/readings.md)."
)  # fmt: skip
@click.option("--no-display", is_flag=True, help="Open no window.")
@click.option("--display", is_flag=True, help="Open a window in addition to the page of --serve.")
@click.option(
    "--serve", is_flag=False, flag_value="127.0.0.1:8710", metavar="[ADDRESS:PORT]",
    help="Serve a live page for the browser instead of a window (docs/how-to/live.md). Alone it means 127.0.0.1:8710.",
)  # fmt: skip
@click.option(
    "--token-file", type=click.Path(path_type=Path),
    help="File with the token for viewers; required if other machines can reach the page.  [or MEDTEX_EDGE_TOKEN]",
)  # fmt: skip
@click.option("--max-frames", type=click.IntRange(1), help="End the run after this number of readings.")
@click.option(
    "--backend", default="auto", show_default=True, metavar="ENGINE[:PROVIDER]",
    help="auto (TensorRT where it is there, else ONNX Runtime), tensorrt, onnxruntime, or onnxruntime:PROVIDER.",
)  # fmt: skip
@click.option("--require-tensorrt", is_flag=True, help="Fail if there is no TensorRT engine of the bundle.")
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8"]),
    help="The precision of the bundle's graph.  [default: fp16 on TensorRT where the bundle has it, else fp32]",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="CPU cores for one inference.  [default: all]")
@click.option(
    "--retries", type=click.IntRange(0),
    help="Attempts to reopen a camera or stream whose frames have stopped.  [default: without limit]",
)  # fmt: skip
@click.option(
    "--smooth", type=click.FloatRange(0, 10), metavar="SECONDS",
    help="Time constant of the average over readings, reset with each new scene; 0: off.  [default: 0.3 live, else 0]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.pass_context
def run(ctx: click.Context, /, bundle: Path | None, **options: Any) -> int:
    """Read a camera, a video or photographs with BUNDLE (default: the newest *.medtex here).

    \b
    medtex-edge run --camera
    medtex-edge run eye.medtex --source photos/ --save overlays/ --readings readings.jsonl
    medtex-edge run --camera /dev/video2 --size 1920x1080 --fps 30 --exposure 8000 --white-balance 4500
    medtex-edge run --camera csi --size 1920x1080
    medtex-edge run --source rtsp://192.168.0.9/live --no-display --readings readings.jsonl
    medtex-edge run eye.medtex --camera --serve
    rpicam-vid -t 0 --codec mjpeg -o - | medtex-edge run --source -

    Every frame gets a verdict: referable, not referable, or ungradable with its reason. The run ends with the source,
    by q in the window (h shows the keys), or by Ctrl-C. A camera or stream whose frames stop is reopened until it is
    back. A setting that the camera's driver does not accept is an error, which names the driver's own value.

    If TensorRT is installed but has no engine of the bundle yet, ONNX Runtime reads a camera or stream at once. The
    engine is built meanwhile, checked, cached for the next run, and takes over between two frames.

    Exit codes: 0 success, 3 the bundle is damaged or this device does not reproduce it, 5 nothing could be read,
    6 the camera or stream could not be opened or has stopped, 7 the engine is missing or fails, 9 an output could not
    be written, 130 interrupted before the end of the files.
    """
    from medtex_edge.runtime.session import Options, Session
    from medtex_edge.runtime.sources.camera import CameraSettings
    from medtex_edge.settings import newest_bundle

    settings = CameraSettings(
        format=options.pop("camera_format"),
        **{name: options.pop(name) for name in ("size", "fps", "exposure", "white_balance")},
    )
    no_display, display = options.pop("no_display"), options.pop("display")
    if no_display and display:
        raise SettingsError("expected --display or --no-display, got both", hint="omit one of them")
    options["display"] = display or (False if no_display else None)
    camera, source = _one_of(ctx, options.pop("camera"), options.pop("source"))
    chosen = Options(bundle=bundle or newest_bundle(), camera=camera, source=source, settings=settings, **options)
    return Session(chosen).run()


def _one_of(ctx: click.Context, camera: str | None, source: str | None) -> tuple[str | None, str | None]:
    """Camera or source; the command line wins over medtex.toml. Raises `SettingsError` for both or neither."""
    if camera is not None and source is not None:
        typed = [ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("camera", "source")]
        if typed[0] == typed[1]:
            raise SettingsError(
                f"expected --camera or --source, got both ({camera} and {source})", hint="omit one of them"
            )
        return (camera, None) if typed[0] else (None, source)
    if camera is None and source is None:
        raise SettingsError(
            "expected --camera or --source, got neither",
            hint="--camera for camera 0; --source PATH for photographs, a folder, a video or a stream's URL",
        )
    return camera, source
