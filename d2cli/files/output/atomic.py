"""Atomic outputs: an output is written completely or not at all.

Guarantees, on a file system with POSIX semantics:

- At any time the name of an output refers to the complete old file or the complete new one. The
  same holds for its sidecar.
- When a run ends without an error, outputs and sidecars are on disk (fsync).
- A run that fails restores the files that it has already replaced.
- A run that is killed between two renames leaves each output with a sidecar that describes it
  (:meth:`Outputs._bridged`).

A folder of parts is an output too; :mod:`d2cli.files.output.folder_swap` says what holds for it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from d2cli.errors import OutputError, UsageError
from d2cli.files.locate.copies import is_address
from d2cli.files.output.folder_swap import check_replaceable, replace_folder, restore_folder
from d2cli.files.output.temporary import (
    TEMPORARY,
    TEMPORARY_FOLDER,
    Lease,
    flush,
    lock,
    opened,
    sweep,
)
from d2cli.files.parts.part_folders import files_of, kind_of_folder
from d2cli.files.parts.part_kinds import PartKind
from d2cli.files.provenance.sidecar import bridging_sidecar, sidecar_path
from d2cli.runtime import stopping


class Outputs:
    """Files that belong together: each is written to a temporary file and renamed at the end.

    >>> with Outputs() as outputs:
    ...     path = outputs.place("selected.npy")   # write to this
    ... # now the file exists; if the block raised, nothing has changed

    A sidecar is renamed before the output that it describes, independent of the order of the calls:
    ``make`` checks the time of the output.
    """

    def __init__(self) -> None:
        self._moves: list[_Move] = []
        self._leases: dict[Path, Lease] = {}

    def place(self, target: str | Path, kind: PartKind | None = None) -> Path:
        """The temporary path to write to, in the folder of `target`.

        If a `kind` is given, the path is that of a folder to make, for parts of this kind.
        """
        final = resolve(Path(target))
        ending = TEMPORARY if kind is None else TEMPORARY_FOLDER
        self._moves.append(_Move(str(target), self._lease(final).temporary(ending), final, kind))
        return self._moves[-1].temporary

    def _lease(self, final: Path) -> Lease:
        """The temporary paths beside `final`. Their length does not depend on that of `final`."""
        if final.parent not in self._leases:
            with naming(final):
                self._leases[final.parent] = Lease(final.parent)
        return self._leases[final.parent]

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            with stopping.shield():
                for lease in self._leases.values():
                    lease.end()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            with naming(self._moves[-1].final if self._moves else "output"):
                raise error

    def _finish(self) -> None:
        for move in self._moves:
            with naming(move.final):
                for path in dict.fromkeys([*files_of(move.temporary), move.temporary]):
                    (_flush_folder if path.is_dir() else flush)(path)
        moves = {Path(move.target): move for move in self._moves}
        beside = {move: moves.get(sidecar_path(move.target)) for move in self._moves}
        pairs = [(move, sidecar) for move, sidecar in beside.items() if sidecar]
        data = [move for move in self._moves if move not in beside.values()]
        folders = sorted({move.final.parent for move in self._moves})
        stopping.check()
        with stopping.shield(), _alone_in(folders), _Undo(self._lease) as undo:
            first, last = [], []
            for move, sidecar in pairs:
                bridge = self._bridged(move, sidecar)
                first.append(bridge or sidecar)
                last += [sidecar] if bridge else []
            for stage in (first, data, last):
                for move in stage:
                    with naming(move.final):
                        undo.move(move)
                for folder in {move.final.parent for move in stage}:
                    with naming(folder):
                        _flush_folder(folder)
            stopping.mark_written()

    def _bridged(self, data: _Move, sidecar: _Move) -> _Move | None:
        """A sidecar with both the new and the old provenance, used while the output is replaced.

        Two files cannot be renamed at once. A reader between the two renames, or after a kill
        between them, finds the provenance of the file that exists (:func:`read_sidecar`).
        """
        text = bridging_sidecar(sidecar.temporary, sidecar.final, data.final)
        if text is None:
            return None
        with naming(sidecar.final):
            temporary = self._lease(sidecar.final).temporary()
            step = _Move(sidecar.target, temporary, sidecar.final)
            step.temporary.write_text(text, encoding="utf-8")
            flush(step.temporary)
        return step


@dataclass(frozen=True, eq=False)
class _Move:
    """The target as given, the temporary file or folder, the resolved target, the kind of parts."""

    target: str
    temporary: Path
    final: Path
    kind: PartKind | None = None


class _Undo:
    """Renames files and folders into place; if the block raises, restores the old ones."""

    def __init__(self, lease: Callable[[Path], Lease]) -> None:
        self._lease = lease
        self._done: list[tuple[Path, Path | None]] = []

    def move(self, move: _Move) -> None:
        """``os.replace``, with a backup link to the old file until the block ends."""
        source, final = move.temporary, move.final
        if move.kind is not None:
            old = replace_folder(source, final, self._lease(final), move.kind)
            self._done.append((final, old))
            return
        backup = None
        if final.exists():
            backup = self._lease(final).temporary()
            with suppress(OSError):  # some file systems have no links
                os.link(final, backup)
        os.replace(source, final)
        self._done.append((final, backup))

    def __enter__(self) -> _Undo:
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        stuck = []
        for final, backup in reversed(self._done) if error else ():
            try:
                if final.is_dir():
                    restore_folder(backup, final, self._lease(final))
                elif backup is None:
                    final.unlink()
                else:
                    os.replace(backup, final)
            except OSError:
                stuck.append(final)
        if stuck and isinstance(error, OutputError):
            names = ", ".join(str(path) for path in dict.fromkeys(stuck))
            error.hint = f"already replaced, and could not be restored: {names}"


@contextmanager
def _alone_in(folders: Iterable[Path]) -> Iterator[None]:
    """Lock folders, so that no other run renames outputs in them at the same time.

    Without the lock, two runs with the same output could leave the output of one with the sidecar
    of the other. If a folder cannot be locked within 10 seconds, the run goes on: the fingerprint
    in the sidecar reveals such a mixture.
    """
    with ExitStack() as stack:
        for folder in folders:
            until = time.monotonic() + 10.0
            with suppress(OSError):  # a folder that cannot be opened, or has no locks
                handle = stack.enter_context(opened(folder, os.O_RDONLY))
                while not lock(handle, wait=False) and time.monotonic() < until:
                    time.sleep(0.01)
        yield


@contextmanager
def naming(place: object, hint: str | None = None) -> Iterator[None]:
    """Turn an OSError into an OutputError that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{place}: cannot be written ({reason_of(error)})", hint) from None


