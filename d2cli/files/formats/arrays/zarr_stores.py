"""zarr through its own package: a folder or a zip archive that holds an array or a group."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.arrays.chunked import ChunkedField, refuse_unwritten
from d2cli.files.formats.extras import needed
from d2cli.files.formats.fields import Field
from d2cli.files.regular import reason_of

#: Files of a store that describe an array or a group: of version 3, and of version 2.
STORE_NAMES = ("zarr.json", ".zarray", ".zgroup")
#: The most chunks that stand for all of them in the provenance.
_SAMPLED_CHUNKS = 100


def is_store(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return any((path / name).is_file() for name in STORE_NAMES)


def zarr_fields(path: Path) -> list[Field]:
    """The arrays of a store; one in a group is called ``group/array``. Reads metadata only.

    Raises:
        DataError: if the package is missing, or the store cannot be read or holds no arrays.
    """
    with _opened(path) as root:
        found = list(_arrays(root, ""))
        fields: list[Field] = [_field(path, name, array) for name, array in found if array.shape]
    if not fields:
        raise DataError(f"{path}: the zarr store holds no arrays of rows")
    return fields


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The array or group at the root of a store."""
    zarr = needed("zarr", "zarr", path)
    archive = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions and codecs that are still drafts
            if path.is_file():
                archive = zarr.storage.ZipStore(os.fspath(path), mode="r")
            yield zarr.open(archive or os.fspath(path), mode="r")
    except DataError:
        raise
    except Exception as error:  # stores, codecs and JSON raise almost anything
        raise DataError(f"{path}: cannot be read as zarr ({reason_of(error)})") from None
    finally:
        if archive is not None:
            archive.close()


def _arrays(found: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(found, "shape"):
        yield name, found
        return
    inside = [*found.arrays(), *found.groups()]
    for key, one in sorted(inside, key=lambda item: item[0]):
        yield from _arrays(one, f"{name}/{key}" if name else key)


def _field(path: Path, name: str, array: Any) -> Field:
    dtype = np.dtype(array.dtype)
    dtype = np.dtype("U") if dtype.kind in "TUS" else dtype
    chunks = getattr(array, "shards", None) or array.chunks
    field = _ArrayField(path, name, tuple(array.shape), dtype, tuple(chunks))
    written, whole = array.nchunks_initialized, array.nchunks
    if math.prod(array.shape) and not written:
        refuse_unwritten(field)
    elif written < whole:
        says = f"{whole - written:,} of {whole:,} chunks are absent and read as {array.fill_value}"
        field.notices = (f"{field.where}: {says}",)
    return field


class _ArrayField(ChunkedField):
    """An array that zarr reads."""

    @property
    def files(self) -> list[Path]:
        """The metadata, and some of the chunks, evenly spaced."""
        everything = _files(self.path)
        chunks = [path for path in everything if not path.name.startswith((".z", "zarr.json"))]
        step = max(1, -(-len(chunks) // _SAMPLED_CHUNKS))
        return sorted(set(everything) - set(chunks)) + chunks[::step]

    @property
    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in _files(self.path))

    def parts(self, places: Iterator[tuple[Any, ...]]) -> Iterator[NDArray[Any]]:
        with _opened(self.path) as root:
            array = root[self.name] if self.name else root
            for place in places:
                values = np.asarray(array[place])
                yield values.astype(object) if self.is_text else values


def _files(path: Path) -> list[Path]:
    """The files of a store, sorted."""
    if path.is_file():
        return [path]
    return sorted(one for one in path.rglob("*") if one.is_file())
