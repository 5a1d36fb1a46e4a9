"""How a TensorRT engine is built: which module can, for which GPU and batches, with how much memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from medtex_edge.errors import BackendError, SettingsError, StorageError
from medtex_edge.files import atomic_write, storage
from medtex_edge.runtime.backend.tensorrt.runner import OLDEST

# What layers of this size ask for is far below; the default of TensorRT is all of the memory, which on a Jetson is
# that of the camera and the display too.
MEMORY_MIB = 512


@dataclass(frozen=True)
class BatchProfile:
    """Batches that one engine takes: 1 <= `smallest` <= `usual`, for which it is tuned, <= `largest`."""

    smallest: int
    usual: int
    largest: int

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.usual <= self.largest:
            raise SettingsError(f"batch profile: expected 1 <= smallest <= usual <= largest, got "
                                f"{self.smallest}, {self.usual}, {self.largest}")  # fmt: skip


def check_version(trt: ModuleType) -> str:
    """The version of a module that can build. Raises `BackendError` for one that is too old, or only runs engines."""
    name, version = trt.__name__, str(trt.__version__)
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
    if not is_rtx(trt) and numbers < OLDEST:
        raise BackendError(
            f"{name}: expected version {OLDEST[0]}.{OLDEST[1]} or newer, this is {version}",
            hint="JetPack 6.1 and later bring it; until then --backend onnxruntime runs the same bundle",
        )
    if not hasattr(trt, "Builder"):
        raise BackendError(f"{name} {version}: expected the whole of TensorRT, this part of it builds nothing",
                           hint="sudo apt install python3-libnvinfer")  # fmt: skip
    return version


def is_rtx(trt: ModuleType) -> bool:
    """Whether it is TensorRT for RTX, which alone builds for a capability that is named."""
    return hasattr(trt, "ComputeCapability")


def full_name(trt: ModuleType) -> str:
    """Product and version, for messages."""
    return f"{'TensorRT for RTX' if is_rtx(trt) else 'TensorRT'} {trt.__version__}"


def configure(trt: ModuleType, builder: Any, memory_mib: int, capability: str | None) -> Any:
    """An IBuilderConfig. Raises `SettingsError`."""
    if memory_mib < 1:
        raise SettingsError(f"memory: expected at least 1 MiB for the builder, got {memory_mib}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, memory_mib << 20)
    # On by default, it would round the inputs of an fp32 graph's convolutions to 11 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector knows names alone
    if capability is None:
        return config
    if not is_rtx(trt):
        raise SettingsError(f"capability: {full_name(trt)} builds for the GPU at hand alone, not for {capability!r}",
                            hint="omit it")  # fmt: skip
    members = trt.ComputeCapability.__members__
    known = {f"{name[2:-1]}.{name[-1]}": item for name, item in members.items() if name.startswith("SM")}
    if capability not in known:
        raise SettingsError(f"capability: expected one of {', '.join(known)}, got {capability!r}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[capability], 0)
    return config


def add_profile(builder: Any, config: Any, image: str, sides: tuple[int, ...], profile: BatchProfile | None) -> None:
    """Let the network's input `image` (N, *sides) have these batches."""
    if profile is None:
        return
    made = builder.create_optimization_profile()
    made.set_shape(image, *((n, *sides) for n in (profile.smallest, profile.usual, profile.largest)))
    config.add_optimization_profile(made)


class Timings:
    """The time of each kernel on this GPU, kept in a file for the next build. TensorRT for RTX measures nothing."""

    def __init__(self, trt: ModuleType, config: Any, path: Path | None) -> None:
        self._path, self._before, self._cache = path, b"", None
        if path is None or is_rtx(trt):
            return
        with storage(path, "read"):
            self._before = path.read_bytes() if path.exists() else b""
        self._cache = config.create_timing_cache(self._before)
        # One of another GPU or version is refused, and a new one begun.
        if self._cache is None or not config.set_timing_cache(self._cache, False):
            self._cache = config.create_timing_cache(b"")
            config.set_timing_cache(self._cache, False)

    def keep(self) -> tuple[str, ...]:
        """Write the file; a disk that refuses costs the next build's time, not this engine. Returns warnings."""
        if self._path is None or self._cache is None:
            return ()
        after = bytes(self._cache.serialize())
        if after == self._before:
            return ()
        try:
            with atomic_write(self._path) as file:
                file.write(after)
        except StorageError as error:
            return (f"the timing cache was not kept: {error.message}",)
        return ()
