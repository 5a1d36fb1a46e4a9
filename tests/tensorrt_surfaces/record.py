"""Write down which names a TensorRT module has: python record.py MODULE > VERSION.txt

Run where that module imports: on a Jetson for its own, anywhere for TensorRT for RTX. For another version the
bindings' wheel alone will do (tensorrt-cu12-bindings on the package index): it imports next to empty libraries that
define the nine C functions it links to, since only names are listed here and nothing is called.

A line per class, its members indented: `name(parameter, optional=)`, `property`, `settable =`, `ENUM 3`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from typing import Any

# What no network of ours could use; the module holds as much again of them.
_LEFT_OUT = re.compile(r"I?Plugin|IAlgorithm|I\w+Layer$|.*Calibrat|nptype|common_|dynamic_|I?Loop|IIf|Dims|V2|^IV")


def record(module: Any) -> list[str]:
    """The lines of the file."""
    lines = [f"# {module.__name__} {module.__version__}"]
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or _LEFT_OUT.match(name) or inspect.ismodule(value):
            continue
        if inspect.isclass(value) and value.__module__.startswith(module.__name__):
            lines += [name, *(f"  {line}" for line in _members(value))]
        elif callable(value):
            lines.append(f"{name}()")
    return lines


def _members(cls: type) -> list[str]:
    enum = getattr(cls, "__members__", None)
    if enum is not None:
        return [f"{name} {int(item)}" for name, item in sorted(enum.items())]
    lines = []
    for name in sorted(dir(cls)):
        if name.startswith("_"):
            continue
        value = inspect.getattr_static(cls, name)
        if isinstance(value, property):
            lines.append(f"{name} =" if value.fset else name)
        elif callable(getattr(cls, name)) and not inspect.isclass(getattr(cls, name)):
            lines.append(f"{name}({_parameters(getattr(cls, name).__doc__ or '')})")
        else:
            lines.append(name)
    return lines


def _parameters(doc: str) -> str:
    """Parameter names from pybind11's first line, such as `parse(self: T, model: U, path: str = None) -> bool`."""
    inside = re.match(r"\w+\((.*)\) -> ", doc)
    if inside is None:
        return "*"
    names, depth, start, text = [], 0, 0, inside[1] + ","
    for index, letter in enumerate(text):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            part = text[start:index].strip()
            names.append(part.partition(":")[0] + ("=" if "=" in part else ""))
            start = index + 1
    return "*" if any(name.startswith("*") for name in names) else ", ".join(n for n in names if n and n != "self")


if __name__ == "__main__":
    print("\n".join(record(importlib.import_module(sys.argv[1]))))
