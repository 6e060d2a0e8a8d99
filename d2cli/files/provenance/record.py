"""Where an output came from: written with it, read back by the next step.

What a run did and on what is the same for the same run, and goes into the output itself where the
format has room. What differs from run to run (timings, threads, memory) is kept apart, in the file
``<output>.json`` beside it: so that the same command gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeGuard

from d2cli.errors import DataError
from d2cli.files.paths import check_regular
from d2cli.files.sources import Source
from d2cli.version import __version__

#: Of the graph file and of the ``.json`` beside each output.
FORMAT_VERSION = 1
#: The key in the metadata of Arrow and parquet schemas.
KEY = b"d2prune"
#: Files up to here are fingerprinted whole, larger ones by this many bytes spread over them; of
#: many files less each, so that it stays at so many bytes in all, but never below two pieces.
WHOLE_UP_TO, _ALL_UP_TO = 8 << 20, 64 << 20
_PIECE = 1 << 16
#: A file beside an output that is larger than this is none of ours.
_SIDECAR_MOST = 1 << 28

#: What provenance holds besides; and where it keeps that of the output which is being replaced.
_PARTS = ("parameters", "inputs", "output")
_PREVIOUS = "previous"
#: A run may replace an output and its provenance while they are read.
_TRIES = 3

_PACKAGES = ("numpy", "pyarrow", "numba", "hnswlib")


def fingerprint(paths: Iterable[Path]) -> str:
    """A BLAKE2 hash of files' sizes and content.

    Of a file above 8 MiB it reads 128 pieces of 64 KiB, evenly spread, the first and the last
    bytes among them: a file that was made again differs nearly everywhere, but a single value
    changed by hand in a large file can go unseen (then its time of change tells, see
    :mod:`d2cli.files.provenance.staleness`). Of more than 8 files it reads 64 MiB in all, or 128 KiB of each
    where that is more.
    """
    paths = list(paths)
    most = pieces_of(len(paths))
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


def pieces_of(files: int) -> int:
    """How many pieces of each of so many files are read."""
    return max(2, min(WHOLE_UP_TO, _ALL_UP_TO // max(files, 1)) // _PIECE)


def is_sampled(paths: list[Path]) -> bool:
    """Whether :func:`fingerprint` reads less than all of them."""
    most = pieces_of(len(paths)) * _PIECE
    return any(path.stat().st_size > most for path in paths)


def describe(source: Source) -> dict[str, Any]:
    """What is recorded of an input."""
    entry = describe_files(source.paths, source.n)
    names = sorted({part.name for part in source.parts if part.name})
    if names:
        entry["field"] = names[0] if len(names) == 1 else names
    return entry


def describe_files(paths: list[Path], rows: int) -> dict[str, Any]:
    """Paths as given, size in bytes, rows, fingerprint."""
    return {
        "path": str(paths[0]) if len(paths) == 1 else [str(path) for path in paths],
        "size": sum(path.stat().st_size for path in paths),
        "rows": rows,
        "fingerprint": fingerprint(paths),
    }


def record(command: str, parameters: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """The part of an output's provenance that is the same for the same run."""
    return {
        "format_version": FORMAT_VERSION,
        "program": "d2prune",
        "command": command,
        "versions": {
            "d2prune": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "parameters": parameters,
        **sections,
    }


def as_metadata(entry: dict[str, Any]) -> dict[bytes, bytes]:
    """For the metadata of an Arrow or parquet schema."""
    return {KEY: json.dumps(entry).encode()}


def sidecar(output: str | Path) -> Path:
    """The file beside an output that holds its provenance."""
    return Path(f"{output}.json")


def write_sidecar(path: Path, output: Path, entry: dict[str, Any], run: dict[str, Any]) -> None:
    """Write to `path` the whole provenance of what is being written at `output`."""
    content = {
        **entry,
        "output": {"size": output.stat().st_size, "fingerprint": fingerprint([output])},
        "run": {**whereabouts(entry.get("inputs", {})), **run},
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def fingerprint_of(entry: dict[str, Any], name: str) -> str | None:
    """The fingerprint that a provenance records of the input `name`, if it records one."""
    described = entry["inputs"].get(name)
    value = described.get("fingerprint") if isinstance(described, dict) else None
    return value if isinstance(value, str) else None


def bridge(note: Path, old_note: Path, old: Path) -> str | None:
    """The provenance written at `note`, with that of the file that it is about to replace inside.

    None where there is no such file, or nothing of ours beside it that describes it.
    """
    try:
        fits = _fitting(load_note(old_note), fingerprint([old]))
    except OSError:
        return None
    if fits is None:
        return None
    after = json.loads(note.read_text(encoding="utf-8"))
    return json.dumps({**after, _PREVIOUS: fits}, indent=2) + "\n"


def load_note(path: Path) -> Any:
    """What a file beside an output says, or None where it cannot be read as JSON."""
    try:
        if not path.is_file() or path.stat().st_size > _SIDECAR_MOST:
            return None  # a pipe would be waited for
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def is_ours(content: Any) -> TypeGuard[dict[str, Any]]:
    """Whether this is provenance, whole, of a format that is understood."""
    return (
        isinstance(content, dict)
        and content.get("program") == "d2prune"
        and content.get("format_version") == FORMAT_VERSION
        and all(isinstance(content.get(part), dict) for part in _PARTS)
    )


def _fitting(content: Any, found: str) -> dict[str, Any] | None:
    """Of new provenance, and old inside it, what describes the file with this fingerprint."""
    if not isinstance(content, dict):
        return None
    for one in (content, content.get(_PREVIOUS)):
        if is_ours(one) and one["output"].get("fingerprint") == found:
            return {key: value for key, value in one.items() if key != _PREVIOUS}
    return None


def whereabouts(inputs: dict[str, Any]) -> dict[str, Any]:
    """Where the paths of inputs begin, and when each file was last changed, in nanoseconds."""
    times: dict[str, list[int]] = {}
    for name, one in each_input(inputs):
        with contextlib.suppress(OSError, TypeError, ValueError):  # or repeated from elsewhere
            times.setdefault(name, []).extend(Path(p).stat().st_mtime_ns for p in paths_of(one))
    try:
        return {"folder": os.getcwd(), "modified_ns": times}
    except OSError:  # it has been removed
        return {}


def each_input(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The inputs of a record by name; an option that repeats has several of one name."""
    for name, value in inputs.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and one.get("path"):
                yield name, one


def paths_of(described: dict[str, Any]) -> list[str]:
    """The paths of one input, as :func:`describe_files` wrote them."""
    path = described["path"]
    return [path] if isinstance(path, str) else list(path)


def read_sidecar(output: Path) -> dict[str, Any] | None:
    """The provenance beside an output, or None where there is none of ours.

    Raises:
        DataError: if the file has changed since, or its provenance cannot be understood.
    """
    beside = sidecar(output)
    for _ in range(_TRIES):
        content = load_note(beside)
        if not isinstance(content, dict) or content.get("program") != "d2prune":
            return None
        check_regular(output)
        fits = _fitting(content, fingerprint([output]))
        if fits is not None:
            return fits
    hint = f"make it again, or remove {beside} if the change was meant"
    if not is_ours(content):
        raise DataError(f"{output}: {beside} is damaged, or of another version of d2prune", hint)
    raise DataError(
        f"{output}: is not the file that {beside} describes: it has changed since", hint
    )
