"""What an output in parts consists of: its names, and its ranges of rows.

``graph.d2/part-00000.arrow``, ``part-00001.arrow``, … hold consecutive ranges of :data:`PART_ROWS`
rows, the last one the rest. Each part is a file of the same form as the output in one file. A
selection is the same with ``.parquet``. An output without rows has one part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Rows of a part. The number is fixed, so that the bytes of an output depend on the data alone. A
#: part of a graph with 10 neighbours has 80 MiB.
PART_ROWS = 1 << 20
#: How the name of a folder of parts ends.
FOLDER_ENDING = ".d2"
_NAME = re.compile(r"part-(\d{5,})(\.\w+)")


@dataclass(frozen=True)
class PartKind:
    """What can be a folder of parts.

    Attributes:
        name: what the whole is called, for messages.
        command: that writes it.
        ending: of the parts, which gives their format.
    """

    name: str
    command: str
    ending: str

    def of_output(self, path: str | Path) -> PartKind | None:
        """The kind itself if an output of this name is a folder of parts; None: it is one file."""
        return self if names_folder(path) else None

    def part_name(self, number: int) -> str:
        """The file name of a part."""
        return f"part-{number:05}{self.ending}"


GRAPH = PartKind("graph", "graph", ".arrow")
SELECTION = PartKind("selection", "select", ".parquet")
PART_KINDS = (GRAPH, SELECTION)


def names_folder(path: str | Path) -> bool:
    """Whether an output of this name is a folder of parts."""
    return Path(path).suffix.lower() == FOLDER_ENDING


def part_of_name(path: str | Path) -> tuple[int, PartKind] | None:
    """The number and the kind of the part that has this file name; None: the name is of no part."""
    name = os.path.basename(str(path))
    if found := _NAME.fullmatch(name):
        number = int(found[1])
        kind = next((one for one in PART_KINDS if name == one.part_name(number)), None)
        return None if kind is None else (number, kind)
    return None


def count_parts(n: int) -> int:
    """The number of parts of an output of n rows."""
    return max(1, -(-n // PART_ROWS))


def part_ranges(n: int) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of each part of an output of n rows."""
    return ((start, min(n, start + PART_ROWS)) for start in range(0, max(n, 1), PART_ROWS))


def most_rows(n: int) -> int:
    """The most rows that a part of an output of n rows has."""
    return min(n, PART_ROWS)
