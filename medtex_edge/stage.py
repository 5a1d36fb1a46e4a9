"""A stage is a package that can be called: `medtex_edge.train(data=...)` next to `import medtex_edge.train.config`.

Importing a module of a stage binds the stage's package as an attribute of `medtex_edge`. A function of the same name
would be replaced by it, so the package itself takes the call and hands it to the function in `medtex_edge.api.stages`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature


class _Stage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function(self.__name__)(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        """For `help` and `inspect.signature`."""
        from inspect import signature

        return signature(_function(self.__name__))

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """For `help`, which takes a package for a module without a call: the function's text and its parameters."""
        from inspect import cleandoc, signature

        function = _function(self.__name__)
        summary, _, rest = cleandoc(function.__doc__ or "").partition("\n\n")
        lines: list[str] = []
        for parameter in signature(function, eval_str=True).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and "*" not in lines:
                lines.append("*")
            lines.append(str(parameter))
        parameters = "\n".join(f"    {line}," for line in lines)
        return f"{summary}\n\nmedtex_edge.{function.__name__}(\n{parameters}\n)\n\n{rest}"


def make_callable(package: str) -> None:
    """Let the package `medtex_edge.NAME` be called as the function NAME of `medtex_edge.api.stages`."""
    sys.modules[package].__class__ = _Stage


def _function(package: str) -> Callable[..., Any]:
    # By name: the public functions stand above every stage, which may not import them.
    function: Callable[..., Any] = getattr(import_module("medtex_edge.api.stages"), package.rpartition(".")[2])
    return function
