"""Compilation of kernels: cached on disk where that is possible, in memory where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` without the interpreter lock, so that threads can share the work.

    Sums keep the order in which they are written, on which ties depend: no ``fastmath``.
    """
    return _compiled(function)


def reordering_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel whose sums may be reordered, and therefore vectorised.

    For sums that only screen, or that are rounded afterwards. The result still depends on nothing
    but the arguments; NaN and infinity keep their meaning.
    """
    return _compiled(function, fastmath={"contract", "reassoc"})


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The machine code is kept beside the source or in the user's cache folder.

    Where neither can be written numba refuses to cache; the kernel then compiles in each process.
    """
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # numba: "cannot cache function …: no locator available"
        return numba.njit(nogil=True, **options)(function)
