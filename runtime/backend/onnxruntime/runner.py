"""Opens a graph with ONNX Runtime and runs it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medtex_edge.contract import INPUT_NAME, OUTPUT_NAMES, Contract
from medtex_edge.errors import BackendError, BundleError, SettingsError
from medtex_edge.runtime.backend import Outputs, check_image, check_outputs

if TYPE_CHECKING:
    from medtex_edge.bundle import Bundle

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_ENDING = "ExecutionProvider"
_ELSEWHERE = ("AzureExecutionProvider",)  # listed by every build, and sends images to a service
# What brings a provider, where it is not ONNX Runtime's plain wheel.
_BRINGS = {
    "cuda": "pip install onnxruntime-gpu (JetPack: the wheel for that JetPack)",
    "tensorrt": "pip install onnxruntime-gpu (JetPack: the wheel for that JetPack); --backend tensorrt needs none",
    "openvino": "pip install onnxruntime-openvino",
    "xnnpack": "a build of ONNX Runtime made with --use_xnnpack",
}
_ERRORS_ONLY = 3  # ONNX Runtime's severity; below it, it warns of things that no user can change


class OnnxRuntimeBackend:
    """One session of one graph. Made by `open` or `open_graph`."""

    def __init__(self, session: Any, contract: Contract, name: str) -> None:
        self.name = name
        self._session = session
        self._contract = contract
        self._errors = _engine_errors()

    def infer(self, image: npt.NDArray[np.uint8]) -> Outputs:
        """(N, H, W, 3) uint8 RGB -> `Outputs`. Raises `BackendError`."""
        check_image(image, self._contract)
        if self._session is None:
            raise BackendError(f"{self.name}: closed, cannot infer any more")
        try:
            probabilities, saliency = self._session.run(OUTPUT_NAMES, {INPUT_NAME: np.ascontiguousarray(image)})
        except self._errors as error:
            raise BackendError(f"{self.name}: inference failed: {_first_line(error)}") from error
        outputs = Outputs(probabilities, saliency)
        check_outputs(outputs, len(image), self._contract)
        return outputs

    def end_trace(self) -> Path:
        """Finish the file of events that `open` was given a name for, and return its path."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Give back the session's memory and threads."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(
    bundle: Bundle,
    *,
    precision: str = "fp32",
    threads: int | None = None,
    provider: str = CPU,
    trace: Path | None = None,
) -> OnnxRuntimeBackend:
    """Open the bundle's graph of that precision.

    `provider` is one of `providers`, in full or short ("cuda", "OpenVINO"). `threads` is how many cores one inference
    may use (None: all that this process may use). `trace` is the first part of the name of a file of profiling events
    (None: no such file). Raises `BundleError` for a precision that the bundle lacks and a graph that is not as the
    contract promises, `BackendError` where the engine or the provider is missing or fails.
    """
    model = bundle.model(precision)
    return open_graph(model, bundle.contract, threads=threads, provider=provider, label=precision, trace=trace)


def open_best(bundle: Bundle, *, precision: str = "fp32", threads: int | None = None) -> OnnxRuntimeBackend:
    """`open` with CUDA where it is offered and works, else on the CPU."""
    if CUDA in providers():
        with suppress(BackendError, BundleError):  # it is offered, but its libraries or its device are not there
            return open(bundle, precision=precision, threads=threads, provider=CUDA)
    return open(bundle, precision=precision, threads=threads)


def providers() -> list[str]:
    """The execution providers that this installation of ONNX Runtime offers. Raises `BackendError`: none here."""
    return [name for name in _import().get_available_providers() if name not in _ELSEWHERE]


