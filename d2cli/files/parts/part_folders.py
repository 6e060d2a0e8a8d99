"""Folders of parts on disk: what one holds, and whether it may be replaced."""

from __future__ import annotations

import os
from pathlib import Path

from d2cli.files.parts.part_kinds import PART_KINDS, PartKind, part_of_name
from d2cli.files.parts.records import PART_KEY


def files_of(output: Path) -> list[Path]:
    """The files that make up an output: the parts of a folder in order; else the file itself."""
    if not output.is_dir():
        return [output]
    names = ((part_of_name(name), name) for name in os.listdir(output))
    parts = sorted((found[0], name) for found, name in names if found is not None)
    return [output / name for _, name in parts] or [output]


def why_not_replaced(folder: Path, kind: PartKind) -> str | None:
    """Why a folder may not be replaced by parts of this kind; None: it holds such parts only."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    if not found:
        return "it is empty"
    for entry in found:
        named = part_of_name(entry.name)
        if named is None or not entry.is_file(follow_symlinks=False):
            return f"it holds {entry.name}"
        of = kind_of_part(Path(entry.path))
        if of is None:
            return f"{entry.name} is damaged, or no part of a {kind.name}"
        if of != kind:
            return f"{entry.name} is a part of a {of.name}"
    return None


def kind_of_folder(folder: Path) -> PartKind | None:
    """The kind of the output whose first part is in a folder; None: there is none."""
    firsts = (folder / kind.part_name(0) for kind in PART_KINDS)
    found = (kind_of_part(first) for first in firsts if first.is_file())
    return next((kind for kind in found if kind is not None), None)


def kind_of_part(path: Path) -> PartKind | None:
    """The kind of the output that a file is a part of, by its name and its header; None: of none.

    A damaged record counts: the file is a part nevertheless.
    """
    named = part_of_name(path)
    if named is None:
        return None
    _, kind = named
    return kind if PART_KEY in _metadata(path, kind) else None


def _metadata(path: Path, kind: PartKind) -> dict[bytes, bytes]:
    """The metadata of the schema of an Arrow or parquet file; empty if it cannot be read."""
    import pyarrow as pa  # noqa: PLC0415, outputs that are files need no Arrow
    import pyarrow.ipc  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    try:
        with pa.memory_map(os.fsencode(path)) as source:
            if kind.ending == ".arrow":
                schema = pa.ipc.open_file(source).schema
            else:
                schema = pa.parquet.read_schema(source)
            return schema.metadata or {}
    except (pa.ArrowException, OSError):
        return {}
