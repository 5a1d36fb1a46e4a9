"""The result of one check: a line of `medtex-edge doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One check and its result.

    `value` is the result as text, `cure` the next command where the thing is missing, `advice` the next command where
    it is present and could be better. A bundle can be run where every `required` one is present.
    """

    section: str
    name: str
    value: str
    present: bool = True
    required: bool = False
    cure: str = ""
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dump`."""
        return asdict(self)
