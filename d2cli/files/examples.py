"""Images and texts of a few rows; only the rows that are shown are decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import SKIMMED_BYTES, Field
from d2cli.files.formats.recognise import sniff
from d2cli.files.formats.tables import ColumnField
from d2cli.files.locate.paths import expand
from d2cli.files.sources import Source, open_source

T = TypeVar("T")

#: The number of lines, or rows of a table, that are read at a time.
_BATCH = 1 << 16


class LinesField(Field):
    """A plain text file: each line is one text; commas and quotes have no meaning.

    Opening counts the lines; if `skim` is true, it estimates them from the beginning of the file.
    """

    def __init__(self, path: Path, skim: bool = False) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            if skim and size > SKIMMED_BYTES:
                self.exact = False
                n = round(file.read(SKIMMED_BYTES).count(b"\n") * size / SKIMMED_BYTES)
            else:
                n = sum(1 for _ in file)
        super().__init__(path, "", (n,), np.dtype("U"))

    def buffer_bytes(self, by_rows: bool) -> int:
        return SKIMMED_BYTES

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The lines as bytes; :func:`texts_at` decodes those that are shown."""
        with self.path.open("rb") as file:
            while lines := list(islice(file, _BATCH)):
                yield np.array([line.rstrip(b"\r\n") for line in lines], object)


def open_texts(
    paths: list[str], key: str | None, id_column: str | None, *, skim: bool = False
) -> Source:
    """One text per row: the lines of ``.txt`` files, or a text column of other files."""
    files = expand(paths, "texts")
    lines = all(file.suffix.lower() == ".txt" and sniff(file) == "csv" for file in files)
    if key is None and lines:
        files = expand(paths, "texts", one_set=True)
        return Source("texts", "texts", [LinesField(path, skim) for path in files])
    return open_source(paths, "texts", "texts", key, id_column, skim=skim)


def open_images(
    paths: list[str], key: str | None, id_column: str | None, *, skim: bool = False
) -> Source:
    """One image per row: (n, height, width) grey or (n, height, width, 3) colour."""
    source = open_source(paths, "images", "images", key, id_column, skim=skim)
    for part in source.parts:
        if len(part.shape) == 4 and part.shape[3] not in (1, 3):
            hint = "the channels must be the last axis: images.transpose(0, 2, 3, 1)"
            says = f"{part.where}: images must have 1 or 3 channels: {part.shape}"
            raise DataError(says, hint if part.shape[1] in (1, 3) else None)
        if 0 in part.shape:
            raise DataError(f"{part.where}: images have no pixels: {part.shape}")
    return source


def texts_at(source: Source, rows: NDArray[np.int64]) -> list[str | None]:
    """The texts of some rows of the source, in the order of `rows`; None for a null."""
    return _converted(source, rows, _text)


def images_at(source: Source, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """The images of some rows of the source, in the order of `rows`: (height, width[, 3]) uint8.

    Pixels that are neither integers 0 … 255 nor floats 0 … 1 are refused (DataError).
    """
    return _converted(source, rows, _pixels)


def _converted(
    source: Source, rows: NDArray[np.int64], convert: Callable[[Any, str], T]
) -> list[T]:
    """The result of `convert` for the value of each row and its place in words."""
    found: dict[int, T] = {}
    first = 0
    for part in source.parts:
        wanted = np.unique(rows[(rows >= first) & (rows < first + part.n)]) - first
        for start, values in _blocks(part) if wanted.size else ():
            for row in wanted[(wanted >= start) & (wanted < start + len(values))].tolist():
                value = values[row - start]
                value = value.as_py() if isinstance(value, pa.Scalar) else value
                found[first + row] = convert(value, f"{part.where}: row {row}")
        first += part.n
    return [found[row] for row in rows.tolist()]


def _blocks(part: Field) -> Iterator[tuple[int, Any]]:
    """(first row, values) in order: Arrow's own for a column, one map for a file that has one."""
    if isinstance(part, ColumnField):
        return part.pieces_of_arrow(_BATCH)
    mapped = part.mapped()
    return part.numbered_blocks() if mapped is None else iter([(0, mapped)])


def _text(value: Any, where: str) -> str | None:
    try:
        value = value.decode("utf-8") if isinstance(value, bytes) else value
        return None if value is None else str(value)
    except UnicodeDecodeError:
        raise DataError(f"{where}: is not UTF-8 text") from None


def _pixels(image: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype == np.uint8:
        return np.array(image)
    top = 1.0 if image.dtype.kind in "fb" else 255
    if not ((image >= 0) & (image <= top)).all():  # refuses NaN too
        raise DataError(f"{where}: pixels must be integers 0 … 255 or floats 0 … 1")
    if image.dtype.kind in "fb":
        return np.rint(image.astype(np.float64) * 255).astype(np.uint8)
    return image.astype(np.uint8)
