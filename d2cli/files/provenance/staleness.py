"""Whether the inputs of an output have changed since it was made.

Provenance records the paths, sizes, fingerprints and times of change of all inputs. A recorded
input that no longer exists is ignored, because files move. A recorded input that exists with other
content is refused, unless the user allows it.

A fingerprint reads at most 8 MiB of a file (:mod:`d2cli.files.provenance.fingerprint`). If that is
only a part of the file and only the time of change differs, the content may or may not have
changed: that is a notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2cli.errors import DataError
from d2cli.files.provenance.fingerprint import described_inputs, fingerprint, is_sampled, paths_of

#: The option that allows changed inputs.
ALLOW = "--allow-stale"
#: The name of inputs of an earlier step, copied from the provenance of an input.
SECOND_HAND = "propagated_from"


@dataclass(frozen=True)
class Change:
    """An input that has changed, or may have.

    Attributes:
        option: the option that it was given to, without dashes.
        path: the file, or the first of them.
        certain: whether the content differs; if not, only the time of change differs.
    """

    option: str
    path: str
    certain: bool


def changes(provenance: dict[str, Any], ignore: tuple[str, ...] = ()) -> Iterator[Change]:
    """The inputs that have changed since the provenance of a sidecar was written.

    Args:
        provenance: as :func:`~d2cli.files.provenance.sidecar.read_sidecar` returns it. Without the
            section ``run`` the folder of its paths is not known, and nothing is checked.
        ignore: names of inputs that the caller checks itself.
    """
    run = provenance.get("run")
    if not isinstance(run, dict) or not isinstance(run.get("folder"), str):
        return
    then = run.get("modified_ns")
    for name, one in described_inputs(provenance.get("inputs", {})):
        if name in (*ignore, SECOND_HAND):
            continue
        try:
            paths = [Path(run["folder"], path) for path in paths_of(one)]
            there = [path for path in paths if path.is_file()]
        except (TypeError, ValueError):  # not a path
            continue
        if not there:
            continue
        certain = len(there) < len(paths) or _differs(paths, one)
        known = then.get(name) if isinstance(then, dict) else None
        if certain or (isinstance(known, list) and _touched(there, known) and is_sampled(paths)):
            yield Change(name, str(paths_of(one)[0]), certain)


def _touched(paths: list[Path], known: list[int]) -> bool:
    """Whether the time of change of a file is not one of the recorded ones."""
    return any(path.stat().st_mtime_ns not in known for path in paths)


def _differs(paths: list[Path], one: dict[str, Any]) -> bool:
    """Whether the size or fingerprint of files differs from the recorded one."""
    try:
        size = sum(path.stat().st_size for path in paths)
        return size != one.get("size") or fingerprint(paths) != one.get("fingerprint")
    except OSError:  # one of several files is missing or unreadable
        return True


def refuse_stale(
    output: str, provenance: dict[str, Any], made: str, hint: str, allowed: bool, *ignore: str
) -> list[str]:
    """Refuse changed inputs; return notices of those that may have changed or are allowed.

    Args:
        output: the file that was made from the inputs, for messages.
        provenance: of `output`.
        made: a verb for messages, such as "built from".
        hint: how to make `output` again.
        allowed: whether changed inputs give a notice instead of an error.
        ignore: names of inputs that the caller checks itself.

    Raises:
        DataError: if an input has changed and `allowed` is false.
    """
    notices = []
    for change in changes(provenance, ignore):
        says = f"{output}: was {made} {change.path}, "
        if not change.certain:
            notices.append(says + "whose date has changed since; size and compared parts have not")
            continue
        says += "which has changed since"
        if not allowed:
            raise DataError(says, f"{hint}; {ALLOW} uses it anyway")
        notices.append(says)
    return notices
