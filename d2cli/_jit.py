"""Compilation of kernels: cached on disk where that is possible, in memory where it is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
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


def borrowing_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel that makes no array, and neither do those that it calls.

    numba counts who holds an array, in a loop at every call that is given one, by instructions that
    wait for each other. Here whoever calls holds all of them meanwhile, and nobody counts. Nor may
    a kernel that counts be given an array back: it would let go of what nobody took hold of.
    """
    return _compiled(function, _nrt=False)


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The machine code is kept beside the source or in the user's cache folder.

    Where neither can be written numba refuses to cache, and of a numba that caches otherwise than
    we know we ask for nothing: the kernel then compiles in each process.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True, **options)(function)
        if compiled is not function:
            # numba asks only whether the kernel's own file is as it was; but a kernel holds the
            # code of those that it calls and the constants of their files, which an upgrade may
            # change.
            index = compiled._cache._cache_file
            index._source_stamp = (index._source_stamp, _package())
        return compiled
    except (RuntimeError, AttributeError):  # "cannot cache function …: no locator available"
        return numba.njit(nogil=True, **options)(function)


@cache
def _package() -> bytes:
    """A digest of all the code of this package, file by file."""
    digest, root = hashlib.blake2b(), Path(__file__).parent
    for path in sorted(root.rglob("[!.]*.py")):
        if path.is_file():
            code = path.read_bytes()
            digest.update(f"{path.relative_to(root)} {len(code)} ".encode())
            digest.update(code)
    return digest.digest()
