"""Map over many photographs with a few threads: OpenCV, hashing and numpy release the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def in_order(function: Callable[[In], Out], items: Iterable[In], *, threads: int = 0, ahead: int = 0) -> Iterator[Out]:
    """`map(function, items)` by threads (0: as many as cores, up to 8). At most `ahead` results (0: two per thread)
    wait at a time, so memory does not grow with the dataset.

    An exception of `function` is raised at its item's turn; what has not begun by then never does.
    """
    threads = threads or max(1, min(8, os.cpu_count() or 1))
    ahead = ahead or 2 * threads
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="photographs") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
