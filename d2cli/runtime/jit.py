"""Compilation of kernels, with a cache on disk if a folder for it can be written."""

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
    """Compile `function` to run without the interpreter lock, sums in the order of the source."""
    return _compiled(function)


def reordering_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel whose sums may be reordered so that they can be vectorised.

    For sums that only screen or that are rounded afterwards. NaN and infinity keep their meaning.
    """
    return _compiled(function, fastmath={"contract", "reassoc"})


def borrowing_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel without reference counting (``_nrt=False``).

    Reference counts are atomic instructions, which are slow in a loop that passes arrays to other
    kernels. Safe only if the caller keeps every array alive, and the kernel and those it calls
    allocate no array and return none.
    """
    return _compiled(function, _nrt=False)


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile with a cache on disk, or without one if no folder can be written.

    Without one, or if numba's cache class has changed, each process compiles the kernel.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True, **options)(function)
        if compiled is not function:
            # numba checks only the kernel's own file; the stamp covers the files of the kernels
            # and constants that it uses too. numba compares the version before it unpickles types,
            # which may name classes that only an older d2prune has.
            index = compiled._cache._cache_file
            index._version = (index._version, stamp(Path(function.__code__.co_filename)))
        return compiled
    except (RuntimeError, AttributeError):  # "cannot cache function …: no locator available"
        return numba.njit(nogil=True, **options)(function)


@cache
def stamp(path: Path) -> bytes:
    """A digest of one file with kernels and of all kernel files that it imports.

    A kernel file imports :mod:`d2cli.runtime.jit` or is named ``sizes.py``. Constants that kernels
    use must be in kernel files; a test checks this.
    """
    digest = hashlib.blake2b()
    for one in sorted(kernel_files(path)):
        code = one.read_bytes()
        digest.update(f"{one.relative_to(_PACKAGE)} {len(code)} ".encode() + code)
    return digest.digest()


def kernel_files(path: Path) -> set[Path]:
    """`path` and the kernel files that it imports, directly or through other kernel files."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            for name in _IMPORT.findall(one.read_text("utf-8")):
                other = _PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
                waiting += [other] if _holds_kernels(other) else []
    return found


@cache
def _holds_kernels(path: Path) -> bool:
    if not path.is_file():
        return False
    return path.name == "sizes.py" or "from d2cli.runtime.jit import" in path.read_text("utf-8")
