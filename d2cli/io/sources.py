"""An input as a whole: the files behind one option, which field of them is meant, and its rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.io.arrays import npy_fields, npz_fields
from d2cli.io.fields import Field
from d2cli.io.files import Format, expand, sniff
from d2cli.io.tables import TableFile, arrow_errors

Role = Literal["embeddings", "scores", "labels", "rows"]

ID_NAMES = ("id", "uid", "_curator_dedup_id")
#: Names that are taken without being asked for, the first that is there.
_USUAL = {
    "embeddings": ("embedding", "embeddings", "emb", "vector"),
    "scores": ("score", "scores"),
    "labels": ("label", "labels", "target", "targets", "class"),
    "rows": ("index", *ID_NAMES),
}
#: What pandas calls the row numbers that it adds; never meant.
_PANDAS_INDEX = ("", "__index_level_0__")
#: Turns the search for a usual id column off.
NO_IDS = "none"
_MOST_NAMES = 20
#: Of several kinds of file in one folder, the first that has the field: arrays before metadata.
_KINDS: tuple[Format, ...] = ("npy", "npz", "parquet", "arrow", "arrow-stream", "csv")


@dataclass(frozen=True)
class Source:
    """The rows behind one option, in order: one field a file.

    Attributes:
        role: what the rows are.
        option: the option's name on the command line, without dashes.
        parts: one field for each file.
        id_parts: each file's ids; empty where the files carry none.
    """

    role: Role
    option: str
    parts: list[Field]
    id_parts: list[Field] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Rows in all."""
        return sum(part.n for part in self.parts)

    @property
    def paths(self) -> list[Path]:
        """The files, in order, each once."""
        return list(dict.fromkeys(part.path for part in self.parts))

    @property
    def name(self) -> str:
        """What to call the input in a message."""
        first = self.parts[0].where
        return first if len(self.parts) == 1 else f"{first} … ({len(self.parts)} files)"

    def place(self, row: int | None) -> str:
        """The file and the row in it, for messages."""
        if row is None:
            return self.name
        ends = list(accumulate(part.n for part in self.parts))
        at = bisect_right(ends, row)
        return f"{self.parts[at].where}: row {row - (ends[at - 1] if at else 0)}"

    def matrix(self) -> NDArray[np.floating]:
        """All rows, (n, d): memory-mapped where one ``.npy`` holds them, else one copy.

        The copy is float64 where a file is, otherwise float32.
        """
        if len(self.parts) == 1:
            mapped = self.parts[0].mapped()
            if mapped is not None:
                return mapped
        filled = [part for part in self.parts if part.n]  # an empty shard has no width
        width = filled[0].width()
        for part in filled:
            if part.width() != width:
                raise DataError(
                    f"{part.where}: rows have {part.width()} values, those of "
                    f"{filled[0].where} have {width}"
                )
        types = {part.dtype.newbyteorder("=") for part in self.parts}
        unusable = [t for t in types if t.kind != "f"]
        common = np.result_type(np.float32, *types) if not unusable else unusable[0]
        return self._gather((self.n, width), common)

    def vector(self) -> NDArray[np.float64]:
        """All rows as float64, (n,)."""
        return self._gather((self.n,), np.dtype(np.float64))

    def _gather(self, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
        out = np.empty(shape, dtype)
        start = 0
        for part in self.parts:
            for block in part.blocks():
                out[start : start + block.shape[0]] = block
                start += block.shape[0]
        if start != shape[0]:
            raise DataError(f"{self.name}: {start:,} rows were read where {shape[0]:,} were said")
        return out

    def column(self) -> pa.Array:
        """All rows of a one-dimensional field, text or numbers."""
        return _joined(self.parts)

    def id_values(self) -> pa.Array | None:
        """What the id column holds, repeats and all, or None."""
        return _joined(self.id_parts) if self.id_parts else None

    def ids(self) -> pa.Array | None:
        """Every row's id, or None.

        Raises:
            DataError: if an id stands twice.
        """
        ids = self.id_values()
        if ids is None:
            return None
        _, first, times = np.unique(_codes(ids), return_index=True, return_counts=True)
        if (times > 1).any():
            again = int(first[np.argmax(times > 1)])
            raise DataError(
                f"{self.place(again)}: the id {ids[again].as_py()!r} stands "
                f"{int(times.max())} times",
                f"ids must be unique; --id-column {NO_IDS} joins by row instead",
            )
        return ids


def _joined(parts: list[Field]) -> pa.Array:
    """The columns of several files as one."""
    arrays = []
    for part in parts:
        with arrow_errors(part.where):
            arrays.append(broadened(part.column()))
    for part, array in zip(parts, arrays, strict=True):
        if array.type != arrays[0].type:
            raise DataError(
                f"{part.where}: is {array.type}, and {arrays[0].type} in {parts[0].path}"
            )
    return pa.concat_arrays(arrays)


def broadened(values: pa.Array) -> pa.Array:
    """Integers as int64 (uint64 where they need it) and text as large_string, to be compared."""
    kind = values.type
    if pa.types.is_uint64(kind) and len(values) and pc.max(values).as_py() >= 1 << 63:
        return values
    if pa.types.is_integer(kind):
        return values.cast(pa.int64())
    return values if pa.types.is_boolean(kind) else values.cast(pa.large_string())


def _codes(values: pa.Array) -> NDArray[Any]:
    """Numbers that are equal where the values are."""
    return values.dictionary_encode().indices.to_numpy(zero_copy_only=False)


def open_source(
    arguments: list[str],
    role: Role,
    option: str,
    key: str | None = None,
    id_column: str | None = None,
) -> Source:
    """Find the files, and the field of each that is meant. Reads headers only, except of CSV.

    Args:
        arguments: paths, folders and globs, in order.
        role: what is looked for.
        option: the option's name, for messages: ``emb`` has the key option ``--emb-key``.
        key: the name of the column or npz member; needed only where there is a choice.
        id_column: the name of the ids. None looks for a usual name, ``none`` for nothing.

    Raises:
        DataError: where a file cannot be used, naming it.
    """
    parts: list[Field] = []
    id_parts: list[Field] = []
    for argument in arguments:
        files = expand([argument], option)
        for fields in _one_kind(files, role, option, key, id_column):
            parts.append(_choose(fields, role, option, key, id_column))
            id_parts.extend(_find_ids(fields, id_column))
    if id_parts and len(id_parts) != len(parts):
        raise DataError(f"{parts[0].path}: only some files of --{option} carry {id_parts[0].name}")
    source = Source(role, option, parts, id_parts)
    if source.n == 0:
        raise DataError(f"{source.name}: there are no rows")
    return source


def file_fields(path: Path, kind: Format) -> list[Field]:
    """Every field of one file."""
    if kind == "npy":
        return npy_fields(path)
    if kind == "npz":
        return npz_fields(path)
    return TableFile(path, kind).fields()


def _one_kind(
    files: list[Path], role: Role, option: str, key: str | None, id_column: str | None
) -> Iterator[list[Field]]:
    """The fields of each file; of a folder with several kinds, the first kind that will do."""
    by_kind: dict[Format, list[Path]] = {}
    for path in files:
        by_kind.setdefault(sniff(path), []).append(path)
    kinds = [kind for kind in _KINDS if kind in by_kind]
    for kind in kinds[:-1]:
        fields = file_fields(by_kind[kind][0], kind)
        try:
            _choose(fields, role, option, key, id_column)
        except DataError:
            continue
        kinds = [kind]
        break
    for path in by_kind[kinds[-1]]:
        yield file_fields(path, kinds[-1])


def _choose(
    fields: list[Field], role: Role, option: str, key: str | None, id_column: str | None
) -> Field:
    """The field of one file that is meant."""
    path = fields[0].path
    if len(fields) == 1 and not fields[0].name:
        if key is not None:
            raise DataError(
                f"{path}: is a plain array and has no {key!r}", f"leave --{option}-key out"
            )
        return _fit(fields[0], role)
    listing = f"it has: {_names(fields)}"
    if key is not None:
        for f in fields:
            if f.name == key or (len(f.shape) == 2 and f.name.rstrip("_.") == key):
                return _fit(f, role)
        raise DataError(f"{path}: has no column or member {key!r}", listing)
    taken = {id_column, *ID_NAMES} if role != "rows" else set()
    candidates = [
        f
        for f in fields
        if f.name not in taken
        and _suits(f, role)
        # not by `in`: a matrix of numbered columns may have no name either
        and not (len(f.shape) == 1 and f.name in _PANDAS_INDEX)
    ]
    if len(candidates) == 1:
        return _fit(candidates[0], role)
    usual_names = _USUAL[role]
    if role == "rows" and id_column is not None:
        usual_names = (id_column, *usual_names)
    for usual in usual_names:
        for f in candidates:
            if f.name.rstrip("_.") == usual:
                return _fit(f, role)
    if not candidates:
        if not fields[0].n:  # then a CSV says no types
            raise DataError(f"{path}: there are no rows")
        raise DataError(f"{path}: has no column or member that could be {role}", listing)
    raise DataError(
        f"{path}: {_names(candidates)} could all be {role}",
        "call the right one 'index' or 'id'" if role == "rows" else f"name one with --{option}-key",
    )


def _names(fields: list[Field]) -> str:
    """What to choose from, for messages; not every one of 768 numbered columns."""
    names = [f.name for f in fields]
    shown = names if len(names) <= _MOST_NAMES else [*names[:_MOST_NAMES], f"… ({len(names)})"]
    return ", ".join(shown)


def _suits(f: Field, role: Role) -> bool:
    """Whether a field could be meant when nobody says which."""
    if role == "embeddings":
        return len(f.shape) == 2 and f.dtype.kind == "f"
    if len(f.shape) != 1:
        return False
    if role == "labels":
        return f.dtype.kind in "iubUS"
    if role == "rows":
        return f.dtype.kind in "iubUS"
    return f.is_number and f.name.rstrip("_.") not in _USUAL["labels"]


def _fit(f: Field, role: Role) -> Field:
    """Refuse a field whose shape or type cannot serve."""
    if f.refusal is not None:
        raise f.refusal
    wanted = 2 if role == "embeddings" else 1
    if len(f.shape) != wanted:
        form = "two-dimensional, (n, d)" if wanted == 2 else "one-dimensional, (n,)"
        raise DataError(f"{f.where}: {role} must be {form}, not {f.shape}")
    good = "fiub" if role in ("embeddings", "scores") else "iubUS"
    if f.dtype.kind not in good:
        kind = {"O": "of a type that is not read", "U": "text", "S": "text"}.get(
            f.dtype.kind, str(f.dtype)
        )
        raise DataError(
            f"{f.where}: {role} must be {'numbers' if 'f' in good else 'integers or text'}, "
            f"not {kind}"
        )
    return f


def _find_ids(fields: list[Field], id_column: str | None) -> list[Field]:
    """The ids of one file, as a list of one or none."""
    if id_column == NO_IDS:
        return []
    for name in ID_NAMES if id_column is None else (id_column,):
        for f in fields:
            if f.name == name and len(f.shape) == 1:
                if f.dtype.kind in "iuUS":
                    return [f]
                raise DataError(
                    f"{f.where}: ids must be integers or text, not {f.dtype}",
                    f"--id-column {NO_IDS} joins by row",
                )
    return []


@dataclass(frozen=True)
class Reordered:
    """A source seen in the order of a frame: row i is row ``rows[i]`` of the source."""

    source: Source
    rows: NDArray[np.int64]

    def place(self, row: int | None) -> str:
        """The file and the row in it, for messages."""
        return self.source.place(None if row is None else int(self.rows[row]))


@contextmanager
def blame(**inputs: Source | Reordered | str | None) -> Iterator[None]:
    """Put the file's name in front of what numerical code says of its arguments."""
    try:
        yield
    except DataError as error:
        origin = inputs.get(error.argument or "")
        if origin is None:
            raise
        if isinstance(origin, str):
            place = origin if error.row is None else f"{origin}: row {error.row}"
        else:
            place = origin.place(error.row)
        raise DataError(f"{place}: {error.message}", error.hint) from error
