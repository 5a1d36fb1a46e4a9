"""One line of `medtex-edge doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """What was looked for and what is there. `cure` is the next command where it is missing, `advice` where it is
    there and could be better. Only what `required` says is needed to run a bundle.
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
