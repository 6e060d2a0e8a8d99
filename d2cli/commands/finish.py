"""The end of every run: outputs written as one, each with its provenance, and the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from d2cli.commands.inputs import Inputs
from d2cli.engine.cluster import RayEngine
from d2cli.engine.threads import Progress, silent
from d2cli.files.output.atomic import Outputs
from d2cli.files.output.checkpoint import Tell, unheard
from d2cli.files.parts.part_kinds import PartKind
from d2cli.files.provenance.sidecar import sidecar_path, write_sidecar
from d2cli.runtime import stopping
from d2cli.runtime.decisions import Decision
from d2cli.runtime.streams import written
from d2cli.runtime.units import several


@dataclass(frozen=True)
class Terminal:
    """What a run may say while it works.

    Attributes:
        progress: called with the stage, and how much is done of how much.
        tell: called with what the user should know at once.
        stdout: the text stream of an output named ``-``; None if it is closed.
    """

    progress: Progress = silent
    tell: Tell = unheard
    stdout: IO[str] | None = None


@dataclass(frozen=True)
class Output:
    """One file, or folder of parts, that a run makes.

    Attributes:
        target: its path, or ``-`` for standard output.
        provenance: the part that does not differ between equal runs.
        store: writes the data to a path, or to the stream of ``-``.
        parts: the kind of the parts; None: it is a file.
    """

    target: str
    provenance: dict[str, Any]
    store: Callable[[Any], None]
    parts: PartKind | None = None


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        outputs: the files that were written, as they were asked for.
        provenance: the part that does not differ between equal runs.
        run: what differs from run to run: seconds by stage, threads, peak memory in bytes.
        lines: (label, text) for people.
        notices: what the user should know, one line each.
        decisions: the automatic choices.
    """

    outputs: list[str]
    provenance: dict[str, Any]
    run: dict[str, Any]
    lines: list[tuple[str, str]]
    notices: list[str] = field(default_factory=list)
    decisions: tuple[Decision, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Everything but the lines."""
        return {
            "outputs": self.outputs,
            **self.provenance,
            "run": self.run,
            "notices": self.notices,
        }


def finish(
    inputs: Inputs,
    clock: Clock,
    threads: int,
    outputs: list[Output],
    lines: list[tuple[str, str]],
    notices: list[str],
    *,
    provenance: dict[str, Any] | None = None,
    decisions: tuple[Decision, ...] = (),
    terminal: Terminal | None = None,
) -> Summary:
    """Write the files, all or none, and sum up the run. An output ``-`` is printed as it comes.

    Args:
        inputs: what the outputs were made from; compared with their state at the beginning.
        clock: of this run.
        threads: how many were used.
        outputs: what to write.
        lines: (label, text) for people.
        notices: what the user should know.
        provenance: of the summary; by default that of the one output.
        decisions: the automatic choices.
        terminal: has the stream of an output named ``-``.
    """
    with Outputs() as files:
        for output in outputs:
            if output.target == "-":
                with written(terminal.stdout if terminal else None, data=True) as stdout:
                    output.store(stdout)
                continue
            sidecar = files.place(sidecar_path(output.target))
            path = files.place(output.target, output.parts)
            with clock.stage("write"):
                output.store(path)
            run = {**clock.run(threads), **inputs.whereabouts}
            write_sidecar(sidecar, path, output.provenance, run)
    run = {**clock.run(threads), **inputs.whereabouts}
    return Summary(
        [output.target for output in outputs],
        outputs[0].provenance if provenance is None else provenance,
        run,
        [*inputs.lines(), *lines, last_line(run)],
        [*inputs.notices, *notices, *inputs.changed()],
        decisions,
    )


def begin(inputs: Inputs, engine: RayEngine | None = None) -> Clock:
    """Describe the inputs, as they are before anything is read; returns the clock of the run."""
    clock = Clock(engine)
    inputs.describe()
    return clock


class Clock:
    """Seconds by stage, and by step of the stages that report steps.

    `engine` is the cluster that runs the tasks, if one does.
    """

    def __init__(self, engine: RayEngine | None = None) -> None:
        self._engine = engine
        self.seconds: dict[str, float] = {}
        self.steps: dict[str, float] = {}
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

    def timed(self, progress: Progress) -> Progress:
        """The same progress; the time between two calls is added to the step of the second."""
        last = time.perf_counter()

        def told(step: str, done: int, total: int) -> None:
            nonlocal last
            now = time.perf_counter()
            self.steps[step], last = round(self.steps.get(step, 0.0) + now - last, 4), now
            progress(step, done, total)

        return told

    def run(self, threads: int) -> dict[str, Any]:
        """The part of the provenance that differs from run to run."""
        total, engine = round(time.perf_counter() - self._started, 4), self._engine
        cluster = {}
        if engine is not None:
            of_cluster = {"nodes": engine.nodes, "cores": engine.at_once, "tasks": engine.tasks}
            cluster = {"cluster": of_cluster}
        return {
            "seconds": {**self.seconds, "total": total},
            **({"steps": self.steps} if self.steps else {}),
            **cluster,
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
    seconds, memory = run["seconds"]["total"], f"{run['peak_memory_bytes'] / 2**20:,.0f} MiB"
    cluster = run.get("cluster")
    if cluster is None:
        return (
            "run",
            f"{seconds:.1f} s on {several(run['threads'], 'thread')}, peak memory {memory}",
        )
    tasks, nodes, cores = (several(cluster[f"{one}s"], one) for one in ("task", "node", "core"))
    return ("run", f"{seconds:.1f} s, {tasks} on {nodes} with {cores}, peak memory here {memory}")
