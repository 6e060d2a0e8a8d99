"""Fields whose values are read as something else than the file stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.arrow_types import one_array
from d2cli.files.formats.fields import Field


class ConvertedField(Field):
    """The rows of another field; the subclass converts each block."""

    def __init__(self, stored: Field, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(stored.path, stored.name, shape, np.dtype(dtype))
        self.stored, self.exact = stored, stored.exact
        self.width_shows_late, self.axes_of_row = stored.width_shows_late, stored.axes_of_row
        self.from_table, self.notices = stored.from_table, stored.notices

    @property
    def type_name(self) -> str:
        return self.stored.type_name

    def width(self) -> int:
        return self.stored.width()

    def header_width(self) -> int:
        return self.stored.header_width()

    def buffer_bytes(self, by_rows: bool) -> int:
        return self.stored.buffer_bytes(by_rows)


class WholeNumbers(ConvertedField):
    """Floats that are whole numbers, such as labels that pandas has stored beside nulls."""

    def __init__(self, stored: Field) -> None:
        super().__init__(stored, stored.shape, np.int64)

    def blocks(self) -> Iterator[NDArray[Any]]:
        return (piece.to_numpy(zero_copy_only=False) for piece in self.arrays())

    def arrays(self) -> Iterator[pa.Array]:
        """Integers; NaN and null are null."""
        start = 0
        for piece in self.stored.arrays():
            values = piece.to_numpy(zero_copy_only=False).astype(np.float64)
            missing = np.isnan(values)
            wrong = ~missing & ~((values == np.floor(values)) & (np.abs(values) < 2.0**63))
            if wrong.any():
                row = int(np.argmax(wrong))
                says = f"{self.where}: row {start + row} is {values[row]:g}"
                raise DataError(f"{says}: labels must be text or whole numbers")
            whole = np.where(missing, 0, values).astype(np.int64)
            yield pa.array(whole, mask=missing)
            start += len(values)

    def column(self, nulls: bool = False) -> pa.Array:
        return one_array(self.arrays(), self.where, pa.int64(), nulls)
