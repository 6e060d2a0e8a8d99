"""What processes use: memory, CPU seconds and I/O, read from /proc while they run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np

#: Seconds between two readings of /proc.
PAUSE = 0.1
#: Bytes that reads and writes moved, and bytes that the disk moved. A read of a mapped page counts
#: only if the disk moved it.
IO = ("rchar", "wchar", "read_bytes", "write_bytes")
#: What only grows; ``cpu`` is in seconds.
COUNTED = ("cpu", *IO)
#: Entries of /proc/PID/status. VmHWM is the highest VmRSS, also between two readings; ru_maxrss is
#: no substitute, since it counts what the process was before it became d2prune.
STATUS = {"VmRSS": "resident", "RssAnon": "anonymous", "VmHWM": "highest"}
_TICK = os.sysconf("SC_CLK_TCK")

Reading = dict[str, float]


class Watch:
    """Reads /proc every PAUSE seconds, of a process and its descendants.

    What they used before does not count. Processes that have ended count with their last reading.
    """

    def __init__(self, pid: int) -> None:
        """Begin to read."""
        self.pid = pid
        self.readings: list[tuple[float, Reading]] = []
        self._before = {each: counted(each) for each in family(pid)}
        self._last: dict[int, Reading] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(PAUSE):
            self._read()

    def _read(self) -> None:
        memory = dict.fromkeys(STATUS.values(), 0.0)
        for pid in family(self.pid):
            for name, size in resident(pid).items():
                memory[name] += size
            now, old = counted(pid), self._last.get(pid, {})
            self._last[pid] = {name: max(now[name], old.get(name, 0.0)) for name in COUNTED}
        used = {name: sum(self.used(name, pid) for pid in self._last) for name in COUNTED}
        self.readings.append((time.perf_counter(), {**memory, **used}))

    def end(self) -> None:
        """Read once more, and no longer."""
        self._ended.set()
        self._thread.join()
        self._read()

    def used(self, name: str, pid: int) -> float:
        """Return what one process has used so far of something that is COUNTED."""
        last, before = (of.get(pid, {}).get(name, 0.0) for of in (self._last, self._before))
        return max(0.0, last - before)

    def peak(self, name: str, start: float = -np.inf, stop: float = np.inf) -> float:
        """Return the highest reading of a kind of memory between two times."""
        values = [now[name] for at, now in self.readings if start <= at <= stop]
        return max(values, default=0)

    def moved(self, name: str, start: float = -np.inf, stop: float = np.inf) -> float:
        """Return what was used between two times, interpolated between readings."""
        if not self.readings:
            return 0.0
        times = [at for at, _ in self.readings]
        values = [now[name] for _, now in self.readings]
        first = 0.0 if start < times[0] else float(np.interp(start, times, values))
        return float(np.interp(stop, times, values)) - first


def family(pid: int) -> list[int]:
    """Return the process and its descendants that live."""
    found = [pid]
    for each in found:
        try:
            for task in list(Path(f"/proc/{each}/task").iterdir()):
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # ended meanwhile
            continue
    return found


def resident(pid: int) -> Reading:
    """Return the memory of a process in bytes; zeros if it has ended."""
    found = dict.fromkeys(STATUS.values(), 0.0)
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in STATUS:
                found[STATUS[name]] = float(value.split()[0]) * 1024
    except OSError:  # ended meanwhile
        pass
    return found


def counted(pid: int) -> Reading:
    """Return CPU seconds and I/O in bytes of a process so far; zeros if it has ended."""
    found = dict.fromkeys(COUNTED, 0.0)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found["cpu"] = (int(fields[11]) + int(fields[12])) / _TICK
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in IO:
                found[name] = float(value)
    except OSError:  # ended meanwhile
        pass
    return found
