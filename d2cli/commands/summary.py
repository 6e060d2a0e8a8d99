"""What a run tells its caller: numbers, lines for people, and what they should notice."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2cli.runtime import stopping


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        outputs: the files that were written, as they were asked for.
        record: the provenance that is the same for the same run.
        run: what differs from run to run: seconds by stage, threads, peak memory in bytes.
        lines: (label, text) for people.
        notices: what deserves a second look, one line each.
    """

    outputs: list[str]
    record: dict[str, Any]
    run: dict[str, Any]
    lines: list[tuple[str, str]]
    notices: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything but the lines."""
        return {
            "outputs": self.outputs,
            **self.record,
            "run": self.run,
            "notices": self.notices,
        }


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`. Between stages a run may be stopped."""
        stopping.check()
        start = time.perf_counter()
        yield
        stopping.check()
        spent = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 4)

    def run(self, threads: int) -> dict[str, Any]:
        """The part of the provenance that differs from run to run."""
        total = round(time.perf_counter() - self._started, 4)
        return {
            "seconds": {**self.seconds, "total": total},
            "threads": threads,
            "peak_memory_bytes": peak_memory(),
        }


def peak_memory() -> int:
    """The most memory that was resident in this process at one time, in bytes.

    Everything in RAM counts: arrays, the program and its libraries, and the pages of memory-mapped
    files that were touched.
    """
    try:
        # Linux: of this program alone. ``ru_maxrss`` begins with what the parent process had.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource  # noqa: PLC0415
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def last_line(run: dict[str, Any]) -> tuple[str, str]:
    """Time and memory, for people."""
    threads = f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}"
    return (
        "run",
        f"{run['seconds']['total']:.1f} s on {threads}, "
        f"peak memory {run['peak_memory_bytes'] / 2**20:,.0f} MiB",
    )
