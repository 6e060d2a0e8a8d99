"""The rows of a run, in the order of one input; the other inputs are joined to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import DataError, UsageError
from d2cli.files.formats.arrow_types import first_null
from d2cli.files.formats.choice import ID_NAMES, NO_IDS, ROW_NAMES
from d2cli.files.formats.fields import Field
from d2cli.files.keys import (
    Key,
    Relation,
    is_ascending,
    is_counter,
    is_shuffled_count,
    is_unique,
    relate,
    same_relation,
    same_values,
    usual_names,
)
from d2cli.files.provenance.fingerprint import fingerprint
from d2cli.files.sources import Reordered, Source, in_order

_OWN_ORDER = "gives the order of rows"
_NUMBERS = re.compile("[0-9]+")
_BY_ROW = f"; --id-column {NO_IDS} joins row by row"


@dataclass(frozen=True)
class Join:
    """How an input was joined to the frame.

    Attributes:
        by: the name of the column whose values were matched; None: row by row.
        text: the same for people, with the reason.
        rows: (n,) int64, the row in the input of each row of the frame; None if all are equal.
    """

    by: str | None
    text: str
    rows: NDArray[np.int64] | None = None


@dataclass
class _Column:
    """A column of the frame: `key` of an input whose rows `rows` are the frame's, or `values`."""

    key: Key | None = None
    rows: NDArray[np.int64] | None = None
    values: pa.Array | None = None

    def read(self) -> pa.Array:
        """The values in the order of the frame, (n,)."""
        if self.values is None:
            assert self.key is not None
            values = self.key.values()
            self.values = values if self.rows is None else values.take(pa.array(self.rows))
        return self.values

    def equals(self, other: Key) -> bool:
        """Whether `other` has the same values in the same rows."""
        streamed = self.values is None and self.rows is None and self.key is not None
        mine = self.key.arrays() if streamed and self.key is not None else iter([self.read()])
        return same_values(mine, other.arrays())


