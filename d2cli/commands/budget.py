"""The memory that a run keeps to, and the place for what does not fit; decided once a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from d2cli.engine.cluster import RayEngine
from d2cli.errors import OutputError, UsageError
from d2cli.files.output.atomic import reason_of
from d2cli.files.output.remote_folder import work_folder
from d2cli.files.output.work_files import WorkFiles
from d2cli.files.output.work_folder import WorkFolder
from d2cli.runtime.ledger import BASE, RAY, Estimate, Ledger
from d2cli.runtime.memory import available_memory, kept_freed
from d2cli.runtime.units import binary, parse_size

if TYPE_CHECKING:
    from d2cli.commands.requests import RunOptions

#: The share of the available memory that a run keeps to without ``--max-memory``.
SHARE = 0.8


@dataclass(frozen=True)
class Room:
    """What a run may use.

    Attributes:
        memory: bytes, besides program and libraries (BASE); None: the system reports no limit.
        work_dir: the folder, or the address, for files that do not fit in memory.
        given: whether the user gave the memory. Then a run that cannot keep to it is refused.
        engine: the cluster whose tasks do the work; None: this process does. With a cluster,
            `memory` is that of one task, and what tasks share is always in files of `work_dir`.
    """

    memory: int | None
    work_dir: WorkFolder
    given: bool = False
    engine: RayEngine | None = None

    @classmethod
    def of(cls, options: RunOptions, output: str, *, tasks: bool = False) -> Room:
        """The room of a run that writes `output`; of several outputs, a pattern of their names.

        `tasks` says whether the command can run as tasks of a cluster.

        Raises:
            UsageError: if ``--max-memory`` is no size, or there is no such cluster.
            OutputError: if ``--work-dir`` is given and cannot be written.
        """
        memory, engine = None, _engine(options, tasks)
        if options.max_memory is not None:
            memory = parse_size(options.max_memory, "max-memory")
        if engine is not None:
            memory = engine.memory_of_task(SHARE, memory)
        elif memory is None and (available := available_memory()) is not None:
            memory = max(0, int(SHARE * available.size) - BASE)
        beside = next((one for one in Path(output).parents if "{" not in str(one)), Path())
        folder = work_folder(beside if options.work_dir is None else options.work_dir)
        room = cls(memory, folder, options.max_memory is not None, engine)
        if options.work_dir is not None:
            folder.check()
        return room

    def holds(self, estimate: Estimate) -> bool:
        """Whether a run with this estimate keeps to the memory."""
        return self.memory is None or estimate.peak - BASE <= self.memory

    @property
    def text(self) -> str:
        """The memory and where it comes from, for people."""
        if self.memory is None:
            return "no limit is known"
        if self.engine is not None:
            return f"{binary(self.memory)} a task, besides program and libraries"
        why = "--max-memory" if self.given else f"{SHARE:.0%} of what is available"
        return f"{binary(self.memory)} besides program and libraries ({why})"


@dataclass(frozen=True)
class Spill:
    """What a run keeps in files of the work folder, because it does not fit in memory.

    Attributes:
        what: for people: ``edges``.
        disk: the most bytes in the folder at one time.
        written, read: bytes of all files there, and of inputs that are read again; at least.
        room: bytes of the files' content that may be in memory at one time.
        left: bytes that stay in the folder until the end of the run.
    """

    what: str
    disk: int
    written: int
    read: int
    room: int
    left: int = 0

    def and_then(self, other: Spill) -> Spill:
        """Both, one after the other."""
        return Spill(
            f"{self.what} and {other.what}", max(self.disk, self.left + other.disk),
            self.written + other.written, self.read + other.read, max(self.room, other.room),
        )  # fmt: skip


#: Adds a run to the ledger of the process and to that of a task: with everything in memory (None),
#: or with files and that many bytes of their content in memory beyond the least.
Account = Callable[[Ledger, Ledger, int | None], object]


@dataclass(frozen=True)
class Arranged:
    """What a run needs in the way that it was arranged.

    Attributes:
        process: the memory of the process that is started.
        task: that of one task of a cluster; None: the process does everything.
        spare: bytes of the files' content that may be in memory; None: nothing is in files.
    """

    process: Estimate
    task: Estimate | None = None
    spare: int | None = None


def arranged(room: Room, account: Account, *, files: bool = True) -> Arranged:
    """Decide whether a run keeps everything in memory, or some of it in files.

    Without a cluster, both ledgers of `account` are the same one. `files` says whether the run can
    use files. If nothing keeps to the memory, what needs the least is returned.
    """

    def accounted(spare: int | None, freed: int = 0) -> Arranged:
        process = Ledger()
        if room.engine is None or spare is None:
            process.hold("freed arrays", freed)
            account(process, process, spare)
            return Arranged(process.estimate(), None, spare)
        tasks = Ledger()
        process.hold("Ray", RAY)
        tasks.hold("freed arrays", freed)
        account(process, tasks, spare)
        return Arranged(process.estimate(), tasks.estimate(), spare)

    whole = accounted(None)
    shared = room.engine is not None
    if room.memory is None or not files or (room.holds(whole.process) and not shared):
        return whole
    least = accounted(0)
    if least.process.peak >= whole.process.peak and not shared:
        return whole
    left = max(0, room.memory - ((least.task or least.process).peak - BASE))
    freed = kept_freed(left)
    return accounted(left - freed, freed)


def _engine(options: RunOptions, tasks: bool) -> RayEngine | None:
    """The cluster that the options name; None: this machine."""
    if options.engine == "local":
        if options.ray_address is not None:
            raise UsageError("--ray-address needs --engine ray")
        return None
    if not tasks:
        raise UsageError(
            "--engine ray runs graph, propagate and select",
            "this command runs on one machine: leave out --engine",
        )
    return RayEngine(options.ray_address, options.threads, options.ray_nodes)


@contextmanager
def work_files(room: Room) -> Iterator[WorkFiles]:
    """Files in the work folder, removed at the end of the block in any case.

    Raises:
        OutputError: instead of an OSError of the block, such as that of a full disk.
    """
    room.work_dir.check()
    with work_errors(room.work_dir), WorkFiles(room.work_dir) as files:
        yield files


@contextmanager
def work_errors(folder: WorkFolder) -> Iterator[None]:
    """Turn an OSError about files in a work folder into an OutputError."""
    try:
        yield
    except OSError as error:
        says = f"{error.filename or folder}: cannot be read or written ({reason_of(error)})"
        raise OutputError(says, "--work-dir names another folder for temporary files") from None
