"""Outputs that appear whole or not at all.

What is promised, on a file system that keeps POSIX's promises: at every moment there is, under the
name of an output, the old file or the new one, whole; likewise its provenance. When the run ends
well, both are on the disk itself, not only in the memory of the machine. A run that fails puts back
what it had moved already. One that is killed between two moves leaves each output with a provenance
that fits it: see :func:`_bridged`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from d2cli.errors import OutputError, UsageError
from d2cli.files.output.temporary import Lease, lock, sweep
from d2cli.files.provenance.record import bridge, sidecar
from d2cli.runtime import stopping

#: Seconds to wait for another run that is moving its outputs into the same folder.
_PATIENCE = 10.0


class Outputs:
    """Some files that belong together, each written beside its place and moved there at the end.

    >>> with Outputs() as outputs:
    ...     path = outputs.place("selected.npy")   # write to this
    ... # here it is in place; if the block raised, nothing has changed

    Provenance is moved before what it describes, whatever the order of the calls: ``make`` looks at
    the output.
    """

    def __init__(self) -> None:
        self._moves: list[_Move] = []
        self._leases: dict[Path, Lease] = {}

    def place(self, target: str | Path) -> Path:
        """The temporary path to write, in the folder of `target`."""
        final = resolve(Path(target))
        self._moves.append(_Move(str(target), self._temporary(final), final))
        return self._moves[-1].temporary

    def _temporary(self, final: Path) -> Path:
        """A name beside `final`, of a length of its own: that may be as long as names can be."""
        if final.parent not in self._leases:
            try:
                self._leases[final.parent] = Lease(final.parent)
            except OSError as error:
                raise _unwritable(final, error) from None
        return self._leases[final.parent].temporary()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with stopping.shield():
                for lease in self._leases.values():
                    lease.end()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise _unwritable(self._moves[-1].final if self._moves else "output", error) from None

    def _finish(self) -> None:
        for move in self._moves:
            with _naming(move.final):
                _flush(move.temporary)
        notes = {sidecar(move.target) for move in self._moves}
        data = [move for move in self._moves if Path(move.target) not in notes]
        beside = {Path(move.target): move for move in self._moves if Path(move.target) in notes}
        folders = sorted({move.final.parent for move in self._moves})
        stopping.check()
        with stopping.shield(), _alone_in(folders), _Undo(self._temporary) as undo:
            bridges = [
                step
                for move in data
                if (note := beside.get(sidecar(move.target)))
                and (step := self._bridged(move, note))
            ]
            bridged = {step.final for step in bridges}
            settled = [note for note in beside.values() if note.final in bridged]
            first = [*(note for note in beside.values() if note not in settled), *bridges]
            for stage in (first, data, settled):
                for move in stage:
                    with _naming(move.final):
                        undo.move(move.temporary, move.final)
                for folder in {move.final.parent for move in stage}:
                    with _naming(folder):
                        _flush_folder(folder)
            stopping.mark_written()

    def _bridged(self, data: _Move, note: _Move) -> _Move | None:
        """The new provenance with the old inside, to stand there while the output is replaced.

        Two names cannot change at once. Whoever reads in between, or after the run was killed in
        between, finds the provenance of the file that is there (:func:`read_sidecar`).
        """
        text = bridge(note.temporary, note.final, data.final)
        if text is None:
            return None
        with _naming(note.final):
            step = _Move(note.target, self._temporary(note.final), note.final)
            step.temporary.write_text(text, encoding="utf-8")
            _flush(step.temporary)
        return step


@dataclass(frozen=True, eq=False)
class _Move:
    """What was asked for, where it is written, and where it goes."""

    target: str
    temporary: Path
    final: Path


class _Undo:
    """Moves files into place; if the block raises, puts back what was there before."""

    def __init__(self, temporary: Callable[[Path], Path]) -> None:
        self._name = temporary
        self._done: list[tuple[Path, Path | None]] = []

    def move(self, source: Path, final: Path) -> None:
        """``os.replace``, with a second name for the old file until all is done."""
        backup = None
        if final.exists():
            backup = self._name(final)
            with contextlib.suppress(OSError):  # not every file system has links
                os.link(final, backup)
        os.replace(source, final)
        self._done.append((final, backup))

    def __enter__(self) -> _Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            return
        stuck = []
        for final, backup in reversed(self._done):
            try:
                if backup is None:
                    final.unlink()
                else:
                    os.replace(backup, final)
            except OSError:
                stuck.append(final)
        if stuck and isinstance(error, OutputError):
            names = ", ".join(str(path) for path in dict.fromkeys(stuck))
            error.hint = f"could not be put back, and is new already: {names}"


@contextmanager
def _alone_in(folders: Iterable[Path]) -> Iterator[None]:
    """Let no other run move outputs into these folders meanwhile.

    Two runs on one output would otherwise leave the output of one with the provenance of the
    other. Where folders cannot be locked, or the other run hangs, there is no waiting: the
    fingerprint in the provenance shows such a mixture.
    """
    with ExitStack() as stack:
        for folder in folders:
            try:
                handle = os.open(folder, os.O_RDONLY)
            except OSError:  # it may be written and not read, or has gone, as the moves will show
                continue
            stack.callback(os.close, handle)
            until = time.monotonic() + _PATIENCE
            with contextlib.suppress(OSError):
                while not lock(handle, wait=False) and time.monotonic() < until:
                    time.sleep(0.01)
        yield


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """Say of an error which file it is about."""
    try:
        yield
    except OSError as error:
        raise _unwritable(place, error) from None


def _unwritable(place: object, error: OSError) -> OutputError:
    reason = error.strerror or f"{error}: is the disk full?"  # numpy gives no number
    return OutputError(f"{place}: cannot be written ({reason})")


def resolve(target: Path) -> Path:
    """Where a write to `target` ends: a link is followed, so that it stays a link."""
    return Path(os.path.realpath(target))


def _flush(path: Path) -> None:
    """Have the disk hold what was written, before anything relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    """The same for the names in a folder, where the file system knows how to."""
    try:
        _flush(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES):
            raise


def check_target(target: str | Path, inputs: Iterable[Path]) -> None:
    """Refuse, before any work, a target that cannot be written or that is one of the inputs.

    The same holds for the provenance beside it. What dead runs have left beside it is removed.

    Raises:
        OutputError: if the folder is missing or not writable, or the target no regular file.
        UsageError: if the target is an input.
    """
    inputs = list(inputs)
    folders = set()
    for place in (Path(target), sidecar(target)):
        try:
            _check_place(place, inputs)
            folders.add(resolve(place).parent)
        except OSError as error:  # a name too long, a loop of links
            raise _unwritable(place, error) from None
    for folder in folders:
        sweep(folder)


def _check_place(place: Path, inputs: list[Path]) -> None:
    final = resolve(place)
    folder = final.parent
    if not folder.is_dir():
        raise OutputError(f"{place}: there is no folder {folder}", f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{place}: the folder {folder} cannot be written")
    if not final.exists():
        return
    if not stat.S_ISREG(final.stat().st_mode):
        raise OutputError(f"{place}: is not a regular file", "give --out another name")
    for path in inputs:
        if path.exists() and os.path.samefile(final, path):
            raise UsageError(f"{place}: the output would overwrite this input")
