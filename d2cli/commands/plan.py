"""``--plan``: what a run would read, need and write, from headers and arithmetic alone.

Nothing is imported here that loads a kernel, and nothing is read but headers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2cli.errors import LimitError
from d2cli.files.graph_file import GraphFile
from d2cli.files.sources import Layout
from d2cli.planning.ledger import Estimate
from d2cli.planning.speed import Speed, measure
from d2cli.runtime.memory import Available, available_memory
from d2cli.runtime.units import binary

#: What goes into the ``.json`` beside an output.
SIDECAR_BYTES = 4096
#: Parts of the peak that are named one by one.
_PARTS_SHOWN = 4
#: A disk is near full if less than this part more is free.
_SPARE_DISK = 1.1

_UNSURE_ROWS = "the rows of CSV are estimated from the beginning of the file"


@dataclass(frozen=True)
class Variant:
    """Another way to run, and what it would need."""

    option: str
    peak: int


@dataclass(frozen=True)
class Machine:
    """What a plan is held against: how fast the machine is, and the memory that is left."""

    speed: Speed
    available: Available | None

    @classmethod
    def now(cls, threads: int) -> Machine:
        """As it is at this moment; takes about half a second."""
        return cls(measure(threads), available_memory())


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        command: its name.
        reads: the headers of its inputs.
        method: one line: the method that it would take, and why.
        estimate: memory and work.
        writes: (target, bytes) of each output, `-` being standard output.
        threads: how many it would use.
        notes: what the numbers do not cover.
        lighter: other ways to run that need less memory; worked out only if asked for.
    """

    command: str
    reads: list[Layout | GraphFile]
    method: str
    estimate: Estimate
    writes: list[tuple[str, int]]
    threads: int
    notes: list[str] = field(default_factory=list)
    lighter: Callable[[], list[Variant]] = list

    @property
    def written(self) -> int:
        """Bytes that outputs take on disk, with their provenance."""
        return sum(size + SIDECAR_BYTES for target, size in self.writes if target != "-")

    def hint(self, limit: int) -> str | None:
        """What would bring the run below `limit` bytes, or at least lower."""
        lower = [v for v in self.lighter() if v.peak < self.estimate.peak]
        if not lower:
            return None
        fitting = [v for v in lower if v.peak <= limit]
        best = fitting[0] if fitting else min(lower, key=lambda v: v.peak)
        verb = "needs" if fitting else "is not enough, but needs only"
        return f"{best.option} {verb} about {binary(best.peak)}"

    def notices(self, machine: Machine) -> list[str]:
        """What deserves a second look before the run."""
        said = list(self.notes)
        if not all(header.exact for header in self.reads if isinstance(header, Layout)):
            said.append(_UNSURE_ROWS)
        said += memory_notices(self.estimate, machine.available)
        for folder, size in self._by_folder().items():
            free = shutil.disk_usage(folder).free
            if free < size * _SPARE_DISK:
                said.append(
                    f"about {binary(size)} would be written and {binary(free)} are free in {folder}"
                )
        return said

    def _kept(self) -> list[tuple[str, str]]:
        if not self.estimate.temporary:
            return []
        return [("keeps", f"checkpoints, at most about {binary(self.estimate.temporary)}")]

    def _by_folder(self) -> dict[Path, int]:
        """Bytes to be written, by folder; those that are not there are refused by the run."""
        sizes: dict[Path, int] = {}
        for target, size in self.writes:
            folder = Path(target).parent
            if target != "-" and folder.is_dir():
                sizes[folder] = sizes.get(folder, 0) + size + SIDECAR_BYTES
        return {folder: size + self.estimate.temporary for folder, size in sizes.items()}

    def as_json(self, machine: Machine) -> dict[str, Any]:
        """Everything, for programs; sizes in bytes, times in seconds."""
        seconds = self.estimate.seconds(machine.speed)
        return {
            "plan": self.command,
            "reads": [_described(header) for header in self.reads],
            "method": self.method,
            "threads": self.threads,
            "memory": {
                "peak_bytes": self.estimate.peak,
                "mapped_bytes": self.estimate.mapped,
                "stage": self.estimate.stage,
                "parts": self.estimate.parts,
                "available_bytes": machine.available.size if machine.available else None,
            },
            "disk": {
                "written_bytes": self.written,
                "temporary_bytes": self.written + self.estimate.temporary,
                "outputs": [{"path": path, "bytes": size} for path, size in self.writes],
            },
            "seconds": {
                **{stage: round(value, 3) for stage, value in seconds.items()},
                "total": round(sum(seconds.values()), 3),
            },
            "core_seconds": round(self.estimate.core_seconds(machine.speed), 3),
            "notices": self.notices(machine),
        }

    def lines(self, machine: Machine) -> list[tuple[str, str]]:
        """(label, text) for people."""
        estimate = self.estimate
        parts = list(estimate.parts.items())
        named = [f"{name} {binary(size)}" for name, size in parts[:_PARTS_SHOWN]]
        if rest := sum(size for _, size in parts[_PARTS_SHOWN:]):
            named.append(f"other {binary(rest)}")
        seconds = sorted(estimate.seconds(machine.speed).items(), key=lambda stage: -stage[1])
        most = ", ".join(f"{stage} {_duration(value)}" for stage, value in seconds[:3])
        memory = [
            ("memory", f"about {binary(estimate.peak)} at most, in {estimate.stage}"),
            ("", ", ".join(named)),
        ]
        if available := machine.available:
            memory.append(("", f"{binary(available.size)} are available {available.source}"))
        return [
            *(("reads", _line(header)) for header in self.reads),
            ("method", self.method),
            *memory,
            *(("writes", f"{_place(path)}, about {binary(size)}") for path, size in self.writes),
            *self._kept(),
            (
                "time",
                f"roughly {_duration(sum(s for _, s in seconds))} on {self.threads} "
                f"thread{'s' if self.threads > 1 else ''} as busy as the machine is now ({most})",
            ),
        ]


