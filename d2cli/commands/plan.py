"""``--plan``: a view of what was opened. It states memory, disk and I/O as far as headers allow.

Nothing here loads a kernel or reads data. Time is not computed: ``--pilot`` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from d2cli.commands.budget import Room, Spill
from d2cli.commands.inputs import Header
from d2cli.commands.requests import GraphOptions, as_parameters
from d2cli.defaults import EXACT_UP_TO
from d2cli.engine.cluster import RayEngine
from d2cli.errors import LimitError
from d2cli.files.epochs import Epochs
from d2cli.files.graph_file import GraphFile
from d2cli.files.output.work_folder import LocalFolder, WorkFolder
from d2cli.files.sizes import Ids
from d2cli.files.sources import Layout, Source
from d2cli.graph.settings import Matrix, SearchSettings
from d2cli.runtime.ledger import BASE, MIB, Estimate
from d2cli.runtime.memory import Available, available_memory
from d2cli.runtime.units import binary, several
from d2cli.selection.sizes import ShardSizes

#: Bytes of a sidecar.
SIDECAR_BYTES = 4096
#: Number of parts of the peak that are printed by name.
_PARTS_SHOWN = 4
#: A disk is called nearly full if less than this multiple of the outputs is free.
_SPARE_DISK = 1.1

#: Above this ratio of all rows to sampled rows, a notice is printed.
FAR = 8

_UNSURE_ROWS = "the rows of CSV and JSON Lines are estimated from the beginning of the file"
_IN_MEMORY = "samples fit in memory: the run itself takes longer, because it keeps data in files"
_GROUPS = "memory is given as if all rows were one group: no header says which label is where"


@dataclass(frozen=True)
class Forecast:
    """The time of a run, extrapolated from runs on samples.

    Attributes:
        seconds: by stage.
        rows: of the whole run.
        sampled: the two sample sizes, the second the larger.
        threads: of both.
    """

    seconds: dict[str, float]
    rows: int
    sampled: tuple[int, int]
    threads: int

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    def as_json(self) -> dict[str, Any]:
        """For programs; seconds."""
        stages = {stage: round(value, 3) for stage, value in self.seconds.items()}
        return {
            "seconds": {**stages, "total": round(self.total, 3)},
            "rows": self.rows,
            "sampled_rows": list(self.sampled),
        }

    def line(self) -> tuple[str, str]:
        """(label, text) for people."""
        longest = sorted(self.seconds.items(), key=lambda stage: -stage[1])[:3]
        most = ", ".join(f"{stage} {_duration(value)}" for stage, value in longest)
        return (
            "time",
            f"about {_duration(self.total)} on {several(self.threads, 'thread')} ({most}), "
            f"from runs on {self.sampled[0]:,} and {self.sampled[1]:,} of {self.rows:,} rows",
        )

    def notices(self) -> list[str]:
        """A notice if the extrapolation reaches far."""
        factor = self.rows / self.sampled[1]
        if factor <= FAR:
            return []
        return [
            f"the time is extrapolated from 1/{factor:,.0f} of the rows: neighbours that are "
            "harder to find among all rows than in the sample take longer"
        ]


@dataclass(frozen=True)
class OnCluster:
    """What a run takes of the nodes of a cluster, besides the process that is started.

    Attributes:
        room: the memory that it keeps to.
        engine: the cluster.
        task: the memory of one task.
        store: bytes that pass through the object store of a node at one time, at most.
        shards: what holds the edges while rows are picked; None: no node does.
    """

    room: Room
    engine: RayEngine
    task: Estimate
    store: int
    shards: ShardSizes | None

    def as_json(self) -> dict[str, Any]:
        """For programs; sizes in bytes."""
        shards = self.shards
        return {
            "nodes": self.engine.nodes,
            "tasks": {
                "at_once": self.engine.at_once,
                "peak_bytes": self.task.peak,
                "stage": self.task.stage,
                "parts": self.task.parts,
            },
            "shards": None if shards is None else {
                "count": shards.count, "bytes": BASE + shards.size,
            },
            "object_store_bytes": self.store,
        }  # fmt: skip

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for people."""
        at_once = f"{self.engine.at_once} at once on {several(self.engine.nodes, 'node')}"
        return [
            ("tasks", f"about {binary(self.task.peak)} each, in {self.task.stage}; {at_once}"),
            *([("shards", self.shards_text)] if self.shards is not None else []),
            (
                "store",
                f"about {binary(self.store)} at most in the object store of a node, which has "
                f"{binary(self.engine.store)}",
            ),
        ]

    @property
    def shards_text(self) -> str:
        """The shards, for people."""
        assert self.shards is not None
        return (
            f"{self.shards.count} of at most {binary(BASE + self.shards.size)} each in the memory "
            "of the nodes, while rows are picked"
        )

    def notices(self) -> list[str]:
        """What the user should know before the run."""
        found = []
        if not self.room.holds(self.task):
            found.append(
                f"a task needs about {binary(self.task.peak)} of memory, and its share of a node "
                f"is {binary(self.engine.memory)}"
            )
        if self.store > self.engine.store:
            found.append(
                f"about {binary(self.store)} pass through the object store of a node, which has "
                f"{binary(self.engine.store)}: Ray writes the rest to disk, which is slower; "
                "ray start --object-store-memory makes it larger"
            )
        return found

    def check(self) -> None:
        """Refuse a run whose tasks or shards the nodes cannot hold.

        Raises:
            LimitError: with the memory that would do.
        """
        if self.room.given and not self.room.holds(self.task):
            raise LimitError(
                f"a task needs at least {_mebibytes(self.task.peak)} MiB with the program, and its "
                f"share of --max-memory is {binary(self.engine.memory)}: use a larger --max-memory"
            )
        if self.shards is not None:
            self.engine.check_room("shard", self.shards.count, self.shards.size)


