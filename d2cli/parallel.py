"""Work shared among threads in fixed blocks of rows.

Kernels release the interpreter lock and write only to the rows of their own block, and blocks do
not depend on how many threads there are: so neither does any result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from d2cli import stopping
from d2cli.errors import UsageError

Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """The progress callback that says nothing."""


def thread_count(threads: int | None) -> int:
    """`threads`, or the number of cores that this process may use.

    Raises:
        UsageError: if `threads` is below 1.
    """
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    return threads


def for_blocks(
    work: Callable[[int, int], None],
    n: int,
    block: int,
    threads: int,
    progress: Progress = silent,
    stage: str = "",
) -> None:
    """Call ``work(start, stop)`` for each block of `block` of the rows ``0 … n``.

    The first exception that a block raises is raised here, once the blocks under way have ended.
    """
    spans = [(start, min(start + block, n)) for start in range(0, n, block)]
    done = 0
    if threads == 1 or len(spans) == 1:
        for start, stop in spans:
            work(start, stop)
            done += stop - start
            progress(stage, done, n)
            stopping.check()
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        futures = {pool.submit(work, start, stop): stop - start for start, stop in spans}
        try:
            for future in as_completed(futures):
                future.result()
                done += futures[future]
                progress(stage, done, n)
                stopping.check()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
