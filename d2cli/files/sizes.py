"""Sizes of inputs and outputs: memory while files are read and written, and bytes on disk."""

from __future__ import annotations

from dataclasses import dataclass

from d2cli.defaults import WrittenAs
from d2cli.files.parts.part_kinds import FOLDER_ENDING, SELECTION, count_parts, most_rows
from d2cli.runtime.ledger import MIB, Ledger

#: Bytes of a row in a table that lists kept rows, without its id.
_KEPT_ROW = {".arrow": 40, ".parquet": 27, ".csv": 68}
#: The same for dropped rows, which have no rank and no gain.
_DROPPED_ROW = {".arrow": 24, ".parquet": 19, ".csv": 44}
#: Bytes of a score by format.
_SCORE = {".npy": 8, ".arrow": 8, ".parquet": 9, ".csv": 20}
#: Bytes of a ``.npy`` header, and of the schema and provenance of a table, approximately.
_NPY_HEADER, _TABLE_HEADER = 128, 4096


@dataclass(frozen=True)
class Ids:
    """The ids of an input: their number, mean bytes (8 for integers), and whether they are text."""

    rows: int
    length: float
    text: bool


def _id_bytes(ids: Ids | None, ending: str = ".arrow") -> float:
    """Bytes of an id in a column of Arrow, which stores offsets of texts, or of another format."""
    return 0.0 if ids is None else ids.length + (8 if ids.text and ending == ".arrow" else 0)


def read_ids(ledger: Ledger, ids: Ids | None, kept: bool = True) -> None:
    """Read ids and check that they are unique; `kept`: the run holds them to its end."""
    if ids is None:
        return
    ledger.stage = "read"
    name = "ids" if kept else "other ids"
    ledger.hold(name, ids.rows * (8 + ids.length if ids.text else 8))
    table = ids.rows * ((2 * ids.length + 24 if ids.text else 16) + 4)
    ledger.touch("unique ids", table + 40 * ids.rows)
    if not kept:  # as measured: tables of both columns' values, and the place of each
        ledger.touch("join", ids.rows * (3 * (ids.length + 8) + 200 if ids.text else 90))
        ledger.free(name)


def read_vectors(ledger: Ledger, n: int, count: int) -> None:
    """Read `count` vectors of n float64 values, such as scores."""
    ledger.stage = "read"
    ledger.hold("scores", 8 * n * count)


def read_graph(ledger: Ledger, n: int, k: int, mapped: bool = True) -> None:
    """Map a graph file of n rows and k neighbours, or read its parts, and check its contract."""
    ledger.stage = "read"
    ledger.hold("graph", n * k * 8, mapped=mapped)


def write(ledger: Ledger, ending: str, rows: int, columns: int, ids: Ids | None) -> None:
    """Write `rows` of `columns` numbers and an id in the format of `ending`.

    A folder of parts has the ids of one part in memory at a time.
    """
    ledger.stage = "write"
    parted = ending == FOLDER_ENDING
    size = 8 * rows * columns + (most_rows(rows) if parted else rows) * _id_bytes(ids)
    if parted or ending == ".parquet":  # the writer holds values to find repeated ones, as measured
        size += min(170 * rows, 44 * MIB) + 3 * MIB * (columns - 1)
    ledger.touch("columns", size)


def graph_bytes(n: int, k: int, ids: Ids | None, parts: int = 1) -> int:
    """Bytes of a graph of n rows and k neighbours, in one file or in `parts`."""
    return round(n * (8 * k + _id_bytes(ids))) + _TABLE_HEADER * parts


def score_bytes(ending: str, n: int, kinds: int, ids: Ids | None) -> int:
    """Bytes of a file of n scores of some `kinds`; ``.npy`` holds one kind and no ids."""
    if ending == ".npy":
        return _SCORE[ending] * n + _NPY_HEADER
    return round(n * (_SCORE[ending] * kinds + _id_bytes(ids, ending))) + _TABLE_HEADER


def selection_bytes(
    ending: str, written_as: WrittenAs, complement: bool, size: int, n: int, ids: Ids | None
) -> int:
    """Bytes of an output that keeps `size` of n rows, or lists the others if it is a `complement`.

    The format is that of `ending`; any other than a table or ``.npy`` is text.
    """
    rows, files = n - size if complement else size, 1
    if ending == FOLDER_ENDING:
        ending, files = SELECTION.ending, count_parts(rows)
    if ending in _KEPT_ROW:
        row = (_DROPPED_ROW if complement else _KEPT_ROW)[ending]
        return round(rows * (row + _id_bytes(ids, ending))) + _TABLE_HEADER * files
    if written_as == "mask":
        return n + _NPY_HEADER if ending == ".npy" else 2 * n
    if ending == ".npy":
        an_id = 4 * (ids.length or 2) if ids and ids.text else 8.0  # UTF-32
        return round(rows * {"index": 8.0, "id": an_id}.get(written_as, 16.0)) + _NPY_HEADER
    line = len(str(n)) if written_as == "index" or ids is None else ids.length
    return round(rows * (line + 1))
