"""The problems of a dataset: collected, reported in one error, and accepted by name with `--accept`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from medtex_edge.errors import DataError

SHOWN = 20  # problems that are named one by one; a count stands for the rest

# The effect of `--accept NAME`. A problem of any other kind has to be corrected.
ACCEPTABLE = {
    "missing": "photographs that are not there are left out",
    "unreadable": "files that are no whole image are left out",
    "no-field-of-view": "photographs without a visible fundus are left out",
    "duplicates": "one copy is kept, in test before val before train; copies whose labels differ are left out",
    "shared-patients": "the splits stay as they are, and the results will be too good",
    "rare-classes": "classes with one photograph or none are kept, and are hardly learnt",
    "unlabelled": "photographs without a label outside train are left out",
}


class Problem(NamedTuple):
    """`kind` is a name in ACCEPTABLE, or "" for a problem that cannot be accepted."""

    kind: str
    text: str


@dataclass
class Problems:
    """Collects problems; those of an accepted kind become notes instead of an error."""

    data: str
    accept: frozenset[str]
    found: list[Problem] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        self.found.append(Problem(kind, text))

    def extend(self, problems: Iterable[Problem]) -> None:
        self.found.extend(problems)

    @property
    def blocking(self) -> bool:
        """Whether any problem was not accepted."""
        return any(problem.kind not in self.accept for problem in self.found)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line per accepted kind: the count, the effect, and the first problem."""
        lines = []
        for kind, count in Counter(problem.kind for problem in self.found).items():
            if kind in self.accept:
                first = next(problem.text for problem in self.found if problem.kind == kind)
                lines.append(f"accepted {kind} ({count}): {ACCEPTABLE[kind]}; first: {first}")
        return tuple(lines)

    def raise_if_any(self) -> None:
        """Raise `DataError` with the problems that were not accepted, the first `SHOWN` by name."""
        left = sorted(
            (problem for problem in self.found if problem.kind not in self.accept),
            key=lambda problem: problem.kind,  # stable: "", which must be corrected, comes first
        )
        if not left:
            return
        lines = [f"{self.data}: {len(left)} problem{'s' if len(left) > 1 else ''}"]
        lines += [f"  - {problem.text}" for problem in left[:SHOWN]]
        if rest := Counter(problem.kind or "other" for problem in left[SHOWN:]):
            counts = ", ".join(f"{count} {kind}" for kind, count in rest.items())
            lines.append(f"  - and {rest.total()} more: {counts}")
        kinds = sorted({problem.kind for problem in left if problem.kind})
        hints = [f"--accept {kind}: {ACCEPTABLE[kind]}" for kind in kinds]
        if any(not problem.kind for problem in left):
            hints.insert(0, "correct the table or the files")
        raise DataError("\n".join(lines), hint="; ".join(hints))
