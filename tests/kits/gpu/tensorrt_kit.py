"""TensorRT for RTX behind the names of another version: what is built is real, and a name that version lacks is none.

`Version("10.3.0", tensorrt_rtx)` is a module whose classes, members, enum values and numbers of parameters are exactly
those in `tensorrt_surfaces/`. What is there is passed on to TensorRT for RTX, which builds without a GPU.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SURFACES = Path(__file__).parents[2] / "tensorrt_surfaces"
VERSIONS = tuple(sorted(path.stem.removeprefix("tensorrt-") for path in SURFACES.glob("*.txt")))
# Subclassed or read as bytes, so handed on as they are.
_AS_THEY_ARE = ("ILogger", "IProgressMonitor", "IHostMemory")

Surface = dict[str, dict[str, str]]  # class -> member -> what stands behind its name


def surface(version: str) -> Surface:
    """Read one file."""
    found: Surface = {}
    members: dict[str, str] = {}
    for line in (SURFACES / f"tensorrt-{version}.txt").read_text(encoding="ascii").splitlines():
        if line.startswith("  "):
            name = re.match(r"\w+", line.strip())[0]  # type: ignore[index]
            members[name] = line.strip().removeprefix(name).strip()
        elif not line.startswith("#"):
            members = found.setdefault(line.removesuffix("()"), {})
    return found


class VersionedObject:
    """`real` with the members that its class has in that version."""

    def __init__(self, real: Any, kind: str, version: str, names: Surface, touched: set[str]) -> None:
        vars(self).update(_real=real, _kind=kind, _version=version, _names=names, _touched=touched)

    def __getattr__(self, name: str) -> Any:
        if name == "__members__":
            return {item: getattr(self, item) for item in self._names[self._kind]}
        signature = self._signature(name)
        if re.fullmatch(r"-?\d+", signature):
            # The number of that version, the member of this one.
            return Numbered(getattr(self._real, name), int(signature))
        value = getattr(self._real, name)
        return self._checked(name, value, signature) if callable(value) else self._wrap(value)

    def __setattr__(self, name: str, value: Any) -> None:
        assert self._signature(name) == "=", f"{self._version}: {self._kind}.{name} cannot be set"
        setattr(self._real, name, unwrap(value))

    def _signature(self, name: str) -> str:
        members: dict[str, str] = self._names[self._kind]
        if name not in members:
            raise AttributeError(f"tensorrt {self._version} has no {self._kind}.{name}")
        self._touched.add(f"{self._kind}.{name}")
        return members[name]

    def _checked(self, name: str, call: Callable[..., Any], signature: str) -> Callable[..., Any]:
        parameters = [part for part in signature.strip("()").split(", ") if part]
        least = sum(not part.endswith("=") for part in parameters)

        @functools.wraps(call)
        def passed_on(*arguments: Any) -> Any:
            fits = signature == "(*)" or least <= len(arguments) <= len(parameters)
            assert fits, f"{self._version}: {self._kind}.{name}{signature} called with {len(arguments)}"
            return self._wrap(call(*map(unwrap, arguments)))

        return passed_on

    def _wrap(self, value: Any) -> Any:
        kind = type(value).__name__
        if re.fullmatch(r"I\w+Layer", kind):
            kind = "ILayer"
        plain = kind in _AS_THEY_ARE or kind not in self._names or hasattr(type(value), "__members__")
        return value if plain else VersionedObject(value, kind, self._version, self._names, self._touched)


class Numbered:
    """A member of an enum whose number is another in that version."""

    def __init__(self, real: Any, number: int) -> None:
        self.real, self.number = real, number

    def __int__(self) -> int:
        return self.number


def unwrap(value: Any) -> Any:
    """What TensorRT for RTX is given for it."""
    if isinstance(value, VersionedObject):
        return value._real
    return value.real if isinstance(value, Numbered) else value


class Version:
    """The module; `touched` holds each Class.member that was used."""

    __name__ = "tensorrt"

    def __init__(self, version: str, real: Any, **replaced: type) -> None:
        self.__version__ = version
        self.touched: set[str] = set()
        self._real, self._names, self._replaced = real, surface(version), replaced

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"tensorrt {self.__version__} has no {name}")
        real = self._replaced.get(name) or getattr(self._real, name)
        if name in _AS_THEY_ARE:
            return real
        if self._names[name] and hasattr(real, "__members__"):
            return VersionedObject(real, name, self.__version__, self._names, self.touched)
        if name == "Builder":
            return lambda *given: self._made(_Builder(self._real, real(*map(unwrap, given)), self._flag()), name)
        return lambda *given: self._made(real(*map(unwrap, given)), name)

    def _flag(self) -> int:
        return 1 << int(self._names["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"])

    def _made(self, value: Any, kind: str) -> VersionedObject:
        return VersionedObject(value, kind, self.__version__, self._names, self.touched)


class _Builder:
    """A real builder that reads the flags of a network as the other version numbers them."""

    def __init__(self, trt: Any, real: Any, strongly_typed: int) -> None:
        self._trt, self._real, self._strongly_typed = trt, real, strongly_typed

    def create_network(self, flags: int) -> Any:
        assert flags == self._strongly_typed, f"expected a strongly typed network and no other flag, got {flags:b}"
        return self._real.create_network(1 << int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def runtime_that_tells(text: str) -> type:
    """A `Runtime` whose engine's inspector answers `text`; None as text: the engine cannot be loaded."""

    class EngineInspector:
        def get_engine_information(self, kind: object) -> str:
            return text

    class ICudaEngine:
        def create_engine_inspector(self) -> EngineInspector:
            return EngineInspector()

    class Runtime:
        def __init__(self, logger: object) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
            return ICudaEngine() if text else None

    return Runtime


def old(version: str) -> Any:
    """A module of which only the version may be read."""
    return SimpleNamespace(__name__="tensorrt", __version__=version)
