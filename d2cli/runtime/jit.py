"""Compilation of kernels: cached on disk where that is possible, in memory where it is not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(r"^from (d2cli[\w.]*) import", re.MULTILINE)


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
    """Compile with the machine code kept beside the source or in the user's cache folder.

    If neither folder can be written, or if numba's cache is not the one known here, the kernel is
    compiled in each process.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True, **options)(function)
        if compiled is not function:
            # numba compares only the kernel's own file. The machine code also holds the kernels
            # that it calls and the constants of their files, so the stamp covers these files too.
            # It is part of the version, which numba compares before it unpickles the types of
            # arguments: a class of an older d2prune may have another name now.
            index = compiled._cache._cache_file
            index._version = (index._version, stamp(Path(function.__code__.co_filename)))
        return compiled
    except (RuntimeError, AttributeError):  # "cannot cache function …: no locator available"
        return numba.njit(nogil=True, **options)(function)


@cache
def stamp(path: Path) -> bytes:
    """A digest of one file with kernels and of all kernel files that it imports.

    A kernel file imports :mod:`d2cli.runtime.jit`, or is named ``sizes.py``: only there may a
    constant stand that a kernel uses (a test holds the package to it). Other files can change
    without a kernel being compiled again.
    """
    digest = hashlib.blake2b()
    for one in sorted(kernel_files(path)):
        code = one.read_bytes()
        digest.update(f"{one.relative_to(_PACKAGE)} {len(code)} ".encode())
        digest.update(code)
    return digest.digest()


def kernel_files(path: Path) -> set[Path]:
    """`path` and the kernel files that it imports, directly or through other kernel files."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [other for other in _imported(one) if _holds_kernels(other)]
    return found


def _imported(path: Path) -> list[Path]:
    names = _IMPORT.findall(path.read_text(encoding="utf-8"))
    files = [_PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py") for name in names]
    return [file for file in files if file.is_file()]


@cache
def _holds_kernels(path: Path) -> bool:
    return path.name == "sizes.py" or "from d2cli.runtime.jit import" in path.read_text("utf-8")
