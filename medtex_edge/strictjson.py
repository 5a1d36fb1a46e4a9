"""JSON from an untrusted file, and JSON in one canonical form."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

from .errors import BundleError

JsonObject: TypeAlias = Mapping[str, Any]  # a parsed JSON object of any content; what reads it checks each value
MAX_DEPTH = 32
_TOKEN = re.compile(r'\\.|["\[\]{}]', re.DOTALL)


def dumps(value: Any) -> bytes:
    """UTF-8, indented, keys in their order, NaN refused (`ValueError`): the same value, the same bytes."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def loads(content: bytes, where: str) -> Any:
    """Parse `content`; `where` names it in errors.

    Raises `BundleError` for anything but plain UTF-8 JSON: NaN and infinities, numbers beyond a double or of
    more than 19 digits, a key given twice, lone surrogates, more than `MAX_DEPTH` levels. The caller limits
    its size.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{where}: expected JSON in UTF-8, got {error.reason} at byte {error.start}"
        raise BundleError(message) from None
    _check_depth(text, where)

    def refuse(token: str) -> NoReturn:
        raise BundleError(f"{where}: expected JSON numbers, got {token[:30]}")

    def integer(token: str) -> int:
        return int(token) if len(token) <= 19 else refuse(token)

    def real(token: str) -> float:
        number = float(token)
        return number if math.isfinite(number) else refuse(token)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise BundleError(f"{where}: expected each key once, got {twice[:80]!r} twice")
        return result

    try:
        value = json.loads(text, parse_constant=refuse, parse_int=integer, parse_float=real, object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text: it could not be printed
    except json.JSONDecodeError as error:
        message = f"{where}: expected JSON, got {error.msg} at line {error.lineno}, column {error.colno}"
        raise BundleError(message) from None
    except UnicodeEncodeError:
        raise BundleError(f"{where}: expected text, got a lone surrogate") from None
    return value


def _check_depth(text: str, where: str) -> None:
    # Before parsing, since the parser recurses. By tokens: a pattern for whole strings would backtrack.
    depth, quoted = 0, False
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
            if depth > MAX_DEPTH:
                raise BundleError(f"{where}: expected at most {MAX_DEPTH} levels of JSON, got more")