def open_graph(
    model: bytes,
    contract: Contract,
    *,
    threads: int | None = None,
    provider: str = CPU,
    label: str = "graph",
    trace: Path | None = None,
) -> OnnxRuntimeBackend:
    """Open an ONNX file given as bytes, and check its names, types and shapes against `contract`.

    One black image goes through it, which warms the session up and proves the shapes that were left open. Raises
    `BundleError` for a graph that is not as the contract promises, `BackendError` for a provider that does not load.
    """
    engine = _import()
    provider = _full_name(provider)
    options = _options(engine, threads)
    if trace is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(trace)
    try:
        # Without the CPU provider behind it, a provider that lacks one operator refuses the whole graph.
        providers = [provider] if provider == CPU else [provider, CPU]
        session = engine.InferenceSession(model, options, providers=providers)
    except _engine_errors() as error:
        raise BundleError(f"{label}: ONNX Runtime refuses the graph: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:
        # ONNX Runtime would go on with the CPU and call it a success.
        raise BackendError(
            f"onnxruntime: expected {provider}, got {session.get_providers()[0]}: it is offered, but does not load",
            hint="its libraries or its device are missing: `medtex-edge doctor`; or omit the provider",
        )
    _check_graph(session, contract, label)
    backend = OnnxRuntimeBackend(session, contract, f"onnxruntime:{provider}:{label}")
    try:
        backend.infer(np.zeros((1, contract.height, contract.width, 3), np.uint8))
    except BackendError as error:
        raise BundleError(f"{label}: a black image does not go through the graph: {error.message}") from error
    with suppress(OSError, AttributeError):  # another C library than glibc
        # Reading the graph leaves free pieces that glibc would keep: some 20 MB of a small board.
        ctypes.CDLL(None).malloc_trim(0)
    return backend


def _full_name(provider: str) -> str:
    """As ONNX Runtime calls it. Raises `BackendError` with what there is."""
    offered = providers()
    short = provider.removesuffix(_ENDING).lower()
    for name in offered:
        if name.removesuffix(_ENDING).lower() == short:
            return name
    raise BackendError(
        f"onnxruntime: expected one of the providers of this installation, {', '.join(offered)}, got {provider!r}",
        hint=f"{_BRINGS.get(short, 'install the build of ONNX Runtime that has it')}; or omit the provider",
    )


def _import() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f"onnxruntime is missing or broken: {error}",
            hint="pip install onnxruntime (JetPack: the wheel of onnxruntime-gpu for that JetPack)",
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


def _engine_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions share no base class, so they are gathered from its module."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception)]
    # RuntimeError and ValueError come from its Python layer (wrong feeds, providers that fail to load).
    return (*own, RuntimeError, ValueError)


def _options(engine: ModuleType, threads: int | None) -> Any:
    if threads is not None and threads < 1:
        raise SettingsError(f"threads: expected at least 1, got {threads}")
    options = engine.SessionOptions()
    # Set explicitly: its own default counts cores that a container or taskset does not grant.
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Idle workers would spin on the cores that capture and drawing need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An int8 graph is computed as it is written. Where its layers' results are in half precision, the fusion to integer
    # kernels also rounds their biases, to steps that underflow: probabilities off by 0.45 (1.31, CPU).
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _check_graph(session: Any, contract: Contract, label: str) -> None:
    c = contract
    inputs = {INPUT_NAME: ("tensor(uint8)", (None, c.height, c.width, 3))}
    outputs = {
        "probabilities": ("tensor(float)", (None, len(c.classes))),
        "saliency": ("tensor(float)", (None, c.saliency_height, c.saliency_width)),
    }
    for kind, nodes, expected in (
        ("input", session.get_inputs(), inputs),
        ("output", session.get_outputs(), outputs),
    ):
        names = [node.name for node in nodes]
        if set(names) != set(expected) or len(names) != len(expected):
            raise BundleError(f"{label}: expected the graph's {kind}s to be {', '.join(expected)}, "
                              f"got {', '.join(names) or 'none'}")  # fmt: skip
        for node in nodes:
            type_, shape = expected[node.name]
            if node.type != type_ or not _fits(node.shape, shape):
                raise BundleError(
                    f"{label}: {kind} {node.name}: expected {type_} {_shown(shape)} by the contract, "
                    f"the graph has {node.type} {_shown(node.shape)}"
                )


def _fits(declared: Sequence[int | str | None], expected: Sequence[int | None]) -> bool:
    """A dimension that is left open (a name or nothing) fits; the first image through the graph proves it."""
    return len(declared) == len(expected) and all(
        not isinstance(have, int) or want is None or have == want for have, want in zip(declared, expected, strict=True)
    )


def _shown(shape: Sequence[int | str | None]) -> str:
    return f"({', '.join('N' if side is None else str(side) for side in shape)})"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
