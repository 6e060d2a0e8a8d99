"""Whether what an output was made from has changed since.

Each output's provenance says where its inputs lay, and their sizes, fingerprints and times of
change. An input that is no longer there is no matter: files move. One that is there and differs
is: what was made from it describes something else, and is refused unless that is said to be meant.

A fingerprint reads no more than 8 MiB of a file (:func:`d2cli.files.provenance.record.fingerprint`). Where
that is not all of it and only the time of change differs, the file may have been copied or
touched, or a value in it changed that no sample saw; nobody can tell without reading it all, so
that is a notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2cli.errors import DataError
from d2cli.files.provenance.record import each_input, fingerprint, is_sampled, paths_of

ALLOW = "--allow-stale"
#: What an input was made from, repeated from its own provenance.
SECOND_HAND = "propagated_from"


@dataclass(frozen=True)
class Change:
    """An input that is not what it was.

    Attributes:
        option: the option that it was given by, without dashes.
        path: the file, or the first of them.
        certain: whether its content differs, or only its time.
    """

    option: str
    path: str
    certain: bool


def changes(entry: dict[str, Any], ignore: tuple[str, ...] = ()) -> Iterator[Change]:
    """What has changed of the inputs in a provenance as :func:`read_sidecar` returns it.

    Args:
        entry: the provenance. Without ``run`` it does not say where its paths begin, and so nothing
            can be found out.
        ignore: inputs that are checked otherwise.
    """
    run = entry.get("run")
    if not isinstance(run, dict) or not isinstance(run.get("folder"), str):
        return
    then = run.get("modified_ns")
    for name, one in each_input(entry.get("inputs", {})):
        if name in (*ignore, SECOND_HAND):
            continue
        try:
            paths = [Path(run["folder"], path) for path in paths_of(one)]
            there = [path for path in paths if path.is_file()]
        except (TypeError, ValueError):  # written by somebody else
            continue
        if not there:
            continue
        certain = len(there) < len(paths) or _differs(paths, one)
        known = then.get(name) if isinstance(then, dict) else None
        if certain or (isinstance(known, list) and _touched(there, known) and is_sampled(paths)):
            yield Change(name, str(paths_of(one)[0]), certain)


def _touched(paths: list[Path], known: list[int]) -> bool:
    """Whether a file was changed at a time that is not among those known of its option."""
    return any(path.stat().st_mtime_ns not in known for path in paths)


def _differs(paths: list[Path], one: dict[str, Any]) -> bool:
    """Whether files are not those that were described."""
    try:
        size = sum(path.stat().st_size for path in paths)
        return size != one.get("size") or fingerprint(paths) != one.get("fingerprint")
    except OSError:  # of several shards one has gone, or cannot be read any more
        return True


def refuse_stale(
    output: str, entry: dict[str, Any], made: str, hint: str, allowed: bool, *ignore: str
) -> list[str]:
    """Notices of inputs that may have changed, or that have and are allowed to.

    Args:
        output: the file that was made from them, for messages.
        entry: its provenance.
        made: what was done, for messages: "built from".
        hint: how to make it again.

    Raises:
        DataError: if an input has changed and that is not `allowed`.
    """
    notices = []
    for change in changes(entry, ignore):
        says = f"{output}: was {made} {change.path}, which has changed since"
        if change.certain and not allowed:
            raise DataError(says, f"{hint}; {ALLOW} uses it as it is")
        if not change.certain:
            says += " by its date, though its size and the parts compared have not"
        notices.append(says)
    return notices