def on_cluster(
    room: Room, task: Estimate | None, store: int, shards: ShardSizes | None = None
) -> OnCluster | None:
    """What a run takes of the nodes; None if it has no tasks there."""
    if room.engine is None or task is None:
        return None
    return OnCluster(room, room.engine, task, store, shards)


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        command: its name.
        reads: the layouts of its inputs.
        method: one line: the method, and why.
        estimate: memory of the process that is started, and disk for checkpoints.
        writes: (target, bytes) of each output, `-` being standard output.
        threads: how many it would use.
        room: the memory that it keeps to.
        notes: what the numbers do not cover.
        search, edges: what the search for neighbours and what later steps keep in files; None:
            everything is in memory.
        cluster: what tasks and shards take of a cluster; None: this process does everything.
        time: measured on samples, if that was asked for.
    """

    command: str
    reads: list[Header]
    method: str
    estimate: Estimate
    writes: list[tuple[str, int]]
    threads: int
    room: Room
    notes: list[str] = field(default_factory=list)
    search: Spill | None = None
    edges: Spill | None = None
    cluster: OnCluster | None = None
    time: Forecast | None = None

    @property
    def spill(self) -> Spill | None:
        """All that is kept in files."""
        if self.search is None or self.edges is None:
            return self.search or self.edges
        return self.search.and_then(self.edges)

    @property
    def read_bytes(self) -> int:
        """Bytes of all inputs. A run reads each once, and mapped ones again if memory is short."""
        return sum(layout.size for layout in self.reads)

    @property
    def written_bytes(self) -> int:
        """Bytes that outputs take on disk, with their provenance."""
        return sum(size + SIDECAR_BYTES for target, size in self.writes if target != "-")

    @property
    def io(self) -> tuple[int, int]:
        """Bytes that are read and written, at least; those of files in the work folder included."""
        read, written = self.read_bytes, self.written_bytes + self.estimate.temporary
        if self.spill is None:
            return read, written
        return read + self.spill.read, written + self.spill.written

    def notices(self) -> list[str]:
        """What the user should know before the run."""
        notices = list(self.notes)
        if not all(one.exact for one in self.reads if isinstance(one, Layout)):
            notices.append(_UNSURE_ROWS)
        if self.time is not None:
            notices += self.time.notices()
            if self.spill is not None:
                notices.append(_IN_MEMORY)
        notices += self.memory_notices()
        for folder, size in self._by_folder().items():
            free = folder.free()
            if free is not None and free < size * _SPARE_DISK:
                notices.append(
                    f"about {binary(size)} would be written and {binary(free)} are free in {folder}"
                )
        return notices

    def _by_folder(self) -> dict[WorkFolder, int]:
        """Bytes to be written, by folder; the run refuses a folder that is not there."""
        sizes: dict[WorkFolder, int] = {}
        for target, size in self.writes:
            folder = Path(target).parent
            if target != "-" and folder.is_dir():
                place = LocalFolder(folder)
                sizes[place] = sizes.get(place, 0) + size + SIDECAR_BYTES
        sizes = {folder: size + self.estimate.temporary for folder, size in sizes.items()}
        if self.spill is not None:
            sizes[self.room.work_dir] = sizes.get(self.room.work_dir, 0) + self.spill.disk
        return sizes

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs; sizes in bytes."""
        available = available_memory()
        read, written = self.io
        spilled = 0 if self.spill is None else self.spill.disk
        return {
            "plan": self.command,
            "reads": [_described(one) for one in self.reads],
            "method": self.method,
            "threads": self.threads,
            "memory": {
                "peak_bytes": self.estimate.peak,
                "mapped_bytes": self.estimate.mapped,
                "stage": self.estimate.stage,
                "parts": self.estimate.parts,
                "available_bytes": available.size if available else None,
                "budget_bytes": self.room.memory,
            },
            "disk": {
                "written_bytes": self.written_bytes,
                "temporary_bytes": self.written_bytes + self.estimate.temporary + spilled,
                "outputs": [{"path": path, "bytes": size} for path, size in self.writes],
                "work_dir": None if self.spill is None else str(self.room.work_dir),
                "work_dir_bytes": spilled,
            },
            "io": {"read_bytes": read, "written_bytes": written},
            **({} if self.cluster is None else {"cluster": self.cluster.as_json()}),
            **({} if self.time is None else {"pilot": self.time.as_json()}),
            "notices": self.notices(),
        }

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for people."""
        estimate = self.estimate
        parts = list(estimate.parts.items())
        named = [f"{name} {binary(size)}" for name, size in parts[:_PARTS_SHOWN]]
        if rest := sum(size for _, size in parts[_PARTS_SHOWN:]):
            named.append(f"other {binary(rest)}")
        here = "" if self.cluster is None else " in this process"
        lines = [
            *(("reads", _line(one)) for one in self.reads),
            ("method", f"{self.method}; {several(self.threads, 'thread')}"),
            ("memory", f"about {binary(estimate.peak)} at most{here}, in {estimate.stage}"),
            ("", ", ".join(named)),
        ]
        if available := available_memory():
            lines.append(("", f"{binary(available.size)} are available {available.source}"))
        if self.cluster is not None:
            lines += self.cluster.lines()
        lines.append(("budget", self.room.text))
        if self.spill is not None:
            lines.append(("files", f"{self.spill.what}, {self._spilled}"))
        lines += [
            ("writes", f"{place_of(path)}, about {binary(size)}") for path, size in self.writes
        ]
        if estimate.temporary:
            lines.append(
                ("disk", f"checkpoints of a long build, at most {binary(estimate.temporary)}")
            )
        least = "" if self.spill is None else "at least "
        read, written = (binary(size) for size in self.io)
        lines.append(("io", f"{least}{read} read, {written} written"))
        return [*lines, *([] if self.time is None else [self.time.line()])]

    @property
    def _spilled(self) -> str:
        """Size and place of the files in the work folder."""
        assert self.spill is not None
        return f"at most {binary(self.spill.disk)} in {self.room.work_dir}"

    def spill_notices(self) -> list[str]:
        """A notice if the run keeps something in files."""
        if self.spill is None:
            return []
        if self.room.engine is not None:
            found = [f"in files for the tasks of the cluster: {self.spill.what}, {self._spilled}"]
            if self.cluster is not None and self.cluster.shards is not None:
                found.append(f"shards of edges: {self.cluster.shards_text}")
            return found
        kept = binary(self.room.memory or 0)
        return [f"kept in files, to keep to {kept}: {self.spill.what}, {self._spilled}"]

    def memory_notices(self) -> list[str]:
        """Notices if a run would need more memory than there is, here or on a cluster."""
        here = memory_notices(self.estimate, available_memory())
        return here if self.cluster is None else [*here, *self.cluster.notices()]


def before_work(make: Callable[[], Plan], room: Room) -> list[str]:
    """Refuse a run that cannot keep to its memory; notices about memory and files.

    Without ``--max-memory``, no plan was asked for, so a fault in it must not stop the run.

    Raises:
        D2Error: as of :func:`check_room`.
    """
    plan = _plan_of(make, room)
    if plan is None:
        return []
    check_room(plan)
    return [*plan.spill_notices(), *plan.memory_notices()]


def spills_of(make: Callable[[], Plan], room: Room) -> tuple[Spill | None, Spill | None]:
    """What the run keeps in files; None: nothing."""
    plan = _plan_of(make, room)
    return (None, None) if plan is None else (plan.search, plan.edges)


def _plan_of(make: Callable[[], Plan], room: Room) -> Plan | None:
    try:
        return make()
    except Exception:  # the run itself says what is wrong with its inputs
        if room.given:
            raise
        return None


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
            "back: the run would be slow rather than fail"
        )
    return [text]


def check_room(plan: Plan) -> None:
    """Refuse a run that cannot keep to its memory, or that has no folder for its files.

    Raises:
        LimitError: with the memory that would do.
        OutputError: if the work folder is needed and cannot be written.
    """
    room, estimate = plan.room, plan.estimate
    if plan.cluster is not None:
        plan.cluster.check()
    elif room.engine is None and room.given and not room.holds(plan.estimate):
        least = f"{_mebibytes(estimate.peak - BASE)} MiB"
        even = ", even with everything else in files"
        if plan.spill is None:
            most = next(name for name in estimate.parts if name != "program")
            even = f" of memory (most of it for {most})"
        raise LimitError(
            f"this run needs at least {least}{even}; --max-memory is {binary(room.memory or 0)}"
        )
    if plan.spill is not None:
        room.work_dir.check()


def _mebibytes(size: int) -> int:
    return math.ceil(size / MIB)


def _described(one: Header) -> dict[str, Any]:
    """An input, for programs."""
    entry: dict[str, Any] = {
        "option": "graph" if isinstance(one, GraphFile) else one.option,
        "paths": [str(path) for path in one.paths],
        "bytes": one.size,
        "rows": one.n if isinstance(one, GraphFile) else one.rows,
    }
    if isinstance(one, GraphFile):
        return {**entry, "n_neighbors": one.n_neighbors, "method": one.method}
    return {
        **entry,
        "rows_exact": one.exact,
        "width": one.width,
        "dtype": one.type_name,
        "memory_mapped": one.mapped,
    }


def _line(one: Header) -> str:
    """An input, for people."""
    if isinstance(one, GraphFile):
        return (
            f"{one.name}: {one.n:,} rows, k = {one.n_neighbors}, {one.method}, "
            f"{binary(one.size)}, "
            + ("memory-mapped" if one.mapped else f"{len(one.paths):,} parts")
        )
    about = "" if one.exact else "about "
    width = f" × {one.width:,}" if one.role in ("embeddings", "outputs") else ""
    mapped = ", memory-mapped" if one.mapped and one.role == "embeddings" else ""
    return f"{one.name}: {about}{one.rows:,}{width} {one.type_name}, {binary(one.size)}{mapped}"


def _duration(seconds: float) -> str:
    """At most two figures, since no more is known."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def place_of(target: str) -> str:
    """An output, for people."""
    return "standard output" if target == "-" else target


