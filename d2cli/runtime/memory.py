"""Memory that a run may still take, of the machine and of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError

#: A limit of cgroup v1 above this means "no limit".
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Available:
    """Bytes that may still be taken, and which limit that is."""

    size: int
    source: str


def available_memory(root: Path = Path("/")) -> Available | None:
    """The minimum of what the machine and each enclosing control group have left.

    Inactive pages of the file cache count as free, because the system reclaims them.

    Args:
        root: parent of ``proc``, for tests.

    Returns:
        None if the system does not report it.
    """
    found = [Available(size, "of the machine") for size in _of_machine(root)]
    found += [
        Available(left, f"within the limit of the control group {name}")
        for _, left, name in _of_groups(root)
    ]
    return min(found, key=lambda one: one.size, default=None)


def total_memory(root: Path = Path("/")) -> int | None:
    """The minimum of the memory of the machine and the limits of its control groups, or None."""
    sizes = [*_of_machine(root, "MemTotal:"), *(limit for limit, _, _ in _of_groups(root))]
    return min(sizes, default=None)


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
        claim = " × ".join(f"{length:,}" for length in shape)
        raise DataError(
            f"{where}: {claim} values of type {dtype} take {size:,} bytes, more than there is "
            "memory",
            "a .npy file is read in place, without a copy in memory",
        ) from None


@cache
def _most() -> float:
    """:func:`total_memory`, cached because many files may ask; infinity if it is unknown."""
    most = total_memory()
    return math.inf if most is None else most


def _of_machine(root: Path, what: str = "MemAvailable:") -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith(what):
            yield int(line.split()[1]) * 1024
            return
    if root == Path("/"):  # macOS reports no free memory; all of it is a bound
        try:
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return


def _of_groups(root: Path) -> Iterator[tuple[int, int, str]]:
    """(limit, bytes left, name) of every control group of this process, the innermost first."""
    mounts = list(_mounts(root))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        old = "memory" in controllers.split(",")
        if controllers and not old:
            continue
        for is_old, inside, place in mounts:
            if is_old is not old:
                continue
            # In a container, the root of the mount may be the group of the container itself.
            below = os.path.relpath(path, inside) if _is_within(path, inside) else "."
            folder = root / place.lstrip("/") / below
            if not folder.is_dir():
                folder = root / place.lstrip("/")
            yield from _upwards(folder, root / place.lstrip("/"), old)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


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


def _upwards(folder: Path, top: Path, old: bool) -> Iterator[tuple[int, int, str]]:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit_name, used_name, idle_name = (
        names if old else ("memory.max", "memory.current", "inactive_file")
    )
    while True:
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None and limit < _NO_LIMIT:
            idle = 0
            for line in _lines(folder / "memory.stat"):
                name, _, value = line.partition(" ")
                if name == idle_name and value.strip().isdecimal():
                    idle = int(value)
            taken = max(0, (used or 0) - idle)
            name = "/" + str(folder.relative_to(top)).lstrip(".")
            yield limit, max(0, limit - taken), name
        if folder == top or top not in folder.parents:
            return
        folder = folder.parent


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _lines(path: Path) -> list[str]:
    """The lines of a system file; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
