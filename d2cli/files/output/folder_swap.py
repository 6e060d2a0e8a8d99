"""A folder as an output: a graph or a selection in parts appears whole or not at all.

The folder is written under a temporary name beside it, and renamed. ``rename`` does not replace a
folder that holds files. On Linux, on most file systems, both names are exchanged in one step
(``renameat2``): the name of the output refers to the old folder or to the new one at any time.

Elsewhere the old folder is renamed to a temporary name, then the new one is renamed into its place.
A note beside them, written before, says where the old folder belongs. A kill leaves one of these
states, and the next run in the folder clears it (:func:`~d2cli.files.output.temporary.sweep`):

| the output's name | temporary names | what the next run does |
| --- | --- | --- |
| old folder | new folder, note | removes new folder and note |
| nothing | old folder, new folder, note | puts the old folder back, removes the others |
| new folder | old folder, note | removes old folder and note |

In the second state a command that reads the folder puts it back too. The sidecar then
describes both folders (:func:`~d2cli.files.provenance.sidecar.bridging_sidecar`).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from d2cli.errors import OutputError
from d2cli.files.output.temporary import NOTE, TEMPORARY_FOLDER, Lease, flush
from d2cli.files.parts.part_folders import why_not_replaced
from d2cli.files.parts.part_kinds import PartKind

#: Numbers of Linux, from the headers linux/fs.h and fcntl.h.
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100
#: Errors of a system or file system that cannot exchange names. Some containers forbid the call.
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


def check_replaceable(folder: Path, place: object, kind: PartKind) -> None:
    """Refuse to replace a folder that holds anything but parts of this kind.

    Raises:
        OutputError: naming `place` and what it holds.
    """
    if not folder.is_dir():
        raise OutputError(f"{place}: is a file, and a {kind.name} that ends in .d2 is a folder")
    why = why_not_replaced(folder, kind)
    if why is not None:
        says = f"{place}: is not replaced, because it is not only a {kind.name}: {why}"
        raise OutputError(says, "choose another name for --out, or remove the folder")


def replace_folder(new: Path, final: Path, lease: Lease, kind: PartKind) -> Path | None:
    """Rename a folder of parts to `final`; returns where the folder that was there is now, or None.

    Raises:
        OSError: then the old folder is in place, or the note says where it belongs.
        OutputError: if the old folder is not to be replaced.
    """
    if not os.path.lexists(final):
        os.rename(new, final)
        return None
    check_replaceable(final, final, kind)
    if _exchange(new, final):
        return new
    old, note = lease.temporary(TEMPORARY_FOLDER), lease.temporary(NOTE)
    note.write_text(json.dumps({"output": final.name, "old": old.name}), encoding="utf-8")
    flush(note)
    with suppress(OSError):  # not every file system can flush a folder
        flush(final.parent)
    os.rename(final, old)
    try:
        os.rename(new, final)
    except OSError:
        try:
            os.rename(old, final)
        except OSError:
            lease.keep(old, note)  # the next run puts it back
        raise
    return old


def restore_folder(old: Path | None, final: Path, lease: Lease) -> None:
    """Undo :func:`replace_folder`, which returned `old`. Raises OSError if it cannot be."""
    if old is not None and _exchange(old, final):
        return
    os.rename(final, lease.temporary(TEMPORARY_FOLDER))
    if old is not None:
        os.rename(old, final)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False: this is not possible here."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    names = [_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other)]
    if call(*names, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))
