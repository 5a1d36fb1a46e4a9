"""Figures out of JSON that may be old, cut short or edited by hand, and figures as text.

A report reads its figures through these functions: whatever does not have the expected form counts as not measured.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from medtex_edge.errors import DataError
from medtex_edge.files import storage
from medtex_edge.strictjson import JsonObject


class Figure(NamedTuple):
    """A measured value; `low` and `high` are its 95 % confidence interval where there is one, `n` its photographs."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


def read_json_object(path: Path) -> dict[str, Any] | None:
    """A JSON object of a file; None where there is no file. Raises `DataError` where it is something else."""
    if not path.is_file():
        return None
    with storage(path, "read"):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}", hint="make it again with the command that wrote it") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(value).__name__}", hint="make it again")
    return value


def figure(value: Any) -> Figure | None:
    """{"value", "interval", "n"} or a bare number; None where it was not measured."""
    if is_number(value):
        return Figure(float(value))
    entry = table(value)
    if not is_number(entry.get("value")):
        return None
    low, high = bounds(entry.get("interval")) or (None, None)
    count = entry.get("n")
    return Figure(float(entry["value"]), low, high, count if isinstance(count, int) else None)


def with_interval(values: JsonObject, key: str) -> Figure | None:
    """A figure with the interval of the key KEY_interval, as in metrics.json."""
    if not is_number(values.get(key)):
        return None
    low, high = bounds(values.get(f"{key}_interval")) or (None, None)
    count = values.get("n")
    return Figure(float(values[key]), low, high, count if isinstance(count, int) else None)


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def bounds(value: Any) -> tuple[float, float] | None:
    """An interval, or None."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(is_number(bound) for bound in value):
        return float(value[0]), float(value[1])
    return None


def table(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """A JSON list, or an empty one."""
    return value if isinstance(value, list) else []


def numbers(value: Any) -> list[float]:
    """The finite numbers of a JSON list."""
    return [float(v) for v in listed(value) if is_number(v)]


def number_text(value: object) -> str:
    """A figure for a table: counts whole, measures with three decimals, '-' where there is none."""
    if not is_number(value):
        return "-"
    return str(int(value)) if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def figure_text(value: Figure, places: int = 2) -> str:
    """0.78 (0.73 to 0.83)."""
    interval = f" ({value.low:.{places}f} to {value.high:.{places}f})" if value.low is not None else ""
    return f"{value.value:.{places}f}{interval}"


def percent(value: float) -> str:
    """A fraction in percent without decimals, which small samples never carry."""
    return f"{100 * value:.0f} %"


def percent_text(value: Figure) -> str:
    """93 % (88 % to 98 %)."""
    interval = f" ({percent(value.low)} to {percent(value.high)})" if value.low is not None and value.high else ""
    return percent(value.value) + interval