def shortage(plan: Plan) -> list[str]:
    """A notice if the run is predicted to need more memory than there is at this moment."""
    return memory_notices(plan.estimate, available_memory())


def memory_notices(estimate: Estimate, available: Available | None) -> list[str]:
    """A notice if a run would need more memory than there is."""
    if available is None or estimate.peak <= available.size:
        return []
    text = (
        f"this run needs about {binary(estimate.peak)} of memory, and {binary(available.size)} "
        f"are available {available.source}"
    )
    if estimate.peak - estimate.mapped <= available.size:
        text += (
            f"; {binary(estimate.mapped)} are pages of mapped files, which the system can take "
            "back: it would be slow rather than fail"
        )
    return [text]


def check_limit(plan: Plan, limit: int) -> None:
    """Refuse a run that is predicted to need more than `limit` bytes.

    Raises:
        LimitError: with what would lower it, where something would.
    """
    if plan.estimate.peak > limit:
        raise LimitError(
            f"this run needs about {binary(plan.estimate.peak)} of memory (most of it for "
            f"{next(iter(plan.estimate.parts))}), more than --max-memory {binary(limit)}",
            plan.hint(limit),
        )


def _described(header: Layout | GraphFile) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "option": "graph" if isinstance(header, GraphFile) else header.option,
        "paths": [str(path) for path in header.paths],
        "bytes": header.size,
        "rows": header.n if isinstance(header, GraphFile) else header.rows,
    }
    if isinstance(header, GraphFile):
        return {**entry, "n_neighbors": header.n_neighbors, "method": header.method}
    return {
        **entry,
        "rows_exact": header.exact,
        "width": header.width,
        "dtype": header.type_name,
        "memory_mapped": header.mapped,
    }


def _line(header: Layout | GraphFile) -> str:
    if isinstance(header, GraphFile):
        return (
            f"{header.path}: {header.n:,} rows, k = {header.n_neighbors}, {header.method}, "
            f"{binary(header.size)}, memory-mapped"
        )
    about = "" if header.exact else "about "
    width = f" × {header.width:,}" if header.role in ("embeddings", "outputs") else ""
    mapped = ", memory-mapped" if header.mapped and header.role == "embeddings" else ""
    return (
        f"{header.name}: {about}{header.rows:,}{width} {header.type_name}, "
        f"{binary(header.size)}{mapped}"
    )


def _place(target: str) -> str:
    return "standard output" if target == "-" else target


def _duration(seconds: float) -> str:
    """Two figures at the most, since no more is known."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
