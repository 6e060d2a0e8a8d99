"""The selection on disk, in the form that the next step of somebody's pipeline reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from numpy.typing import NDArray

from d2cli.defaults import WrittenAs
from d2cli.errors import DataError, UsageError
from d2cli.files.provenance.record import as_metadata

#: Endings that hold columns; the rest hold one value a row.
TABLES = (".csv", ".parquet", ".arrow")
FORMS = (".npy", ".txt", *TABLES)
_LINES = 1 << 16


@dataclass(frozen=True)
class Kept:
    """What is written: N rows of n, in the order of writing.

    Attributes:
        index: (N,) int64 row numbers.
        n: rows in the whole set.
        ids: (n,) ids of the whole set, or None.
        columns: further columns by name, (N,) each, for the tables.
    """

    index: NDArray[np.int64]
    n: int
    ids: pa.Array | None
    columns: dict[str, pa.Array]


def check_form(target: str, written_as: WrittenAs, ids: pa.Array | None, by_rank: bool) -> None:
    """Refuse a form that cannot be written, before any work is done. `ids` are of all n rows."""
    ending = Path(target).suffix.lower()
    if target != "-" and ending not in FORMS:
        raise UsageError(
            f"{target}: the ending says the form, and {ending or 'none'} is not known",
            f"use one of {', '.join(FORMS)}, or - for text on standard output",
        )
    if written_as != "index" and ending in TABLES:
        raise UsageError(f"{target}: --as is for .npy and text; tables hold all columns")
    if written_as in ("id", "datacomp-uid") and ids is None:
        raise UsageError(
            f"--as {written_as} needs ids, and no input has them", "name them with --id-column"
        )
    if written_as == "datacomp-uid" and ending != ".npy":
        raise UsageError(f"{target}: --as datacomp-uid is written to .npy only")
    if by_rank and written_as in ("mask", "datacomp-uid"):
        raise UsageError(f"--order rank has no meaning with --as {written_as}")
    if written_as == "datacomp-uid":
        _check_uids(target, ids)


def _check_uids(target: str, ids: pa.Array) -> None:
    good = (
        pc.match_substring_regex(ids, "^[0-9a-fA-F]{32}$").to_numpy(zero_copy_only=False)
        if pa.types.is_large_string(ids.type)
        else np.zeros(len(ids), np.bool_)
    )
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"{target}: the id of row {row}, {ids[row].as_py()!r}, is no DataComp uid: 32 "
            "hexadecimal digits"
        )


def store_selection(
    path: Path, ending: str, kept: Kept, written_as: WrittenAs, entry: dict[str, Any]
) -> None:
    """Write `kept` to `path` in the form that `ending` says."""
    if ending == ".npy":
        with path.open("wb") as file:
            np.save(file, _values(kept, written_as), allow_pickle=False)
    elif ending == ".txt":
        with path.open("w", encoding="utf-8", newline="\n") as text:
            print_selection(text, kept, written_as)
    else:
        table = _table(kept).replace_schema_metadata(as_metadata(entry))
        if ending == ".csv":
            pa.csv.write_csv(table, path)
        elif ending == ".parquet":
            pa.parquet.write_table(table, path, compression="zstd")
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)


def print_selection(file: IO[str], kept: Kept, written_as: WrittenAs) -> None:
    """Write `kept` as text, one value a line."""
    for lines in _lines(kept, written_as):
        file.write("\n".join(lines) + "\n")


def _lines(kept: Kept, written_as: WrittenAs) -> Iterator[list[str]]:
    values = _values(kept, written_as)
    if values.dtype == np.bool_:
        values = values.astype(np.int8)
    for start in range(0, values.size, _LINES):
        lines = [str(value) for value in values[start : start + _LINES].tolist()]
        for line in lines:
            if "\n" in line or "\r" in line:
                raise DataError(
                    f"the id {line!r} has a line break and cannot be written one a line",
                    "write .npy or a table instead",
                )
        yield lines


def _values(kept: Kept, written_as: WrittenAs) -> NDArray[Any]:
    """What goes into ``.npy`` and text."""
    if written_as == "index":
        return kept.index
    if written_as == "mask":
        mask = np.zeros(kept.n, np.bool_)
        mask[kept.index] = True
        return mask
    ids = _ids(kept)
    if written_as == "datacomp-uid":
        return _datacomp(ids)
    if pa.types.is_integer(ids.type):
        return ids.to_numpy(zero_copy_only=False)
    return np.array(ids.to_pylist(), dtype=np.str_)


def _ids(kept: Kept) -> pa.Array:
    assert kept.ids is not None, "check_form saw to it"
    return kept.ids.take(pa.array(kept.index))


def _datacomp(ids: pa.Array) -> NDArray[Any]:
    """DataComp's form: each uid's two 16-digit halves as ``u8,u8``, sorted, none twice."""
    halves = np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), ">u8").reshape(-1, 2)
    out = np.empty(len(ids), np.dtype("u8,u8"))
    out["f0"], out["f1"] = halves[:, 0], halves[:, 1]
    return np.unique(out)


def _table(kept: Kept) -> pa.Table:
    columns: dict[str, pa.Array] = {"index": pa.array(kept.index)}
    if "rank" in kept.columns:
        columns["rank"] = kept.columns["rank"]
    if kept.ids is not None:
        columns["id"] = _ids(kept)
    columns.update({name: c for name, c in kept.columns.items() if name != "rank"})
    return pa.table(columns)
