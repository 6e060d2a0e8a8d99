"""Joins of inputs: by id if both inputs have ids, else by row number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import DataError, UsageError
from d2cli.files.formats.choice import ID_NAMES, NO_IDS
from d2cli.files.formats.tables import first_null
from d2cli.files.sources import Reordered, Source


class Frame:
    """The rows of a run, in the order of one input; other inputs are joined to them.

    Attributes:
        n, name: the number of rows, and the input that gives their order, for messages.
        ids: (n,) the ids, from the first input that has some, or None.
        could_have_ids: whether the input is a table; then missing ids deserve a notice.
        notices: notices about the joins.
    """

    def __init__(
        self, n: int, name: str, ids: pa.Array | None = None, could_have_ids: bool = False
    ) -> None:
        self.n, self.name, self.ids, self.could_have_ids = n, name, ids, could_have_ids
        self.notices: list[str] = []

    @classmethod
    def of(cls, source: Source) -> Frame:
        """A frame of the rows of an input, in its order."""
        return cls(source.n, source.name, source.ids(), source.has_columns)

    def check_id_column(self, id_column: str | None) -> None:
        """After all joins, refuse (UsageError) an id column that no input has.

        Without the check, the inputs would silently be joined by row.
        """
        if id_column not in (None, NO_IDS) and self.ids is None:
            raise UsageError(f"--id-column {id_column}: no input has a column of this name")

    def rows_of(self, source: Source) -> NDArray[np.int64] | None:
        """(n,) int64, the row in `source` of each row of the frame; None if all are equal.

        Raises:
            DataError: if the inputs cannot be joined.
        """
        theirs = source.ids()
        if self.ids is None or theirs is None:
            if source.n != self.n:
                hint = "inputs are joined row by row unless both have ids"
                says = f"has {source.n:,} rows, {self.name} has {self.n:,}"
                raise DataError(f"{source.name}: {says}", hint)
            one_sided = (self.ids is None) != (theirs is None)
            if self.could_have_ids and source.has_columns and one_sided:
                lacking = self.name if self.ids is None else source.name
                says = f"{source.name} is joined to {self.name} row by row"
                self.notices.append(f"{lacking}: has no id column of the expected name; {says}")
            self.ids = theirs if self.ids is None else self.ids
            return None
        self._check_type(theirs, source)
        if self.ids.equals(theirs):
            return None
        at = pc.index_in(self.ids, value_set=theirs)
        if at.null_count:
            row = first_null(at)
            place = f"row {row} of {self.name}, one of {at.null_count:,} missing ids"
            raise DataError(f"{source.name}: has no id {self.ids[row].as_py()!r} ({place})")
        if source.n > self.n:
            says = f"{source.n - self.n:,} of {source.n:,} ids are not in {self.name}"
            self.notices.append(f"{source.name}: {says}; their rows are not used")
        return at.to_numpy().astype(np.int64)

    def _check_type(self, ids: pa.Array, source: Source) -> None:
        if self.ids is not None and ids.type != self.ids.type:
            says = f"ids are {ids.type}, but {self.ids.type} in {self.name}"
            raise DataError(f"{source.name}: {says}")

    def vector(self, source: Source) -> tuple[NDArray[np.float64], Source | Reordered]:
        """(n,) float64, the values of `source` in the order of the frame, and their origin."""
        rows = self.rows_of(source)
        values = source.vector()
        return (values, source) if rows is None else (values[rows], Reordered(source, rows))

    def labels(self, source: Source) -> NDArray[np.int64]:
        """(n,) int64 class numbers 0 … C-1 of sorted class names, in the order of the frame."""
        return self.classes(source)[0]

    def classes(self, source: Source) -> tuple[NDArray[np.int64], list[str]]:
        """Class numbers as in :meth:`labels`, and the name of each class."""
        rows = self.rows_of(source)
        coded = source.column().dictionary_encode()
        names = coded.dictionary.to_numpy(zero_copy_only=False)
        order = np.argsort(names, kind="stable")
        codes = np.argsort(order)[coded.indices.to_numpy()]
        return codes if rows is None else codes[rows], [str(name) for name in names[order]]

    def mask(self, sources: list[Source]) -> NDArray[np.bool_]:
        """(n,) bool, the rows that opened files list.

        Booleans are a mask; integers are row numbers; text is ids. If a table has both ids and row
        numbers, the ids are used if the frame has ids too.
        """
        mask = np.zeros(self.n, np.bool_)
        for source in sources:
            part = source.parts[0]
            ids = source.id_values() if self.ids is not None else None
            values = source.column() if ids is None else ids
            by_id = ids is not None or part.is_text or part.name in ID_NAMES
            read = self.rows_with_ids if by_id else self.listed
            mask[read(values, source)] = True
        return mask

    def listed(self, values: pa.Array, source: Source, mask: bool = False) -> NDArray[np.int64]:
        """The rows of a mask or of row numbers, as int64; numbers outside the frame are refused.

        `values` of `source` are a mask if they are booleans or `mask` is true.
        """
        if mask or pa.types.is_boolean(values.type):
            if len(values) != self.n:
                says = f"the mask has {len(values):,} values, {self.name} has {self.n:,} rows"
                raise DataError(f"{source.name}: {says}")
            return np.flatnonzero(values.to_numpy(zero_copy_only=False)).astype(np.int64)
        rows = values.to_numpy(zero_copy_only=False).astype(np.int64)
        wrong = (rows < 0) | (rows >= self.n)
        if wrong.any():
            at = int(np.argmax(wrong))
            says = f"{values[at].as_py()} is no row of {self.name} (0 … {self.n - 1:,})"
            raise DataError(f"{source.place(at)}: {says}")
        return rows

    def rows_with_ids(self, values: pa.Array, source: Source) -> NDArray[np.int64]:
        """The row in the frame of each id, in the order of `values`."""
        if self.ids is None:
            raise DataError(
                f"{source.name}: lists ids, but no input has ids",
                "name the id column with --id-column, or list row numbers",
            )
        self._check_type(values, source)
        at = pc.index_in(values, value_set=self.ids)
        if at.null_count:
            row = first_null(at)
            raise DataError(f"{source.place(row)}: {self.name} has no id {values[row].as_py()!r}")
        return at.to_numpy().astype(np.int64)
