"""What each part records of the whole output, and the check that parts belong together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from d2cli.errors import DataError
from d2cli.files.parts.part_kinds import PART_KINDS, PartKind, count_parts, part_ranges

#: The key of a :class:`PartRecord` in the metadata of a schema.
PART_KEY = b"d2prune.part"


class PartRecord(NamedTuple):
    """What a part records of the whole.

    Attributes:
        part, parts: its number from 0, and the number of all parts.
        first_row, rows: its first row, and the number of all rows.
        kind, digest: what the whole is, and a digest of it, the same in all parts.
    """

    part: int
    parts: int
    first_row: int
    rows: int
    kind: PartKind
    digest: str

    def as_metadata(self) -> dict[bytes, bytes]:
        """The metadata of a schema that hold this record."""
        content = {
            "part": self.part, "parts": self.parts, "first_row": self.first_row, "rows": self.rows,
            self.kind.name: self.digest,
        }  # fmt: skip
        return {PART_KEY: json.dumps(content).encode()}

    @classmethod
    def of(cls, path: Path, metadata: dict[bytes, bytes] | None) -> PartRecord | None:
        """The record in the metadata of a schema; None: the file is no part.

        Raises:
            DataError: if the record is damaged.
        """
        raw = (metadata or {}).get(PART_KEY)
        if raw is None:
            return None
        found = None
        try:
            content = dict(json.loads(raw))
            (kind,) = (one for one in PART_KINDS if one.name in content)
            found = cls(kind=kind, digest=content.pop(kind.name), **content)
        except (ValueError, TypeError, RecursionError):
            pass
        if found is None or not found._is_sound():
            says = f"{path}: its 'd2prune.part' metadata is damaged"
            raise DataError(says, "make it again, as a whole")
        return found

    def _is_sound(self) -> bool:
        numbers = (self.part, self.parts, self.first_row, self.rows)
        if not isinstance(self.digest, str) or any(type(number) is not int for number in numbers):
            return False
        return 0 <= self.part < self.parts and 0 <= self.first_row < max(self.rows, 1)

    def whole(self) -> PartRecord:
        """What all parts of one output record."""
        return self._replace(part=0, first_row=0)


def records_of(n: int, kind: PartKind, digest: str) -> Iterator[tuple[PartRecord, int]]:
    """The record of each part of an output of n rows, and its row after the last."""
    parts = count_parts(n)
    for part, (start, stop) in enumerate(part_ranges(n)):
        yield PartRecord(part, parts, start, n, kind, digest), stop


class Part(NamedTuple):
    """A file that may be a part: its path, its number of rows, and its record or None."""

    path: Path
    rows: int
    record: PartRecord | None


def whole_name(parts: Sequence[Part]) -> str:
    """The name of an output in messages: the folder of its parts, or the first file."""
    first = str(parts[0].path)
    folder = os.path.dirname(first)
    together = all(os.path.dirname(str(part.path)) == folder for part in parts)
    return (folder or os.curdir) if parts[0].record is not None and together else first


def check_parts(parts: Sequence[Part], kind: PartKind) -> None:
    """Check that files, in the order given, are one output: one file, or all its parts.

    Raises:
        DataError: naming a part that is missing, of another output, repeated or out of order.
    """
    first_path, _, first = parts[0]
    if first is None and len(parts) == 1:
        return
    seen: dict[int, Path] = {}
    for path, _, record in parts:
        if record is None:
            hint = f"give one {kind.name} file, or all parts of one {kind.name} and nothing else"
            raise DataError(f"{path}: is no part of a {kind.name}", hint)
        if record.kind != kind:
            raise DataError(f"{path}: is a part of a {record.kind.name}, not of a {kind.name}")
        if first is None or record.whole() != first.whole():
            says = f"{path}: is a part of another {kind.name} than {first_path}"
            raise DataError(says, f"remove it, or make the {kind.name} again")
        if record.part in seen:
            other = seen[record.part]
            says = f"is part {record.part}, as {other} is" if other != path else "is given twice"
            raise DataError(f"{path}: {says}", "give each part once")
        seen[record.part] = path
    assert first is not None
    lacking = next((number for number in range(first.parts) if number not in seen), None)
    if lacking is not None:
        says = f"the {kind.name} has {first.parts:,} parts"
        raise DataError(
            f"{whole_name(parts)}: {kind.part_name(lacking)} is missing: {says}",
            "give the folder, or a pattern that matches all its parts",
        )
    row = 0
    for number, (path, rows, record) in enumerate(parts):
        assert record is not None
        if record.part != number:
            says = f"{path}: is part {record.part}, where part {number} must come"
            raise DataError(says, "give the parts in order, or the folder that holds them")
        after = parts[number + 1].record if number + 1 < len(parts) else None
        stop = first.rows if after is None else after.first_row
        if record.first_row != row or row + rows != stop:
            says = f"{path}: has {rows:,} rows, and must have {stop - row:,}, from row {row:,} on"
            raise DataError(says, f"make the {kind.name} again")
        row = stop