# -- from what was opened to what the memory formulas take -----------------------------------------
def ids_of(frame: Header, *joined: Source | Epochs | None) -> Ids | None:
    """The ids that outputs carry: those of the frame, else of the first joined input with ids.

    `joined` are in the order in which the run joins them (:class:`~d2cli.files.frame.Frame`).
    """
    headers = (frame, *(one.layout() for one in joined if one is not None))
    return next((one.id_sizes for one in headers if one.id_sizes is not None), None)


def read_sizes_of(frame: Header, *joined: Source | Epochs | None) -> Ids | None:
    """The sizes of the column that gives the frame its ids, or is compared with other inputs."""
    return ids_of(frame, *joined) or frame.read_sizes


def matrix_of(emb: Layout) -> Matrix:
    """Embeddings as they lie on disk; integers as the floats that they are read as."""
    kind = emb.dtype if emb.dtype.kind == "f" else np.result_type(np.float32, emb.dtype)
    return Matrix(
        emb.rows, emb.width, kind.itemsize, emb.mapped, emb.largest_mapped, emb.reading,
        emb.plain, emb.copied,
    )  # fmt: skip


def search_of(
    options: GraphOptions,
    threads: int,
    *,
    grouped: bool = False,
    taking_part: float = 1.0,
    checkpoint: float | None = None,
) -> SearchSettings:
    """A search as the memory formulas take it."""
    return SearchSettings(
        **as_parameters(options),
        threads=threads,
        grouped=grouped,
        taking_part=taking_part,
        checkpoint=checkpoint,
    )


def describe_search(search: SearchSettings, n: int) -> str:
    """One line: the method that n rows take, and why."""
    method = search.method_for(n)
    why = ""
    if search.method == "auto":
        bound = f"{EXACT_UP_TO:,} rows"
        why = f" (auto: {'up to' if method == 'exact' else 'above'} {bound})"
    return f"{method}{why}, {search.metric}, k = {search.n_neighbors}"


def search_notes(search: SearchSettings) -> list[str]:
    """What the memory of a search does not cover."""
    return [_GROUPS] if search.grouped else []
