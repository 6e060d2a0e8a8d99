"""Which row of one input belongs to which of another: by id where both have ids, else by row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.errors import DataError, UsageError
from d2cli.files.choice import ID_NAMES, NO_IDS
from d2cli.files.sources import Reordered, Source, open_source


class Frame:
    """The rows of a run: how many, after which input they are ordered, and their ids.

    Attributes:
        n: how many rows.
        name: the input that says so, for messages.
        ids: (n,) their ids, from the first input that brings some, or None.
        could_have_ids: whether the input has columns, so that a missing id deserves a word.
        notices: what was noticed while joining.
    """

    def __init__(
        self, n: int, name: str, ids: pa.Array | None = None, could_have_ids: bool = False
    ) -> None:
        self.n, self.name, self.ids = n, name, ids
        self.could_have_ids = could_have_ids
        self.notices: list[str] = []

    @classmethod
    def of(cls, source: Source) -> Frame:
        """The rows of an input, in its order."""
        return cls(source.n, source.name, source.ids(), source.has_columns)

    def check_id_column(self, id_column: str | None) -> None:
        """Refuse, once all inputs are joined, a name of ids that none of them has.

        Raises:
            UsageError: since the inputs would silently be joined by row.
        """
        if id_column not in (None, NO_IDS) and self.ids is None:
            raise UsageError(f"--id-column {id_column}: no input has a column of this name")

    def rows_of(self, source: Source) -> NDArray[np.int64] | None:
        """For each row of the frame its row in `source`; None where they are the same.

        Raises:
            DataError: if the inputs do not belong together.
        """
        theirs = source.ids()
        if self.ids is None or theirs is None:
            if source.n != self.n:
                raise DataError(
                    f"{source.name}: has {source.n:,} rows, {self.name} has {self.n:,}",
                    "without ids in both, inputs are joined row by row",
                )
            self._note_one_sided_ids(source, theirs)
            self.ids = theirs if self.ids is None else self.ids
            return None
        if self.ids.type != theirs.type:
            raise DataError(
                f"{source.name}: ids are {theirs.type}, those of {self.name} are {self.ids.type}"
            )
        if self.ids.equals(theirs):
            return None
        at = pc.index_in(self.ids, value_set=theirs)
        if at.null_count:
            row = int(np.argmax(at.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(
                f"{source.name}: has no id {self.ids[row].as_py()!r} (row {row} of {self.name}, "
                f"one of {at.null_count:,} that are missing)"
            )
        if source.n > self.n:
            self.notices.append(
                f"{source.name}: {source.n - self.n:,} of {source.n:,} ids are not in {self.name} "
                "and were not used"
            )
        return at.to_numpy().astype(np.int64)

    def _note_one_sided_ids(self, source: Source, theirs: pa.Array | None) -> None:
        """Two tables of which only one has ids may well be in different orders."""
        if self.could_have_ids and source.has_columns and (self.ids is None) != (theirs is None):
            lacking = self.name if self.ids is None else source.name
            self.notices.append(
                f"{lacking}: has no ids under the name in use, so {source.name} is joined to "
                f"{self.name} row by row"
            )

    def vector(self, source: Source) -> tuple[NDArray[np.float64], Source | Reordered]:
        """The numbers of `source` in the order of the frame, (n,), and where each came from."""
        rows = self.rows_of(source)
        values = source.vector()
        return (values, source) if rows is None else (values[rows], Reordered(source, rows))

    def labels(self, source: Source) -> NDArray[np.int64]:
        """Class numbers 0 … C-1 in the order of the frame; classes count in sorted order."""
        return self.classes(source)[0]

    def classes(self, source: Source) -> tuple[NDArray[np.int64], list[str]]:
        """Class numbers as in :meth:`labels`, and the name of each class."""
        rows = self.rows_of(source)
        coded = source.column().dictionary_encode()
        names = coded.dictionary.to_numpy(zero_copy_only=False)
        order = np.argsort(names, kind="stable")
        place = np.empty(order.size, np.int64)
        place[order] = np.arange(order.size)
        codes = place[coded.indices.to_numpy()]
        return codes if rows is None else codes[rows], [str(name) for name in names[order]]

    def mask(self, arguments: list[str], option: str, id_column: str | None) -> NDArray[np.bool_]:
        """The rows that files name: (n,) bool.

        Booleans are a mask; integers are row numbers; text is ids. Of a table that has both ids
        and row numbers, the ids count if the frame has ids too.
        """
        mask = np.zeros(self.n, np.bool_)
        id_column = id_column if self.ids is not None else NO_IDS
        for argument in arguments:
            source = open_source([argument], "rows", option, None, id_column)
            part = source.parts[0]
            by_id = bool(source.id_parts) or part.is_text or part.name in ID_NAMES
            if by_id:
                values = source.id_values() if source.id_parts else source.column()
                mask[self.rows_with_ids(values, source)] = True
                continue
            values = source.column()
            if pa.types.is_boolean(values.type):
                if len(values) != self.n:
                    raise DataError(
                        f"{source.name}: the mask has {len(values):,} values, {self.name} has "
                        f"{self.n:,} rows"
                    )
                mask |= values.to_numpy(zero_copy_only=False)
            else:
                mask[self.row_numbers(values, source)] = True
        return mask

    def rows_with_ids(self, values: pa.Array, source: Source) -> NDArray[np.int64]:
        """The rows of the frame that have these ids, in the order of the ids."""
        if self.ids is None:
            raise DataError(
                f"{source.name}: names rows by id, but no input has ids",
                "name the ids with --id-column, or give row numbers",
            )
        if values.type != self.ids.type:
            raise DataError(
                f"{source.name}: ids are {values.type}, those of {self.name} are {self.ids.type}"
            )
        at = pc.index_in(values, value_set=self.ids)
        if at.null_count:
            row = int(np.argmax(at.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{source.place(row)}: {self.name} has no id {values[row].as_py()!r}")
        return at.to_numpy().astype(np.int64)

    def row_numbers(self, values: pa.Array, source: Source) -> NDArray[np.int64]:
        """Integers as rows of the frame, refused where they are none."""
        rows = values.to_numpy(zero_copy_only=False).astype(np.int64)
        wrong = (rows < 0) | (rows >= self.n)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError(
                f"{source.place(at)}: {values[at].as_py()} is no row of {self.name} "
                f"(0 … {self.n - 1:,})"
            )
        return rows
