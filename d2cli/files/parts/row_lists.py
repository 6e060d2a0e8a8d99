"""Lists of rows in files: each is one file, or all parts of a selection."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from d2cli.errors import DataError
from d2cli.files.formats.opening import file_fields
from d2cli.files.formats.recognise import sniff
from d2cli.files.formats.tables import ColumnField
from d2cli.files.parts.part_folders import kind_of_part
from d2cli.files.parts.part_kinds import SELECTION, names_folder
from d2cli.files.parts.records import Part, PartRecord, check_parts, whole_name


def row_lists(paths: Iterable[Path]) -> list[list[Path]]:
    """The files of each list: all those of a folder of parts, or any other file alone."""
    folders: dict[str, list[Path]] = {}
    for path in paths:
        folders.setdefault(_folder(path), []).append(path)
    lists: list[list[Path]] = []
    for inside in folders.values():
        lists += [inside] if any(map(is_parted, inside)) else [[path] for path in inside]
    return lists


def is_parted(path: Path) -> bool:
    """Whether a file is a part, or lies in a folder whose name is that of parts."""
    return names_folder(_folder(path)) or kind_of_part(path) is not None


def _folder(path: Path) -> str:
    return os.path.dirname(str(path))  # of a remote file, that of its address


class RowList:
    """An opened list of rows: headers are read and checked, the rows are not.

    Attributes:
        name: the file, or the folder of the parts, for messages.
        files: the fields of each file, in order.
    """

    def __init__(self, paths: Sequence[Path], skim: bool = False) -> None:
        """Open one file, or all parts of a selection in order.

        Raises:
            DataError: naming a file that cannot be read, or a part that is missing, of another
                selection, repeated or out of order.
        """
        self.files = [file_fields(path, sniff(path), skim) for path in paths]
        parts, schemas = [], []
        for path, (first, *_) in zip(paths, self.files, strict=True):
            schema = first.table.schema if isinstance(first, ColumnField) else None
            record = None if schema is None else PartRecord.of(path, schema.metadata)
            schemas.append(schema)
            parts.append(Part(path, first.n, record))
        self.name = whole_name(parts)
        check_parts(parts, SELECTION)
        for path, schema in zip(paths, schemas, strict=True):
            if schema != schemas[0]:
                says = f"{path}: has other columns than {paths[0]}"
                raise DataError(says, "make the selection again")
