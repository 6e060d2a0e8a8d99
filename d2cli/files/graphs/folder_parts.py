"""A graph as a folder of parts: their names, their rows, and what each records of the whole.

``graph.d2/part-00000.arrow``, ``part-00001.arrow``, … hold consecutive ranges of
:data:`PART_ROWS` rows, the last one the rest. Each part is a graph file of its rows, with the
neighbours numbered as in the whole graph, and a :class:`PartRecord` as JSON under the schema's
metadata key ``d2prune.part``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from d2cli.errors import DataError

#: Rows of a part. The number is fixed, so that the bytes of a graph depend on the data alone. A
#: part with 10 neighbours has 80 MiB.
PART_ROWS = 1 << 20
#: How the name of a folder of parts ends.
FOLDER_ENDING = ".d2"
#: The key of a :class:`PartRecord` in the metadata of a schema.
PART_KEY = b"d2prune.part"
_NAME = re.compile(r"part-(\d{5,})\.arrow")


class PartRecord(NamedTuple):
    """What a part records of the whole graph.

    Attributes:
        part, parts: its number from 0, and the number of all parts.
        first_row, rows: its first row, and the number of all rows.
        graph: a digest of the whole graph, the same in all parts.
    """

    part: int
    parts: int
    first_row: int
    rows: int
    graph: str

    def as_metadata(self) -> dict[bytes, bytes]:
        """The metadata of a schema that hold this record."""
        return {PART_KEY: json.dumps(self._asdict()).encode()}

    @classmethod
    def of(cls, path: Path, metadata: dict[bytes, bytes] | None) -> PartRecord | None:
        """The record in the metadata of a schema; None: the file is no part.

        Raises:
            DataError: if the record is damaged.
        """
        raw = (metadata or {}).get(PART_KEY)
        if raw is None:
            return None
        try:
            found = cls(**json.loads(raw))
        except (ValueError, TypeError, RecursionError):
            found = None
        if found is None or not found._is_sound():
            raise DataError(
                f"{path}: its 'd2prune.part' metadata is damaged", "make the graph again"
            )
        return found

    def _is_sound(self) -> bool:
        numbers = (self.part, self.parts, self.first_row, self.rows)
        if not isinstance(self.graph, str) or any(type(number) is not int for number in numbers):
            return False
        return 0 <= self.part < self.parts and 0 <= self.first_row < self.rows


def names_folder(path: str | Path) -> bool:
    """Whether an output of this name is a folder of parts."""
    return Path(path).suffix == FOLDER_ENDING


def part_name(number: int) -> str:
    """The file name of a part."""
    return f"part-{number:05}.arrow"


def count_parts(n: int) -> int:
    """The number of parts of a graph of n rows."""
    return -(-n // PART_ROWS)


def part_ranges(n: int) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of each part of a graph of n rows."""
    return ((start, min(n, start + PART_ROWS)) for start in range(0, n, PART_ROWS))


def files_of(output: Path) -> list[Path]:
    """The files that make up an output: the parts of a folder in order; else the file itself."""
    if not output.is_dir():
        return [output]
    numbers = sorted(found for name in os.listdir(output) if (found := _number(name)) is not None)
    return [output / part_name(number) for number in numbers] or [output]


def _number(name: str) -> int | None:
    """The number of the part that has this file name, or None."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found and part_name(int(found[1])) == name else None


def why_not_replaced(folder: Path) -> str | None:
    """Why a folder is no graph that may be replaced; None: it holds parts of graphs only."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    if not found:
        return "it is empty"
    for entry in found:
        if _number(entry.name) is None or not entry.is_file(follow_symlinks=False):
            return f"it holds {entry.name}"
        if not _is_part(Path(entry.path)):
            return f"{entry.name} is damaged, or no part of a graph"
    return None


def is_graph_folder(folder: Path) -> bool:
    """Whether a folder holds the first part of a graph."""
    first = folder / part_name(0)
    return first.is_file() and _is_part(first)


def _is_part(path: Path) -> bool:
    """Whether the file has the metadata of a part; reads its header."""
    import pyarrow as pa  # noqa: PLC0415, outputs of other kinds need no Arrow
    import pyarrow.ipc  # noqa: PLC0415

    try:
        with pa.memory_map(os.fsencode(path)) as source:
            return PART_KEY in (pa.ipc.open_file(source).schema.metadata or {})
    except (pa.ArrowException, OSError):
        return False


def check_parts(place: str, parts: Sequence[tuple[Path, int, PartRecord | None]]) -> None:
    """Check that files, in the order given, are all the parts of one graph.

    Args:
        place: where they come from, for messages.
        parts: path, number of rows and record of each.

    Raises:
        DataError: naming a part that is missing, of another graph, repeated or out of order.
    """
    first_path, _, first = parts[0]
    if first is None and len(parts) == 1:
        return
    seen: dict[int, Path] = {}
    for path, _, record in parts:
        if record is None:
            hint = "give one graph file alone, or the parts of one graph"
            raise DataError(f"{path}: is a graph of its own, not a part of one", hint)
        if first is None or record._replace(part=0, first_row=0) != first._replace(
            part=0, first_row=0
        ):
            hint = "remove it, or make the graph again"
            raise DataError(f"{path}: is a part of another graph than {first_path}", hint)
        if record.part in seen:
            other = seen[record.part]
            says = f"is part {record.part}, as {other} is" if other != path else "is given twice"
            raise DataError(f"{path}: {says}", "give each part once")
        seen[record.part] = path
    assert first is not None
    lacking = next((number for number in range(first.parts) if number not in seen), None)
    if lacking is not None:
        says = f"{place}: {part_name(lacking)} is missing: the graph has {first.parts:,} parts"
        raise DataError(says, "give all parts, or the folder that holds them")
    row = 0
    for number, (path, rows, record) in enumerate(parts):
        assert record is not None
        if record.part != number:
            says = f"{path}: is part {record.part}, where part {number} must come"
            raise DataError(says, "give the parts in order, or the folder that holds them")
        after = parts[number + 1][2] if number + 1 < len(parts) else None
        stop = first.rows if after is None else after.first_row
        if record.first_row != row or row + rows != stop:
            says = f"{path}: has {rows:,} rows, and must have {stop - row:,}, from row {row:,} on"
            raise DataError(says, "make the graph again")
        row = stop
