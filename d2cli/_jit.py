"""Compilation of kernels: cached on disk where that is possible, in memory where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` without the interpreter lock, so that threads can share the work.

    The machine code is kept beside the source or in the user's cache folder. Where neither can be
    written numba refuses to cache; the kernel then compiles anew in each process.

    No ``fastmath``: sums keep the order in which they are written, on which ties depend.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba: "cannot cache function …: no locator available"
        return numba.njit(nogil=True)(function)
