"""Read the same photographs with two bundles, and list where their answers differ.

python examples/compare_bundles.py old.medtex new.medtex photos/
"""

from __future__ import annotations

import sys

import medtex_edge


def main(first: str, second: str, photographs: str) -> None:
    count = differing = 0
    largest = 0.0
    readings = (medtex_edge.stream(bundle, source=photographs) for bundle in (first, second))
    for old, new in zip(*readings, strict=True):
        count += 1
        if old.verdict != new.verdict:
            differing += 1
            print(f"{old.source}: {old.verdict.value} -> {new.verdict.value}")
        if old.referable_probability is not None and new.referable_probability is not None:
            largest = max(largest, abs(old.referable_probability - new.referable_probability))
    print(f"{differing} of {count} verdicts differ; referable probabilities by at most {largest:.3f}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except medtex_edge.MedtexError as error:
        sys.exit(f"{error.message}\n{error.hint}")
