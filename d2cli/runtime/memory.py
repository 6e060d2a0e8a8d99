"""How much memory a run may still take: the machine's, and that of the control groups it is in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Above this, a limit of cgroup v1 means that there is none.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Available:
    """Bytes that may still be taken, and who says so."""

    size: int
    source: str


def available_memory(root: Path = Path("/")) -> Available | None:
    """The least of what the machine and each enclosing control group have left.

    Cached files that are not in active use count as free in both: the system gives them back.

    Args:
        root: where ``proc`` is mounted; for tests.

    Returns:
        None where the system does not say.
    """
    found = [Available(size, "of the machine") for size in _of_machine(root)]
    found += [
        Available(left, f"within the limit of the control group {name}")
        for _, left, name in _of_groups(root)
    ]
    return min(found, key=lambda one: one.size, default=None)


def total_memory(root: Path = Path("/")) -> int | None:
    """The most that this process could ever take: what the machine has, and its groups may take."""
    sizes = [*_of_machine(root, "MemTotal:"), *(limit for limit, _, _ in _of_groups(root))]
    return min(sizes, default=None)


def _of_machine(root: Path, what: str = "MemAvailable:") -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith(what):
            yield int(line.split()[1]) * 1024
            return
    if root == Path("/"):  # macOS: what is free is not said, what is there is a bound
        try:
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return


def _of_groups(root: Path) -> Iterator[tuple[int, int, str]]:
    """What every control group from our own upwards may take, what it has left, and its name."""
    mounts = list(_mounts(root))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        old = "memory" in controllers.split(",")
        if controllers and not old:
            continue
        for is_old, inside, place in mounts:
            if is_old is not old:
                continue
            # A container may see its own group as the root of the mount, or under its full name.
            below = os.path.relpath(path, inside) if _is_within(path, inside) else "."
            folder = root / place.lstrip("/") / below
            if not folder.is_dir():
                folder = root / place.lstrip("/")
            yield from _upwards(folder, root / place.lstrip("/"), old)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mounts(root: Path) -> Iterator[tuple[bool, str, str]]:
    """Where control groups of memory are mounted: whether v1, which group is there, the place."""
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
    """The lines of a file of the kernel; none where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
