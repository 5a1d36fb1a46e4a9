"""Edge deployment toolkit for screening devices: train, export, run.

    import medtex_edge

    bundle = medtex_edge.open_bundle("eye.medtex")
    reading = bundle.read("photo.jpg")
    print(reading.verdict.value, reading.label, reading.probabilities)

The names in `__all__` are public; everything else may change between versions. Each name is imported when it is used
for the first time, so that `import medtex_edge` alone loads neither numpy nor OpenCV, ONNX Runtime or PyTorch.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers read it as true; the module typing would double the time of this import
if TYPE_CHECKING:
    from medtex_edge.api.bundle import OpenBundle, open_bundle
    from medtex_edge.api.reading import Reading
    from medtex_edge.api.stages import EvaluateResult, ExportResult, TrainResult, evaluate, export, train
    from medtex_edge.api.stream import stream
    from medtex_edge.errors import MedtexError
    from medtex_edge.runtime.reading import Reason, Verdict

__version__ = "0.1.0"
__all__ = [
    "EvaluateResult",
    "ExportResult",
    "MedtexError",
    "OpenBundle",
    "Reading",
    "Reason",
    "TrainResult",
    "Verdict",
    "__version__",
    "evaluate",
    "export",
    "open_bundle",
    "stream",
    "train",
]

# The module of each public name. The three stages are packages that can be called (see `medtex_edge.stage`).
_MODULES = {
    "EvaluateResult": "medtex_edge.api.stages",
    "ExportResult": "medtex_edge.api.stages",
    "MedtexError": "medtex_edge.errors",
    "OpenBundle": "medtex_edge.api.bundle",
    "Reading": "medtex_edge.api.reading",
    "Reason": "medtex_edge.runtime.reading",
    "TrainResult": "medtex_edge.api.stages",
    "Verdict": "medtex_edge.runtime.reading",
    "open_bundle": "medtex_edge.api.bundle",
    "stream": "medtex_edge.api.stream",
}
_STAGES = ("evaluate", "export", "train")


if not TYPE_CHECKING:  # a type checker would take every name for a public one

    def __getattr__(name: str) -> object:
        """Import a public name at its first use (PEP 562)."""
        from importlib import import_module

        if name in _STAGES:
            return import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