class Frame:
    """The rows of a run. Other inputs are joined to them: by a column that both have, else by row.

    Ids come from a column of :data:`ID_NAMES` or ``--id-column``. Without ids on both sides,
    columns of the same name tell whether the order of rows is the same. Where they cannot tell, and
    the order may differ, the join is refused.

    Attributes:
        n, name: the number of rows, and the input that gives their order, for messages.
        id_column: the option: a name, ``none``, or None.
        ids: (n,) the ids, from the first input that has some, or None; `id_name` is their column.
        unkept: columns that could be ids and that no output keeps.
        joins: how each input was joined, by option; of several files of one option, the last.
        notices: notices about the joins.
    """

    def __init__(
        self,
        n: int,
        name: str,
        ids: pa.Array | None = None,
        *,
        id_column: str | None = None,
        made_from: str | None = None,
        unkept: Iterable[str] = (),
        paths: Iterable[Path] = (),
        fingerprints: Iterable[str] = (),
    ) -> None:
        """A frame of n rows.

        `paths` are its files. Of a file of an earlier step, `made_from` is the column that its ids
        come from, `unkept` are others that it could not keep, and `fingerprints` are those of the
        inputs that it was made from.
        """
        self._paths, self._fingerprints = list(paths), frozenset(fingerprints)
        self._made_from = made_from
        self.n, self.name, self.ids, self.id_column = n, name, ids, id_column
        self.id_name = made_from if made_from is not None or ids is None else ID_NAMES[0]
        self.joins: dict[str, Join] = {}
        self.notices: list[str] = []
        self._columns: dict[str, _Column] = {}
        if ids is not None and self.id_name is not None:
            self._columns[self.id_name] = _Column(values=ids)
        self.unkept = tuple(unkept)
        self._files: list[tuple[Path, int]] = []
        self._option = ""
        self._joined: dict[tuple[object, ...], Join] = {}

    @classmethod
    def of(cls, source: Source, id_column: str | None = None) -> Frame:
        """A frame of the rows of an input, in its order."""
        ids = source.ids()
        name = source.id_parts[0].name if source.id_parts else None
        frame = cls(source.n, source.name, id_column=id_column, paths=source.paths)
        frame._fingerprints, frame._option = source.recorded_fingerprints, source.option
        frame.ids, frame.id_name = ids, name
        frame._check_has_column(source)
        if ids is not None and name is not None:
            frame._columns[name] = _Column(values=ids)
        frame._files = _parts_of(source) if len(source.parts) > 1 else []
        frame._remember(source, Join(None, _OWN_ORDER))
        return frame

    # -- joining -----------------------------------------------------------------------------------
    def rows_of(self, source: Source, keep: bool = True) -> NDArray[np.int64] | None:
        """(n,) int64, the row in `source` of each row of the frame; None if all are equal.

        `keep`: whether to remember the rows, for other inputs from the same files.

        Raises:
            DataError: if the inputs cannot be joined, or may be in another order.
        """
        join = self._joined.get(_files_of(source))
        if join is None:
            join = self._join(source)
        elif join.text == _OWN_ORDER and source.option != self._option:
            join = Join(None, f"the same file as {self.name}")
        if keep:
            self._remember(source, join)
        else:
            self.joins[source.option] = replace(join, rows=None)
        return join.rows

    def join_all(self, *sources: Source | None) -> None:
        """Join inputs before they are read; ids of any of them may then name rows."""
        for source in sources:
            if source is not None:
                self.rows_of(source)

    def _join(self, source: Source) -> Join:
        self._check_has_column(source)
        if self.id_column == NO_IDS:
            return self._by_row(source, f"row by row (--id-column {NO_IDS})")
        in_order = self._same_rows(source) and not source.recorded_by_rank
        if source.n == self.n and in_order and not source.id_parts:
            return self._by_row(source, f"row by row: it was made from the rows of {self.name}")
        theirs = source.ids()
        id_name = source.id_parts[0].name if source.id_parts else None
        if theirs is not None and self.ids is not None and self._same_ids(id_name):
            counters = is_counter(theirs) and is_counter(self.ids)
            others = [] if self.id_column or not counters else self._shared(source, id_name)
            join = self._by_evidence(source, others) if others else None
            return join or self._by_ids(source, theirs, id_name)
        shared = [] if self.id_column else self._shared(source, None)
        join = self._by_evidence(source, shared)
        if join is None:
            join = self._without_evidence(source, bool(shared))
        if self.ids is None and theirs is not None:
            self.ids = theirs if join.rows is None else theirs.take(pa.array(join.rows))
            self.id_name = id_name
        return join

    def _same_ids(self, name: str | None) -> bool:
        """Whether ids of the column `name` mean what ours do: one name, or two usual ones."""
        usual = name in ID_NAMES and self.id_name in ID_NAMES
        return usual or name == self.id_name or self.id_column is not None

    def _shared(self, source: Source, but: str | None) -> list[str]:
        """The names of columns that both have, the most usual first."""
        names = [name for name in source.keys if name in self._columns and name != but]
        usual = usual_names(names)
        return [*usual, *(name for name in names if name not in usual)]

    def _by_ids(self, source: Source, theirs: pa.Array, name: str | None) -> Join:
        assert self.ids is not None
        self._check_type(theirs, source)
        if self.ids.equals(theirs):
            return Join(None, f"row by row: {name} is in the same order")
        at = pc.index_in(self.ids, value_set=theirs)
        if at.null_count:
            row = first_null(at)
            raise self._lacks(source, self.ids, at.null_count, row, None)
        return self._matched(source, name or "id", at.to_numpy().astype(np.int64))

    def _by_evidence(self, source: Source, names: list[str]) -> Join | None:
        """Join as the columns `names`, which both have, tell; None if they tell nothing."""
        relations: dict[str, Relation] = {}
        for name in names:
            mine, theirs = self._columns[name], source.keys[name]
            if source.n == self.n and mine.equals(theirs):
                relations[name] = same_relation(theirs.head())
                if relations[name].says and name in usual_names([name]):
                    break  # a usual key in the same order: no other column is needed
            else:
                relations[name] = relate(mine.read(), theirs.values())
                if relations[name].kind == "unrelated" and _mixed(mine.read(), theirs):
                    relations[name] = Relation("types")
        telling = {name: found for name, found in relations.items() if found.says}
        matches = [name for name, found in telling.items() if found.kind == "match"]
        same = [name for name, found in telling.items() if found.kind == "same"]
        if matches:
            rows = telling[matches[0]].rows
            assert rows is not None
            for name in (*matches[1:], *same):
                if not self._agrees(name, source, rows):
                    raise self._undecided(source, [matches[0], name], "tell different orders")
            return self._matched(source, matches[0], rows)
        keys = [name for name in same if telling[name].is_key]
        if keys:
            says = f"row by row: {_listed(keys)} is in the same order"
            return Join(None, says)
        for name, found in telling.items():
            if found.kind == "partial":
                raise self._lacks(source, self._columns[name].read(), *found.missing, name)
            if found.kind == "repeated" and not same:
                raise self._undecided(source, [name], "repeats values, and rows differ")
            if found.kind == "types":
                raise self._undecided(source, [name], "is text in one and integers in the other")
        if same:
            says = f"row by row: {_listed(same)} is in the same order"
            return self._by_row(source, says)
        for kind, says in (
            ("shuffled", "has the same values in another order, and they repeat"),
            ("disjoint", "has no value in common"),
        ):
            if named := [name for name, found in telling.items() if found.kind == kind]:
                raise self._undecided(source, named, says)
        return None

    def _agrees(self, name: str, source: Source, rows: NDArray[np.int64]) -> bool:
        """Whether a column is equal in both if the rows of `source` are taken as `rows`."""
        theirs = source.keys[name].values().take(pa.array(rows))
        return bool(theirs.equals(self._columns[name].read()))

    def _without_evidence(self, source: Source, shared: bool) -> Join:
        """Row by row, since no column tells; refused if ids of one side are out of order."""
        mine = usual_names(self._columns)
        theirs = usual_names(source.keys)
        if self.id_column is not None:
            mine, theirs = [n for n in mine if n == self.id_column], []
            theirs = [source.id_parts[0].name] if source.id_parts else []
        if mine and theirs and not shared:
            join = self._across(source, mine[0], theirs[0])
            if join is not None:
                return join
        self._check_recorded_rows(source)
        if lost := sorted(set(self.unkept) & set(source.keys)):
            raise DataError(
                f"{source.name}: has the column {lost[0]}, and {self.name} was made from a table "
                f"with {lost[0]} but does not keep it: the order of rows cannot be compared",
                f"make {self.name} again with --id-column {lost[0]}{_BY_ROW}",
            )
        for name in mine:
            if is_shuffled_count(self._columns[name].read()):
                raise self._out_of_order(name, self.name, source.name)
        for name in theirs:
            if is_shuffled_count(source.keys[name].values()):
                raise self._out_of_order(name, source.name, self.name)
        says = "row by row"
        if shared:
            says += ": no common column tells the order"
        elif mine and theirs:
            says += f": {mine[0]} and {theirs[0]} have no values in common"
        elif mine or theirs:
            where = self.name if mine else source.name
            says += f": only {where} has ids ({_listed(mine or theirs)})"
        else:
            says += ": no ids"
        return self._by_row(source, says)

    def _check_recorded_rows(self, source: Source) -> None:
        """Refuse scores of d2prune that were made from other rows, in an order that may differ."""
        column = source.recorded_ids
        if column is None or self._same_rows(source):
            return
        says = f"{source.name}: was made from rows with the column {column}, not from {self.name}"
        ids = source.id_values()
        if ids is None and (column in self._columns or source.recorded_out_of_order):
            raise DataError(
                f"{says}, and does not hold it: the order of rows cannot be compared",
                f"write it as .parquet, which keeps {column}{_BY_ROW}",
            )
        if ids is not None and not is_ascending(ids):
            raise DataError(
                f"{says}, which has no such column, and its ids are not in ascending order",
                f"give {self.name} with its ids too{_BY_ROW}",
            )

    @cached_property
    def fingerprints(self) -> frozenset[str]:
        """Of the files that give the rows, and of those that these were made from."""
        own = {fingerprint(self._paths)} if self._paths else set()
        return self._fingerprints | own

    def _same_rows(self, source: Source) -> bool:
        """Whether an input was made from the file that gives our rows, or both from the same."""
        known = source.recorded_fingerprints
        return bool(known) and bool(known & self.fingerprints)

    def _across(self, source: Source, mine: str, theirs: str) -> Join | None:
        """Join by key columns of different names, if one holds all values of the other."""
        if mine in ROW_NAMES or theirs in ROW_NAMES:
            return None
        column, key = self._columns[mine], source.keys[theirs]
        if source.n == self.n and column.equals(key):
            says = f"row by row: {mine} and {theirs} are equal in every row"
            return Join(None, says)
        found = relate(column.read(), key.values())
        if found.kind != "match" or found.rows is None:
            return None
        if pa.types.is_integer(column.read().type):  # other numbers can have the same values
            if not found.says:
                return None
            hint = f"give the columns one name, and name it with --id-column{_BY_ROW}"
            says = f"{theirs} holds the values of {mine} of {self.name} in another order"
            raise DataError(f"{source.name}: {says}", hint)
        join = self._matched(source, theirs, found.rows)
        return Join(theirs, f"by {theirs} = {mine}", join.rows)

    def _matched(self, source: Source, name: str, rows: NDArray[np.int64]) -> Join:
        if source.n > self.n:
            says = f"{source.n - self.n:,} of {source.n:,} ids are not in {self.name}"
            self.notices.append(f"{source.name}: {says}; their rows are not used")
        if self.ids is None and name in self._columns:
            self.ids, self.id_name = self._columns[name].read(), name
        ordered = np.array_equal(rows, np.arange(self.n))
        return Join(name, f"by {name}", None if ordered and source.n == self.n else rows)

    def _by_row(self, source: Source, says: str) -> Join:
        if len(source.parts) == len(self._files) and self.id_column != NO_IDS:
            self._check_pairs(source)
        if source.n != self.n:
            hint = "inputs are joined row by row unless both have ids"
            counts = f"has {source.n:,} rows, {self.name} has {self.n:,}"
            raise DataError(f"{source.name}: {counts}", hint)
        return Join(None, says)

    def _check_pairs(self, source: Source) -> None:
        """Refuse files that are paired by place and do not belong together (DataError)."""
        hint = "files are paired in the order given, and in a folder or glob in natural order"
        pairs = list(zip(self._files, _parts_of(source), strict=True))
        for (path, size), (other, count) in pairs:
            if size != count:
                says = f"{other}: has {count:,} rows, and {path}, its partner, has {size:,}"
                raise DataError(says, f"{hint}: give the files that belong together")
        names = [[path.stem for path, _ in files] for files in zip(*pairs, strict=True)]
        if (found := _misplaced(*names)) is not None:
            at, word = found
            (path, _), (other, _) = pairs[at]
            raise DataError(
                f"{other}: is the partner of {path} by its place, and not by its {word}",
                f"{hint}; --id-column {NO_IDS} takes them as they are",
            )

    def _remember(self, source: Source, join: Join) -> None:
        """Keep the join, and the columns that later inputs may share."""
        self.joins[source.option] = join
        self._joined[_files_of(source)] = join
        for name, key in source.keys.items():
            self._columns.setdefault(name, _Column(key, join.rows))

    # -- refusals ----------------------------------------------------------------------------------
    def _check_has_column(self, source: Source) -> None:
        """Refuse (UsageError) a table that lacks the column of ``--id-column``."""
        named = self.id_column not in (None, NO_IDS)
        if named and self._made_from not in (None, self.id_column):
            raise UsageError(
                f"--id-column {self.id_column}: {self.name} has ids of the column "
                f"{self._made_from}",
                f"make it again with --id-column {self.id_column}",
            )
        could = source.has_columns or any(key.can_be_ids for key in source.keys.values())
        if named and could and not source.id_parts:
            raise UsageError(
                f"--id-column {self.id_column}: {source.name} has no column of this name",
                f"it has: {', '.join(source.keys) or 'no column of integers or text'}",
            )

    def check_id_column(self) -> None:
        """After all joins, refuse (UsageError) an id column that no input has.

        Without the check, the inputs would silently be joined by row.
        """
        if self.id_column not in (None, NO_IDS) and self.ids is None:
            raise UsageError(f"--id-column {self.id_column}: no input has a column of this name")

    def _check_type(self, ids: pa.Array, source: Source) -> None:
        if self.ids is not None and ids.type != self.ids.type:
            says = f"ids are {ids.type}, but {self.ids.type} in {self.name}"
            raise DataError(f"{source.name}: {says}", f"write them in one type{_BY_ROW}")

    def _lacks(
        self, source: Source, values: pa.Array, count: int, row: int, name: str | None
    ) -> DataError:
        place = f"row {row} of {self.name}, one of {count:,} missing ids"
        what = "id" if name is None else name
        hint = None if name is None else f"join by another column with --id-column NAME{_BY_ROW}"
        says = f"has no {what} {values[row].as_py()!r} ({place})"
        return DataError(f"{source.name}: {says}", hint)

    def _undecided(self, source: Source, names: list[str], says: str) -> DataError:
        return DataError(
            f"{source.name}: cannot be joined to {self.name}: {_listed(names)} {says}",
            f"name the column of ids: --id-column {names[0]}{_BY_ROW}",
        )

    def _out_of_order(self, name: str, where: str, other: str) -> DataError:
        shown = name or "(a column without a name)"
        return DataError(
            f"{where}: {shown} numbers the rows in another order than 0, 1, 2, …, and {other} has "
            "no such column: they cannot be joined",
            f"give {other} with its ids too{_BY_ROW}",
        )

    # -- reading joined inputs ---------------------------------------------------------------------
    def adopt_ids(self, usual_only: bool = False) -> None:
        """Take ids from the column that looks most like them, so that a later step can join.

        Other columns whose values do not seem to repeat are `unkept`. `usual_only`: take none but
        columns of a usual name.
        """
        if self.id_column == NO_IDS or self.ids is not None:
            return
        unique = [
            name for name, column in self._columns.items()
            if column.key is not None and column.key.can_be_ids and column.key.looks_unique
        ]  # fmt: skip
        usual = usual_names(unique)
        candidates = usual or (unique if len(unique) == 1 and not usual_only else [])
        for name in candidates:
            values = self._columns[name].read()
            if is_unique(values):
                self.ids, self.id_name = values, name
                break
        self.unkept = tuple(sorted(name for name in unique if name != self.id_name))

    @cached_property
    def ids_section(self) -> dict[str, Any]:
        """The section ``ids`` of provenance, once all inputs are joined."""
        kept = None if self.ids is None else self.id_name
        reordered = any(join.rows is not None or join.by for join in self.joins.values())
        return {
            "column": kept,
            "unkept": list(self.unkept),
            "out_of_order": reordered or (self.ids is not None and not is_ascending(self.ids)),
            "made_from": sorted(self.fingerprints),
        }

    def note(self, source: Source, says: str) -> None:
        """Note how an input was joined that needs nothing of the frame for it."""
        self.joins[source.option] = Join(None, says)

    def take_by_row(self, source: Source) -> None:
        """Join an input that was made from the rows of the frame, in their order."""
        self._remember(source, self._by_row(source, "one value for each row"))

    def vector(self, source: Source) -> tuple[NDArray[np.float64], Source | Reordered]:
        """(n,) float64, the values of `source` in the order of the frame, and their origin."""
        rows = self.rows_of(source)
        values = source.vector()
        return values if rows is None else values[rows], in_order(source, rows)

    def labels(self, source: Source) -> tuple[NDArray[np.int64], Source | Reordered]:
        """(n,) int64 class numbers 0 … C-1 of sorted class names, in the order of the frame.

        A row without a label has -1. The second value is the origin of each label.
        """
        codes, _, origin = self.classes(source)
        return codes, origin

    def classes(self, source: Source) -> tuple[NDArray[np.int64], list[str], Source | Reordered]:
        """Class numbers as in :meth:`labels`, the name of each class, and the labels' origin."""
        rows = self.rows_of(source)
        coded = source.column(nulls=True).dictionary_encode()
        names = coded.dictionary.to_numpy(zero_copy_only=False)
        order = np.argsort(names, kind="stable")
        missing = coded.indices.is_null().to_numpy(zero_copy_only=False)
        codes = np.full(len(coded), -1, np.int64)
        codes[~missing] = np.argsort(order)[coded.indices.drop_null().to_numpy()]
        classes = [str(name) for name in names[order]]
        return codes if rows is None else codes[rows], classes, in_order(source, rows)

    def mask(self, sources: list[Source]) -> NDArray[np.bool_]:
        """(n,) bool, the rows that opened files list.

        Booleans are a mask; integers are row numbers; text is ids. If a table has both ids and row
        numbers, the ids are used if the frame has ids too. A column that an input of the frame has
        too, by the same name, is read as values of that column.
        """
        mask = np.zeros(self.n, np.bool_)
        for source in sources:
            part = source.parts[0]
            by_row = part.dtype.kind in "iub" and part.name in ("", *ROW_NAMES)
            shared = self._shared_key(source, part) if self.ids is None or by_row else None
            if shared is not None and not (source.id_parts and self.ids is not None):
                name, values = shared
                mask[self.rows_with_ids(values, source, self._columns[name].read())] = True
                continue
            ids = source.id_values() if self.ids is not None else None
            values = source.column() if ids is None else ids
            by_id = ids is not None or part.is_text or part.name in (*ID_NAMES, self.id_name)
            if not by_id:
                self._check_made_from(source)
            rows = self.rows_with_ids(values, source) if by_id else self.listed(values, source)
            mask[rows] = True
        return mask

    def _shared_key(self, source: Source, part: Field) -> tuple[str, pa.Array] | None:
        """The name and the values of a column of a list of rows that an input has too, or None."""
        if self.id_column == NO_IDS:
            return None
        if part.name not in ("", *ROW_NAMES) and part.name in self._columns:
            return part.name, source.column()
        names = [n for n in source.keys if n in self._columns and n.lower() not in ROW_NAMES]
        usual = usual_names(names)
        return (usual[0], source.keys[usual[0]].values()) if usual else None

    def _check_made_from(self, source: Source) -> None:
        """Refuse row numbers that a step of d2prune wrote for other rows (DataError)."""
        known = source.recorded_fingerprints
        if known and self.id_column != NO_IDS and not self._same_rows(source):
            raise DataError(
                f"{source.name}: holds row numbers of other inputs than {self.name}",
                f"give ids (select --as id); if the rows are the same, add --id-column {NO_IDS}",
            )

    def listed(self, values: pa.Array, source: Source, mask: bool = False) -> NDArray[np.int64]:
        """The rows of a mask or of row numbers, as int64; numbers outside the frame are refused.

        `values` of `source` are a mask if they are booleans or `mask` is true.
        """
        if mask or pa.types.is_boolean(values.type):
            if len(values) != self.n:
                says = f"the mask has {len(values):,} values, {self.name} has {self.n:,} rows"
                raise DataError(f"{source.name}: {says}")
            return np.flatnonzero(values.to_numpy(zero_copy_only=False)).astype(np.int64)
        return row_numbers(values.to_numpy(zero_copy_only=False), source.place, self.n, self.name)

    def rows_with_ids(
        self, values: pa.Array, source: Source, ids: pa.Array | None = None
    ) -> NDArray[np.int64]:
        """The row in the frame of each id, in the order of `values`; `ids`: by default its own."""
        ids = self.ids if ids is None else ids
        if ids is None:
            raise DataError(
                f"{source.name}: lists ids, but no input has ids",
                "name the id column with --id-column, or list row numbers",
            )
        if values.type != ids.type:
            says = f"ids are {values.type}, but {ids.type} in {self.name}"
            raise DataError(f"{source.name}: {says}")
        at = pc.index_in(values, value_set=ids)
        if at.null_count:
            row = first_null(at)
            raise DataError(f"{source.place(row)}: {self.name} has no id {values[row].as_py()!r}")
        return at.to_numpy().astype(np.int64)


