"""Columns by which the rows of several inputs can be told apart, and how two of them relate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.arrow_types import first_null
from d2cli.files.formats.choice import ID_NAMES, KEY_NAMES, NO_IDS, ROW_NAMES
from d2cli.files.formats.fields import Field
from d2cli.files.formats.tables import arrow_errors

#: A column with fewer distinct values than this share of its rows describes groups, not examples.
_MOSTLY = 0.5
#: Rows at the beginning of a column that are looked at to guess whether its values repeat.
_HEAD = 1 << 16


@dataclass(frozen=True)
class Key:
    """One column of integers, text or floats that is in every file of an input.

    Floats can only tell whether the order of rows is the same, unless they are whole numbers.
    """

    name: str
    parts: tuple[Field, ...]

    @property
    def can_be_ids(self) -> bool:
        """Whether the values are integers or text."""
        return all(part.dtype.kind in "iuUS" for part in self.parts)

    def arrays(self) -> Iterator[pa.Array]:
        """The values in order, in pieces; nulls are kept."""
        for part in self.parts:
            with arrow_errors(part.where):
                yield from (broadened(piece) for piece in part.arrays())

    def values(self) -> pa.Array:
        """All values, (n,)."""
        return joined(self.parts, nulls=True)

    def head(self) -> pa.Array:
        """The first values."""
        return next((piece.slice(0, _HEAD) for piece in self.arrays()), pa.nulls(0))

    @property
    def looks_unique(self) -> bool:
        """Whether no value repeats at the beginning of the column, and none is null."""
        head = self.head()
        return len(head) > 0 and is_unique(head)


def flat_fields(fields: list[Field], chosen: Field) -> dict[str, Field]:
    """The columns of integers, text or floats of one file, besides `chosen`, by name."""
    return {
        f.name: f
        for f in fields
        if f is not chosen
        and f.refusal is None
        and f.dtype.kind in "fiuUS"
        and f.shape in ((chosen.n,), chosen.shape[1:2])  # outputs: (epochs, n, classes)
    }


def common_keys(files: list[dict[str, Field]]) -> dict[str, Key]:
    """The columns that every file of an input has."""
    names = [name for name in files[0] if all(name in one for one in files)] if files else []
    return {name: Key(name, tuple(one[name] for one in files)) for name in names}


def refuse_lost_keys(files: list[dict[str, Field]], parts: list[Field]) -> None:
    """Refuse files (DataError) if only some have a column that usually tells rows apart."""
    for name in usual_names({name for one in files for name in one}):
        lacks = next((i for i, one in enumerate(files) if name not in one), None)
        if lacks is not None:
            has = next(i for i, one in enumerate(files) if name in one)
            says = f"has no column {name}, and {parts[has].path} has one"
            hint = f"--id-column {NO_IDS} takes the rows of all files to be in one order"
            raise DataError(f"{parts[lacks].path}: {says}", hint)


def joined(parts: Iterable[Field], nulls: bool = False) -> pa.Array:
    """The columns of several files as one Arrow array; null values are refused unless `nulls`."""
    arrays: list[pa.Array] = []
    first = None
    for part in parts:
        with arrow_errors(part.where):
            arrays.append(broadened(part.column(nulls=nulls)))
        first = first or part
        if arrays[-1].type != arrays[0].type:
            says = f"is {arrays[-1].type}, but {arrays[0].type} in {first.path}"
            raise DataError(f"{part.where}: {says}")
    return pa.concat_arrays(arrays)


def broadened(values: pa.Array) -> pa.Array:
    """Integers as int64 (uint64 if a value needs it) and text as large_string, for comparison.

    Floats that are whole numbers become integers too.
    """
    kind = values.type
    if pa.types.is_uint64(kind) and len(values) and (pc.max(values).as_py() or 0) >= 1 << 63:
        return values
    if pa.types.is_integer(kind):
        return values.cast(pa.int64())
    if pa.types.is_floating(kind):
        with suppress(pa.ArrowInvalid):  # else not whole
            return values.cast(pa.int64())
        return values
    return values if pa.types.is_boolean(kind) else values.cast(pa.large_string())


def check_unique(ids: pa.Array, place: Callable[[int], str]) -> None:
    """Refuse a repeated id; `place` names the file and row of a row number."""
    codes = ids.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    _, first, times = np.unique(codes, return_index=True, return_counts=True)
    if (times > 1).any():
        again = int(first[np.argmax(times > 1)])
        raise DataError(
            f"{place(again)}: the id {ids[again].as_py()!r} occurs {int(times.max())} times",
            f"ids must be unique; --id-column {NO_IDS} joins by row instead",
        )


def is_unique(values: pa.Array) -> bool:
    """Whether no value is null and none repeats."""
    return not values.null_count and pc.count_distinct(values).as_py() == len(values)


def is_counter(values: pa.Array) -> bool:
    """Whether the values count 0, 1, 2, …."""
    if not pa.types.is_integer(values.type) or values.null_count:
        return False
    return bool(np.array_equal(values.to_numpy(), np.arange(len(values))))


def is_shuffled_count(values: pa.Array) -> bool:
    """Whether the values are consecutive numbers in another order than ascending.

    Text counts too if it holds one number each inside the same words, such as ``img_0017.jpg``.
    Integers must begin with 0 or 1: other runs of integers are common without meaning.
    """
    if values.null_count or len(values) < 2:
        return False
    if pa.types.is_integer(values.type):
        numbers = values.to_numpy()
        return _is_shuffled(numbers, start=0) or _is_shuffled(numbers, start=1)
    if not pa.types.is_large_string(values.type):
        return False
    found = _numbers_in(values)
    return found is not None and _is_shuffled(found, start=None)


def is_ascending(values: pa.Array) -> bool:
    """Whether integers or text ascend; the number inside text may do so too: ``a2``, ``a10``."""
    if values.null_count:
        return False
    if pc.all(pc.less(values.slice(0, max(len(values) - 1, 0)), values.slice(1))).as_py():
        return True
    numbers = _numbers_in(values) if pa.types.is_large_string(values.type) else None
    return numbers is not None and bool((np.diff(numbers) > 0).all())


def _numbers_in(values: pa.Array) -> NDArray[np.int64] | None:
    """The number in each text, if all texts are the same but for one number each; else None."""
    template = re.escape(re.sub(r"[0-9]+", "0", values[0].as_py())).split("0")
    if len(template) != 2:
        return None
    numbers = np.empty(len(values), np.int64)
    for start in range(0, len(values), _HEAD):  # pieces, since matches take memory
        pattern = f"^{template[0]}(?P<number>[0-9]{{1,18}}){template[1]}$"
        taken = pc.extract_regex(values.slice(start, _HEAD), pattern)
        if taken.null_count:
            return None
        numbers[start : start + _HEAD] = taken.field(0).cast(pa.int64()).to_numpy()
    return numbers


def _is_shuffled(numbers: NDArray[Any], start: int | None) -> bool:
    ordered = np.sort(numbers)
    first = ordered[0] if start is None else start
    counts = np.array_equal(ordered, np.arange(first, first + ordered.size, dtype=ordered.dtype))
    return bool(counts) and not np.array_equal(ordered, numbers)


# -- two inputs that have a column of the same name ------------------------------------------------
class Relation(NamedTuple):
    """How a column of one input relates to that of another.

    ``same``: equal in every row. ``match``: each value of the first is once in the second.
    ``partial``: values of the first are missing in the second. ``disjoint``: all are. ``shuffled``:
    the same values, some repeated, in another order. ``repeated``: nearly a key, but values repeat.
    ``unrelated``: none of these. ``types``: text and integers.

    Attributes:
        kind: as above.
        says: whether the relation tells the order of rows: not if the column counts 0, 1, 2, … in
            both, or is constant.
        is_key: of ``same``: whether values do not repeat, as far as was looked.
        rows: of ``match``: (n,) int64, the place of each value of the first in the second.
        missing: of ``partial``: (number of missing values, row of the first in the first column).
    """

    kind: Literal[
        "same", "match", "partial", "disjoint", "shuffled", "repeated", "unrelated", "types"
    ]
    says: bool = True
    is_key: bool = False
    rows: NDArray[np.int64] | None = None
    missing: tuple[int, int] = (0, 0)


def same_values(one: Iterator[pa.Array], other: Iterator[pa.Array]) -> bool:
    """Whether two columns are equal; reads no further than the first difference."""
    left = right = None
    while True:
        if left is None or not len(left):
            left = next((piece for piece in one if len(piece)), None)
        if right is None or not len(right):
            right = next((piece for piece in other if len(piece)), None)
        if left is None or right is None:
            return left is None and right is None
        size = min(len(left), len(right))
        if not left.slice(0, size).equals(right.slice(0, size)):
            return False
        left, right = left.slice(size), right.slice(size)


def same_relation(head: pa.Array) -> Relation:
    """The relation of two equal columns that begin with `head`."""
    distinct = pc.count_distinct(head, mode="all").as_py() if len(head) else 0
    says = distinct > 1 and not is_counter(head)
    return Relation("same", says, distinct > _MOSTLY * len(head))


def relate(one: pa.Array, other: pa.Array) -> Relation:
    """How two columns that are not equal relate."""
    floats = [pa.types.is_floating(values.type) for values in (one, other)]
    if any(floats):  # scores of two runs may share a name
        same = floats[0] == floats[1] and _same_counts(one, other)
        return Relation("shuffled" if same else "unrelated")
    if one.type != other.type and pa.types.is_integer(one.type) != pa.types.is_integer(other.type):
        return Relation("types")
    if one.type != other.type:  # int64 and uint64: one holds values beyond the other's range
        return Relation("unrelated")
    if is_unique(one) and is_unique(other):
        at = pc.index_in(one, value_set=other)
        if at.null_count:
            first = first_null(at)
            kind: Any = "disjoint" if at.null_count == len(one) else "partial"
            return Relation(kind, missing=(at.null_count, first))
        says = not (is_counter(one) and is_counter(other))
        return Relation("match", says, rows=at.to_numpy().astype(np.int64))
    distinct = [pc.count_distinct(values, mode="all").as_py() for values in (one, other)]
    if any(d > _MOSTLY * len(v) for d, v in zip(distinct, (one, other), strict=True)):
        shared = len(one) - pc.index_in(one, value_set=other).null_count
        return Relation("repeated" if shared else "unrelated")
    return Relation("shuffled" if _same_counts(one, other) else "unrelated")


def _same_counts(one: pa.Array, other: pa.Array) -> bool:
    """Whether two columns hold the same values, each as often."""
    if len(one) != len(other) or one.null_count != other.null_count:
        return False
    return bool(one.take(pc.sort_indices(one)).equals(other.take(pc.sort_indices(other))))


def usual_names(names: Iterable[str]) -> list[str]:
    """Those of the names that usually hold one value per example, the best first."""
    usual = (*ID_NAMES, *KEY_NAMES, *ROW_NAMES)
    known = {name.lower(): i for i, name in enumerate(usual)}
    there = [name for name in names if name.lower() in known]
    return sorted(there, key=lambda name: known[name.lower()])
