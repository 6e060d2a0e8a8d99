"""HDF5 through h5py: contiguous datasets are memory-mapped, others are read in chunks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.arrays.chunked import ChunkedField, refuse_unwritten
from d2cli.files.formats.extras import needed
from d2cli.files.formats.fields import Field, MappedField
from d2cli.files.regular import reason_of


def hdf5_fields(path: Path) -> list[Field]:
    """The datasets of a file; one in a group is called ``group/dataset``. Reads headers only.

    Raises:
        DataError: if the package is missing, or the file cannot be read or holds no datasets.
    """
    h5py = needed("h5py", "hdf5", path)
    fields: list[Field] = []

    def visit(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset) and found.shape:
            fields.append(_field(h5py, path, name, found))

    with _errors(path), h5py.File(os.fsencode(path), "r") as file:
        file.visititems(visit)
    if not fields:
        raise DataError(f"{path}: the HDF5 file holds no datasets of rows")
    return fields


@contextmanager
def _errors(where: object) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise DataError(f"{where}: cannot be read as HDF5 ({reason_of(error)})") from None


def _field(h5py: Any, path: Path, name: str, dataset: Any) -> Field:
    dtype, shape = dataset.dtype, tuple(dataset.shape)
    text = h5py.check_string_dtype(dtype) is not None
    if dtype.kind in "fiub":
        size = math.prod(shape) * dtype.itemsize
        simple = dataset.chunks is None and not dataset.external and not dataset.is_virtual
        offset = dataset.id.get_offset() if simple and not dataset.file.userblock_size else None
        if offset is not None and offset + size <= path.stat().st_size:
            return MappedField(path, name, shape, dtype, offset)
    elif not text:
        dtype = np.dtype(object)
    chunks = dataset.chunks or (1,) * len(shape)
    field = _DatasetField(path, name, shape, np.dtype("U") if text else dtype, chunks)
    if dtype.kind == "O" and not text:
        field.described = str(dataset.dtype)
    if math.prod(shape) and dataset.is_virtual:
        sources = {path.parent / one.file_name for one in dataset.virtual_sources()}
        for source in sorted(one for one in sources if one.name != "." and not one.exists()):
            says = f"is made of other files, and {source} is not there"
            field.refusal = DataError(f"{field.where}: {says}")
    elif math.prod(shape) and not dataset.id.get_storage_size() and not dataset.external:
        refuse_unwritten(field)
    return field


class _DatasetField(ChunkedField):
    """A dataset that h5py reads."""

    described = ""

    @property
    def type_name(self) -> str:
        return self.described or super().type_name

    def parts(self, places: Iterator[tuple[Any, ...]]) -> Iterator[NDArray[Any]]:
        h5py = needed("h5py", "hdf5", self.path)
        with _errors(self.where), h5py.File(os.fsencode(self.path), "r") as file:
            dataset = file[self.name].asstr() if self.is_text else file[self.name]
            for place in places:
                yield np.asarray(dataset[place])
