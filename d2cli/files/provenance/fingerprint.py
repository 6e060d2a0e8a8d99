"""How provenance describes inputs, and whether they have changed since an output was made.

Provenance records the paths, sizes, fingerprints and times of change of all inputs. A recorded
input that no longer exists is ignored, because files move; a remote one is not looked at again. A
recorded input that exists with other content is refused, unless the user allows it. If a
fingerprint reads only a part of the file and only the time of change differs, the content may or
may not have changed: that is a notice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from d2cli.errors import DataError
from d2cli.files.locate.copies import is_address

if TYPE_CHECKING:  # a recorder in a training loop need not load Arrow
    from d2cli.files.sources import Source

#: The most bytes of one file that a fingerprint reads; a file up to this size is read whole.
WHOLE_UP_TO = 8 << 20
#: The most bytes of all files that a fingerprint reads, unless two pieces of each are more.
_ALL_UP_TO = 64 << 20
#: Bytes of one piece of a larger file.
_PIECE = 1 << 16
#: The name of inputs of an earlier step, copied from the provenance of an input.
SECOND_HAND = "propagated_from"


def fingerprint(paths: Iterable[Path]) -> str:
    """A BLAKE2 hash of the sizes and contents of files.

    Of a file above 8 MiB it reads 128 pieces of 64 KiB, evenly spaced, with the first and the last
    bytes. A file that was made again differs nearly everywhere. One value changed by hand in a
    large file can be missed; :func:`changes` then compares times of change. Of more than 8 files it
    reads 64 MiB in total, or 128 KiB of each if that is more.
    """
    paths = list(paths)
    most = _most_pieces(len(paths))
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            if size <= most * _PIECE:
                digest.update(file.read())
                continue
            for piece in range(most):
                file.seek((size - _PIECE) * piece // (most - 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest()


def _most_pieces(files: int) -> int:
    """The number of pieces of each file that are read, at most."""
    return max(2, min(WHOLE_UP_TO, _ALL_UP_TO // max(files, 1)) // _PIECE)


def is_sampled(paths: list[Path]) -> bool:
    """Whether :func:`fingerprint` reads only a part of these files."""
    most = _most_pieces(len(paths)) * _PIECE
    return any(path.stat().st_size > most for path in paths)


def describe(source: Source) -> dict[str, Any]:
    """The description of an input in provenance: :func:`describe_files`, and the field's name."""
    described = describe_files(source.paths, source.n)
    names = list(dict.fromkeys(name for part in source.parts for name in part.key_names))
    if names:
        described["field"] = names[0] if len(names) == 1 else names
    return described | source.reading.recorded


def describe_files(paths: list[Path], rows: int) -> dict[str, Any]:
    """Paths as given, size in bytes, number of rows, fingerprint."""
    return {
        "path": str(paths[0]) if len(paths) == 1 else [str(path) for path in paths],
        "size": sum(path.stat().st_size for path in paths),
        "rows": rows,
        "fingerprint": fingerprint(paths),
    }


def _described_inputs(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, description) of the inputs in provenance; a repeated option gives several."""
    for name, value in inputs.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and one.get("path"):
                yield name, one


def _paths_of(described: dict[str, Any]) -> list[str]:
    """The paths of an input, as :func:`describe_files` wrote them."""
    path = described["path"]
    return [path] if isinstance(path, str) else list(path)


def fingerprint_of(provenance: dict[str, Any], name: str) -> str | None:
    """The recorded fingerprint of the input `name`, or None."""
    described = provenance["inputs"].get(name)
    value = described.get("fingerprint") if isinstance(described, dict) else None
    return value if isinstance(value, str) else None


def whereabouts(inputs: dict[str, Any]) -> dict[str, Any]:
    """The current folder, where relative paths begin, and each file's time of change in ns."""
    times: dict[str, list[int]] = {}
    for name, one in _described_inputs(inputs):
        with suppress(OSError, TypeError, ValueError):  # copied from other provenance
            local = [p for p in _paths_of(one) if not is_address(p)]
            times.setdefault(name, []).extend(Path(p).stat().st_mtime_ns for p in local)
    with suppress(OSError):  # the current folder has been removed
        return {"folder": os.getcwd(), "modified_ns": times}
    return {}


def _local(path: str) -> str:
    """A recorded path as this run can open it: under ``LC_ALL=C`` names are not read as UTF-8."""
    try:
        os.fsencode(path)
        return path
    except UnicodeEncodeError:
        return os.fsdecode(path.encode("utf-8", "surrogateescape"))


class Change(NamedTuple):
    """An input, by its first file, whose content (`certain`) or only time of change differs."""

    path: str
    certain: bool


def changes(provenance: dict[str, Any], ignore: tuple[str, ...] = ()) -> Iterator[Change]:
    """The inputs that have changed since the provenance of a sidecar was written.

    Without the section ``run`` the folder of its paths is not known, and nothing is checked. The
    caller checks the inputs `ignore` itself.
    """
    run = provenance.get("run")
    if not isinstance(run, dict) or not isinstance(run.get("folder"), str):
        return
    then = run.get("modified_ns")
    for name, one in _described_inputs(provenance.get("inputs", {})):
        if name in (*ignore, SECOND_HAND):
            continue
        try:
            if any(is_address(path) for path in _paths_of(one)):
                continue  # only a step that downloads it again can compare it
            folder = _local(run["folder"])
            paths = [Path(folder, _local(path)) for path in _paths_of(one)]
            there = [path for path in paths if path.is_file()]
        except (TypeError, ValueError):  # not a path
            continue
        if not there:
            continue
        certain = True
        with suppress(OSError):  # one of several files is missing or unreadable
            size = sum(path.stat().st_size for path in paths)
            certain = size != one.get("size") or fingerprint(paths) != one.get("fingerprint")
        known = then.get(name) if isinstance(then, dict) else None
        touched = isinstance(known, list) and any(p.stat().st_mtime_ns not in known for p in there)
        if certain or (touched and is_sampled(paths)):
            yield Change(str(_paths_of(one)[0]), certain)


def refuse_stale(
    output: str, provenance: dict[str, Any], made: str, hint: str, allowed: bool, *ignore: str
) -> list[str]:
    """Refuse changed inputs; return notices of those that may have changed or are allowed.

    Args:
        output, provenance: the file that was made from the inputs, and its provenance.
        made, hint: a verb for messages, such as "built from", and how to make `output` again.
        allowed: whether changed inputs give a notice instead of an error.
        ignore: names of inputs that the caller checks itself.

    Raises:
        DataError: if an input has changed and `allowed` is false.
    """
    notices = []
    for change in changes(provenance, ignore):
        why = "which has changed since"
        if not change.certain:
            why = "whose date has changed since; size and compared parts have not"
        notices.append(f"{output}: was {made} {change.path}, {why}")
        if change.certain and not allowed:
            raise DataError(notices[-1], f"{hint}; --allow-stale uses it anyway")
    return notices
