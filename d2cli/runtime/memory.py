"""Memory that a run may still take, of the machine and of its control groups."""

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError

#: Numbers from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: Freed arrays of this size go back to the system at once, in a run that has little memory and in
#: one that has much. In between it is a share of the memory.
_SMALLEST_RETURNED, _LARGEST_RETURNED, _RETURNED_SHARE = 1 << 20, 1 << 25, 64
#: About how many arrays of this size the C library keeps.
_KEPT = 4
#: A limit of cgroup v1 above this means "no limit".
_NO_LIMIT = 1 << 60
#: The files of a limit and of what is used, and the inactive pages in ``memory.stat``, by version.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


class Available(NamedTuple):
    """Bytes that may still be taken, and which limit that is."""

    size: int
    source: str


def available_memory(root: Path = Path("/")) -> Available | None:
    """The minimum of what the machine and each enclosing control group have left.

    Inactive pages of the file cache count as free, because the system reclaims them. None if the
    system reports nothing. `root` is the parent of ``proc``, for tests.
    """
    found = [Available(size, "of the machine") for size in _of_machine(root)]
    for _, left, name in _of_groups(root):
        found.append(Available(left, f"within the limit of the control group {name}"))
    return min(found, key=lambda one: one.size, default=None)


def total_memory(root: Path = Path("/")) -> int | None:
    """The minimum of the memory of the machine and the limits of its control groups, or None."""
    sizes = [*_of_machine(root, "MemTotal:"), *(limit for limit, _, _ in _of_groups(root))]
    return min(sizes, default=None)


def return_freed_arrays(memory: int) -> None:
    """From here on, give large freed arrays back to the system at once.

    The GNU C library otherwise keeps freed arrays of up to 32 MiB for later ones, and a run needs
    more memory than its arrays. New memory takes time: the system fills it with zeros. So what is
    large depends on the `memory`, bytes, that the arrays of the run may take. All threads share one
    heap, so that what is kept does not depend on their number. Other libraries have no such
    setting.
    """
    size = max(_returned_size(memory), _SMALLEST_RETURNED)
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, size)
        library.mallopt(_M_TRIM_THRESHOLD, size)
        library.mallopt(_M_ARENA_MAX, 1)


def release_freed() -> None:
    """Give back all freed arrays, before larger ones are made that cannot take their place."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def kept_freed(memory: int) -> int:
    """Bytes of `memory` that freed arrays take if :func:`return_freed_arrays` is called for it."""
    return _KEPT * _returned_size(memory)


def _returned_size(memory: int) -> int:
    return min(memory // _RETURNED_SHARE, _LARGEST_RETURNED)


def allocate(shape: tuple[int, ...], dtype: np.dtype, where: str) -> NDArray[Any]:
    """An uninitialised array for the values of the file and field `where`.

    Raises:
        DataError: if it is larger than the memory of this machine, of its control groups or of this
            process.
    """
    size = math.prod(shape) * dtype.itemsize
    try:
        if size > _most():
            raise MemoryError
        return np.empty(shape, dtype)
    except MemoryError:
        values = " × ".join(f"{length:,}" for length in shape) + f" values of type {dtype}"
        message = f"{where}: {values} take {size:,} bytes, more than there is memory"
        hint = "a .npy file is read in place, without a copy in memory"
        raise DataError(message, hint) from None


@cache
def _most() -> float:
    """:func:`total_memory`, cached because many files may ask; infinity if it is unknown."""
    return total_memory() or math.inf


def _of_machine(root: Path, what: str = "MemAvailable:") -> list[int]:
    lines = _lines(root / "proc/meminfo")
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(what)]
    if not found and root == Path("/"):  # macOS reports no free memory; all of it is a bound
        with suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return found


def _of_groups(root: Path) -> Iterator[tuple[int, int, str]]:
    """(limit, bytes left, name) of every control group of this process, the innermost first."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        old = "memory" in controllers.split(",")
        if controllers and not old:
            continue
        for is_old, inside, place in _mounts(root):
            if is_old is old:
                # In a container, the root of the mount may be the group of the container itself.
                below = os.path.relpath(path, inside) if Path(path).is_relative_to(inside) else "."
                top = root / place.lstrip("/")
                folder = top / below if (top / below).is_dir() else top
                yield from _upwards(folder, top, _VERSION_1 if old else _VERSION_2)


def _mounts(root: Path) -> Iterator[tuple[bool, str, str]]:
    """(is v1, group, mount point) of every mount of memory control groups."""
    for line in _lines(root / "proc/self/mountinfo"):
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(), tail.split()
        if len(fields) < 5 or not kind:
            continue
        if kind[0] == "cgroup2":
            yield False, fields[3], fields[4]
        elif kind[0] == "cgroup" and "memory" in kind[-1].split(","):
            yield True, fields[3], fields[4]


def _upwards(folder: Path, top: Path, names: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
    """Limits of the groups from `folder` up to `top`."""
    for group in (folder, *folder.parents):
        limit, used = (_number("".join(_lines(group / name))) for name in names[:2])
        if limit is not None and limit < _NO_LIMIT:
            stat = dict(line.partition(" ")[::2] for line in _lines(group / "memory.stat"))
            taken = max(0, (used or 0) - (_number(stat.get(names[2], "")) or 0))
            yield limit, max(0, limit - taken), "/" + str(group.relative_to(top)).lstrip(".")
        if group == top:
            return


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None  # "max" is no limit


def _lines(path: Path) -> list[str]:
    """The lines of a system file; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