def row_numbers(
    values: NDArray[np.integer], place: Callable[[int], str], n: int, name: str
) -> NDArray[np.int64]:
    """Row numbers as int64; one outside of the n rows of `name` is refused (DataError).

    `place` names the file and the row of a value by its number.
    """
    wrong = (values < 0) | (values >= n)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{place(at)}: {values[at]} is no row of {name} (0 … {n - 1:,})")
    return values.astype(np.int64)


def _mixed(one: pa.Array, key: Key) -> bool:
    """Whether a usual key holds fractions in one column, and integers or text in the other."""
    floats = pa.types.is_floating(one.type) != (not key.can_be_ids)
    return floats and bool(usual_names([key.name]))


def _parts_of(source: Source) -> list[tuple[Path, int]]:
    """The files of an input and their numbers of rows."""
    return [(part.path, part.n) for part in source.parts]


def _misplaced(ours: list[str], theirs: list[str]) -> tuple[int, str] | None:
    """The first place where names that are paired by place contradict each other, and in what.

    If they share a name, each pair must have one name. Otherwise the last numbers in the names
    decide, if each list has different ones: they must be equal, or differ by a constant.
    """
    keys: list[tuple[str, str]] | list[tuple[int, int]] = list(zip(ours, theirs, strict=True))
    word = "name"
    if not set(ours) & set(theirs):
        found = ([_NUMBERS.findall(name)[-1:] for name in names] for names in (ours, theirs))
        mine, others = ([int(one[0]) for one in numbers if one] for numbers in found)
        distinct = min(len(set(mine)), len(set(others))) == len(ours)
        if not distinct or len({a - b for a, b in zip(mine, others, strict=True)}) == 1:
            return None
        keys, word = list(zip(mine, others, strict=True)), "number"
    return next(((at, word) for at, (a, b) in enumerate(keys) if a != b), None)


def _files_of(source: Source) -> tuple[object, ...]:
    """What tells whether two inputs are the same files, and so have the same rows."""
    return (source.n, *(part.path for part in source.parts))


def _listed(names: list[str]) -> str:
    return " and ".join(name or "a column without a name" for name in names[:3])
