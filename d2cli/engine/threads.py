"""Runs independent pieces of work, mostly blocks of rows, in threads.

Kernels release the interpreter lock and write only the rows of their own piece. Pieces do not
depend on the number of threads, so results do not either.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from d2cli.errors import UsageError
from d2cli.runtime import stopping

Progress = Callable[[str, int, int], None]
Item = TypeVar("Item")


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


def thread_count(threads: int | None) -> int:
    """`threads`, or for None the number of cores that this process may use.

    Raises:
        UsageError: if `threads` is below 1.
    """
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    return threads


def each(
    work: Callable[[Item], object], items: Sequence[Item], threads: int,
    ended: Callable[[Item], object],
) -> None:  # fmt: skip
    """Call ``work(item)`` for all items in threads, and ``ended(item)`` here after each.

    The first exception is raised here, after the running items have ended; other items are dropped.
    One thread, or one item, runs in the thread of the caller.
    """
    if threads == 1 or len(items) == 1:
        for item in items:
            work(item)
            ended(item)
            stopping.check()
        return
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            future.result()
            ended(futures[future])
            stopping.check()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def for_blocks(
    work: Callable[[int, int], object], n: int, block: int, threads: int,
    progress: Progress = silent, stage: str = "",
) -> None:  # fmt: skip
    """Call ``work(start, stop)`` for each block of `block` rows of ``0 … n``, as :func:`each` does.

    After each block, ``progress(stage, rows done, n)`` is called.
    """
    spans = [(start, min(start + block, n)) for start in range(0, n, block)]
    done = 0

    def ended(span: tuple[int, int]) -> None:
        nonlocal done
        done += span[1] - span[0]
        progress(stage, done, n)

    each(lambda span: work(*span), spans, threads, ended)