def reason_of(error: OSError) -> str:
    """What the system says is wrong."""
    return error.strerror or f"{error}: is the disk full?"  # numpy sets no errno


def resolve(target: Path) -> Path:
    """The file that a write to `target` replaces: a link is followed, and stays a link."""
    return Path(os.path.realpath(target))


def _flush_folder(folder: Path) -> None:
    """:func:`flush`, if the file system supports it for folders."""
    try:
        flush(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES):
            raise


def check_target(target: str | Path, inputs: Iterable[Path], kind: PartKind | None = None) -> None:
    """Check, before any work, that an output and its sidecar can be written.

    Temporary files of dead runs in the same folder are removed. With a `kind`, the output is a
    folder of such parts.

    Raises:
        OutputError: if the folder is missing or not writable, or the target is no regular file, or
            should be a folder of parts and is none.
        UsageError: if the target is remote, or the target or its sidecar is one of the `inputs` or
            holds one, or lies inside a folder of parts.
    """
    if is_address(str(target)):
        raise UsageError(
            f"{target}: outputs are written to this machine only", "write a file here, and copy it"
        )
    inputs, folders = list(inputs), set()
    for place in (Path(target), sidecar_path(target)):
        with naming(place):  # a name too long, a cycle of links
            folders.add(_check_folder(place))
    for folder in folders:
        sweep(folder)  # puts a folder back that a killed run had moved away
    for place, parts in ((Path(target), kind), (sidecar_path(target), None)):
        with naming(place):
            _check_place(place, inputs, parts)


def _check_folder(place: Path) -> Path:
    """The folder of an output, which can be written."""
    folder = resolve(place).parent
    if not folder.is_dir():
        raise OutputError(f"{place}: the folder {folder} does not exist", f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{place}: the folder {folder} cannot be written")
    if (kind := kind_of_folder(folder)) is not None:
        raise UsageError(
            f"{place}: lies inside the {kind.name} {folder}, which holds its parts only",
            f"write it beside the {kind.name}",
        )
    return folder


def _check_place(place: Path, inputs: list[Path], kind: PartKind | None) -> None:
    """Check what is there already."""
    final = resolve(place)
    if final.exists():
        if kind is not None:
            inside = any(final in resolve(path).parents for path in inputs)
            if inside:
                raise UsageError(f"{place}: the output would overwrite an input that it holds")
            check_replaceable(final, place, kind)
            return
        if not stat.S_ISREG(final.stat().st_mode):
            raise OutputError(f"{place}: is not a regular file", "choose another name for --out")
        if any(path.exists() and os.path.samefile(final, path) for path in inputs):
            raise UsageError(f"{place}: the output would overwrite this input")
