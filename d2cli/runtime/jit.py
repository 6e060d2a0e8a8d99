"""Compilation of kernels, with a cache on disk if a folder for it can be written.

Compiled kernels are kept in the first of these folders that can be written: that of
``NUMBA_CACHE_DIR``, the package's own ``__pycache__`` folders, the user's folder for caches, and
:func:`d2cli.runtime.scratch.own_folder`. Without any, each process compiles its kernels.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from d2cli.runtime import compiling
from d2cli.runtime.scratch import has_home, own_folder

_CONFIG: Any = numba.config  # its names are made when it is loaded
_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(r"^from (d2cli[\w.]*) import", re.MULTILINE)
_MARKS = ("from d2cli.runtime.jit import", "from llvmlite import")  # of files with kernels


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
    options |= {"nogil": True, "no_cfunc_wrapper": True}  # no C code calls kernels
    for folder in (_usual_folder, _own_folder):
        try:
            with folder():
                compiled = numba.njit(cache=True, **options)(function)
            if compiled is not function:
                _adapt(compiled._cache, function)
            return compiled
        except (RuntimeError, AttributeError):  # "cannot cache function …: no locator available"
            continue
    return numba.njit(**options)(function)


@contextmanager
def _usual_folder() -> Iterator[None]:
    """Let numba choose the folder; a RuntimeError if it would choose one by a relative path."""
    if not (_CONFIG.CACHE_DIR or has_home()):
        raise RuntimeError("there is no home folder")
    yield


@contextmanager
def _own_folder() -> Iterator[None]:
    """Let numba use the user's own temporary folder, for the kernels made inside the block only."""
    folder = _own()
    if folder is None:
        raise RuntimeError("there is no temporary folder")
    before, _CONFIG.CACHE_DIR = _CONFIG.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        _CONFIG.CACHE_DIR = before


@cache
def _own() -> Path | None:
    found = own_folder()
    return None if found is None else found / "kernels"


def _adapt(found: Any, function: Callable[..., Any]) -> None:
    """Let a kernel's cache notice changes of other files, and outlive damage and full disks."""
    # numba checks only the kernel's own file; the stamp covers the files of the kernels and
    # constants that it uses too. numba compares the version before it unpickles types, which may
    # name classes that only an older d2prune has.
    index = found._cache_file
    index._version = (index._version, stamp(Path(function.__code__.co_filename)))
    load, save = found.load_overload, found.save_overload

    def load_if_whole(*wanted: Any) -> Any:
        try:
            return load(*wanted)
        except Exception:  # a file that a crash left incomplete: any error of unpickling
            return None

    def save_if_possible(*compiled: Any) -> None:
        try:
            save(*compiled)
        except Exception:  # a damaged index, or a full disk
            with suppress(Exception):
                found.flush()
                save(*compiled)

    found.load_overload, found.save_overload = load_if_whole, save_if_possible


class _Announcer(event.Listener):
    """Passes the first compilation of a kernel on to :mod:`d2cli.runtime.compiling`."""

    def on_start(self, event: Any) -> None:
        """Called before a function is compiled: of d2prune, or any other of this process."""
        dispatcher = event.data["dispatcher"]
        if dispatcher.py_func.__module__.startswith("d2cli."):
            index = getattr(dispatcher._cache, "_cache_file", None)
            path = getattr(index, "_index_path", None)
            compiling.begun(cold=path is None or not Path(path).exists(), kept=path is not None)

    def on_end(self, event: Any) -> None:
        """Nothing to do."""


event.register("numba:compile", _Announcer())


@cache
def stamp(path: Path) -> bytes:
    """A digest of one file with kernels and of all kernel files that it imports.

    A kernel file imports :mod:`d2cli.runtime.jit` or llvmlite, or is named ``sizes.py``. Constants
    that kernels use must be in kernel files; a test checks this.
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
    text = path.read_text("utf-8")
    return path.name == "sizes.py" or any(mark in text for mark in _MARKS)
