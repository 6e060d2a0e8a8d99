"""Outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from d2cli.errors import OutputError, UsageError
from d2cli.io.provenance import sidecar


class Outputs:
    """Some files that belong together, each written beside its place and moved there at the end.

    >>> with Outputs() as outputs:
    ...     path = outputs.place("selected.npy")   # write to this
    ... # here it is in place; if the block raised, nothing has changed

    Moves happen in the order of the calls, so whatever describes a file should come before it.
    """

    def __init__(self) -> None:
        self._moves: list[tuple[Path, Path]] = []

    def place(self, target: str | Path) -> Path:
        """The temporary path to write, in the folder of `target`."""
        final = resolve(Path(target))
        # A name of its own length, since that of `final` may be as long as names can be.
        temporary = final.with_name(f".d2prune-{os.getpid()}-{len(self._moves)}.tmp")
        self._moves.append((temporary, final))
        return temporary

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
            for temporary, _ in self._moves:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise _unwritable(self._moves[-1][1] if self._moves else "output", error) from None

    def _finish(self) -> None:
        for temporary, final in self._moves:
            try:
                _flush(temporary)
            except OSError as error:
                raise _unwritable(final, error) from None
        for temporary, final in self._moves:
            try:
                os.replace(temporary, final)
            except OSError as error:
                raise _unwritable(final, error) from None
        for folder in {final.parent for _, final in self._moves}:
            _flush(folder)


def _unwritable(place: object, error: OSError) -> OutputError:
    return OutputError(f"{place}: cannot be written ({error.strerror or error})")


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


def check_target(target: str | Path, inputs: Iterable[Path]) -> None:
    """Refuse, before any work, a target that cannot be written or that is one of the inputs.

    The same holds for the provenance beside it.

    Raises:
        OutputError: if the folder is missing or not writable, or the target no regular file.
        UsageError: if the target is an input.
    """
    inputs = list(inputs)
    for place in (Path(target), sidecar(target)):
        try:
            _check_place(place, inputs)
        except OSError as error:  # a name too long, a loop of links
            raise _unwritable(place, error) from None


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
