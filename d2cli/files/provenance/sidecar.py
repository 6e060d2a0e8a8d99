"""Provenance as it is written with an output and read by the next step.

The part that is the same for equal runs (command, parameters, inputs) also goes into the output
itself if its format has metadata. The part that differs between runs (timings, threads, memory)
goes only into the sidecar, ``<output>.json``. Therefore the same command gives the same bytes. The
sidecar of a folder lies beside the folder.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeGuard

from d2cli.errors import DataError
from d2cli.files.locate.copies import CopyPath, is_address
from d2cli.files.parts.part_folders import files_of
from d2cli.files.provenance.fingerprint import fingerprint
from d2cli.files.regular import check_regular
from d2cli.version import __version__

#: The version of graph files, of provenance in metadata, and of sidecars.
FORMAT_VERSION = 1
#: The key of provenance in the metadata of Arrow and parquet schemas.
KEY = b"d2prune"
#: The sections that every sidecar has.
_NEEDED = ("parameters", "inputs", "output")
#: The sections that are objects if they are there. `run` is checked where it is used.
_SECTIONS = (*_NEEDED, "counts", "graph", "ids", "messages", "scores", "selection", "versions")
#: The key of the provenance of an output that is being replaced.
_PREVIOUS = "previous"


def new_provenance(command: str, parameters: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """The part of an output's provenance that is the same for equal runs."""
    packages = {name: version(name) for name in ("numpy", "pyarrow", "numba", "hnswlib")}
    return {
        "format_version": FORMAT_VERSION,
        "program": "d2prune",
        "command": command,
        "versions": {"d2prune": __version__, "python": platform.python_version(), **packages},
        "parameters": parameters,
        **sections,
    }


def _fault_in(provenance: dict[str, Any]) -> str | None:
    """The fault of damaged provenance, or None: a section that is neither an object nor null."""
    wrong = (name for name in _SECTIONS if not isinstance(provenance.get(name), dict | None))
    return next((f"{name!r} is not an object" for name in wrong), None)


# -- in the metadata of an output -----------------------------------------------------------------
def as_metadata(provenance: dict[str, Any]) -> dict[bytes, bytes]:
    """The metadata of an Arrow or parquet schema that holds this provenance."""
    return {KEY: json.dumps(provenance).encode()}


def from_metadata(
    path: Path, metadata: dict[bytes, bytes] | None, hint: str = "make the file again"
) -> dict[str, Any] | None:
    """The provenance in the `metadata` of a schema, or None; `hint` says how to make `path` again.

    Raises:
        DataError: if the provenance is damaged or of another format version.
    """
    raw = (metadata or {}).get(KEY)
    if raw is None:
        return None
    try:
        provenance = json.loads(raw)
        number = provenance["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path}: its 'd2prune' metadata cannot be read", hint) from None
    if type(number) is not int or number != FORMAT_VERSION:
        says = f"has format version {str(number)[:40]}, this program reads {FORMAT_VERSION}"
        raise DataError(f"{path}: {says}", f"install a newer d2prune, or {hint}")
    if fault := _fault_in(provenance):
        raise DataError(f"{path}: its 'd2prune' metadata is damaged: {fault}", hint)
    return dict(provenance)


# -- beside an output -----------------------------------------------------------------------------
def sidecar_path(output: str | Path) -> Path:
    """The sidecar of an output."""
    return output.beside(".json") if isinstance(output, CopyPath) else Path(f"{output}.json")


def write_sidecar(
    path: Path, output: Path, provenance: dict[str, Any], run: dict[str, Any]
) -> None:
    """Write the sidecar of `output` to `path`; it describes the output as it is written now.

    `run` is the part that differs between runs.
    """
    content = {
        **provenance,
        "output": {
            "size": sum(path.stat().st_size for path in files_of(output)),
            "fingerprint": fingerprint(files_of(output)),
        },
        "run": run,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_sidecar(output: Path) -> dict[str, Any] | None:
    """The provenance in the sidecar of an output, or None if there is no sidecar of d2prune.

    Raises:
        DataError: if the output has changed since, or the provenance is damaged.
    """
    beside = sidecar_path(output)
    for _ in range(3):  # another run may be replacing both
        content = load_json(beside)
        if not isinstance(content, dict) or content.get("program") != "d2prune":
            return None
        for path in files_of(output):
            check_regular(path)
        fitting = _fitting(content, fingerprint(files_of(output)))
        if fitting is not None:
            if fault := _fault_in(fitting):
                raise DataError(f"{output}: {beside} is damaged: {fault}", "make the output again")
            return fitting
    fault = _fault_in(content)
    why = f": {fault}" if fault else ", or of another version of d2prune"
    says = f"{beside} is damaged{why}"
    if is_provenance(content):
        says = f"is not the file that {beside} describes: it has changed since"
    hint = f"make it again, or remove {beside} if the change was intended"
    raise DataError(f"{output}: {says}", hint)


def read_sidecar_of(name: str, paths: Sequence[Path]) -> dict[str, Any] | None:
    """:func:`read_sidecar` of an output in one file, or of a folder `name` with these parts.

    A remote folder has none.
    """
    if name == str(paths[0]):
        return read_sidecar(paths[0])
    return None if is_address(name) else read_sidecar(Path(name))


def bridging_sidecar(new: Path, old: Path, output: Path) -> str | None:
    """The text of a sidecar that fits both the new output and `output`, which it replaces.

    It is the sidecar at `new` with that at `old` inside; None if `old` does not describe `output`.
    """
    fitting = None
    with suppress(OSError):
        fitting = _fitting(load_json(old), fingerprint(files_of(output)))
    if fitting is None:
        return None
    after = json.loads(new.read_text(encoding="utf-8"))
    return json.dumps({**after, _PREVIOUS: fitting}, indent=2) + "\n"


def load_json(path: Path) -> Any:
    """The content of a JSON file, or None if it cannot be read or has more than 256 MiB."""
    with suppress(OSError, ValueError, RecursionError):
        if path.is_file() and path.stat().st_size <= 1 << 28:  # reading a pipe would wait
            return json.loads(path.read_text(encoding="utf-8"))
    return None


def is_provenance(content: Any) -> TypeGuard[dict[str, Any]]:
    """Whether this is provenance of the current format version, with the needed sections."""
    return (
        isinstance(content, dict)
        and content.get("program") == "d2prune"
        and content.get("format_version") == FORMAT_VERSION
        and all(isinstance(content.get(section), dict) for section in _NEEDED)
    )


def _fitting(content: Any, found: str) -> dict[str, Any] | None:
    """The provenance, new or previous, of the output with the fingerprint `found`, or None."""
    if not isinstance(content, dict):
        return None
    for one in (content, content.get(_PREVIOUS)):
        if is_provenance(one) and one["output"].get("fingerprint") == found:
            return {key: value for key, value in one.items() if key != _PREVIOUS}
    return None
