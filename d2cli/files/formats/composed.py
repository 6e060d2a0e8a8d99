"""Fields that no file holds as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import Field


class ConstantField(Field):
    """The value that a folder ``name=value`` gives to the n rows of a file in it; None is null."""

    def __init__(self, path: Path, name: str, n: int, value: int | str | None) -> None:
        dtype = np.dtype(np.int64) if isinstance(value, int) else np.dtype("U")
        super().__init__(path, name, (n,), dtype)
        self.value = value
        if value is None:
            says = "is null: the folder is __HIVE_DEFAULT_PARTITION__"
            self.refusal = DataError(f"{self.where} {says}", "leave this folder out with a glob")

    def blocks(self) -> Iterator[NDArray[Any]]:
        for start, stop in self.spans(self.n, 1):
            yield np.full(stop - start, self.value)
