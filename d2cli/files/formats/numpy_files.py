"""NumPy files: ``.npy`` is memory-mapped; the members of ``.npz`` are streamed."""

from __future__ import annotations

import gzip
import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import BLOCK_BYTES, Field, MappedField
from d2cli.runtime.memory import allocate

#: The longest header that is read, in bytes: NumPy's own limit for untrusted files.
_HEADER_MOST = 10_000
_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
#: The highest compression ratio, by method; that of deflate is from zlib's documentation.
_RATIOS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
_SAVE_AGAIN = "save it again: numpy.save(path, numpy.asarray(values, dtype='float32'))"
_COPY_AGAIN = "make or copy the file again"
_UNZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, RuntimeError,
    OSError, EOFError,
    ValueError,  # a member name that is not UTF-8
    MemoryError,  # a damaged lzma header can ask for a window of any size
)  # fmt: skip


class Header(NamedTuple):
    """A ``.npy`` header, and the offset of the data behind it."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the data; 0 for pickled data, whose size is not known."""
        return 0 if self.dtype.hasobject else math.prod(self.shape) * self.dtype.itemsize


def npy_fields(path: Path) -> list[Field]:
    """The one array of a ``.npy`` file, memory-mapped."""
    with path.open("rb") as file:
        header = _header(file, path.stat().st_size, str(path))
    return [NpyField(path, "", header)]


def npz_fields(path: Path) -> list[Field]:
    """The arrays of a ``.npz`` file; reads their headers only."""
    fields: list[Field] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise DataError(f"{path}: contains {twice[0]} more than once")
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name != entry.filename:
                    with archive.open(entry) as member:
                        header = _header(member, entry.file_size, f"{path}: {name}", entry)
                    fields.append(NpzField(path, name, header))
    except _UNZIP_ERRORS as error:
        raise DataError(f"{path}: is not a readable .npz file ({error})") from None
    if not fields:
        raise DataError(f"{path}: the .npz file holds no arrays")
    return fields


def npy_gz_fields(path: Path) -> list[Field]:
    """The one array of a gzip'd ``.npy`` file; reads its header only."""
    try:
        with gzip.open(path) as file:
            header = _header(file, None, str(path))
    except _UNZIP_ERRORS as error:
        raise DataError(f"{path}: cannot be unpacked ({error})") from None
    return [NpyGzField(path, "", header)]


def _header(
    file: Any, size: int | None, where: str, entry: zipfile.ZipInfo | None = None
) -> Header:
    """The header of a ``.npy`` file or of a member of a ``.npz``, checked.

    `size` is the bytes of the file; None: not known.
    """

    def read(count: int) -> bytes:
        if count > _HEADER_MOST:  # NumPy would read it before it checks anything
            raise DataError(f"{where}: claims a .npy header of {count:,} bytes", _SAVE_AGAIN)
        return file.read(count)

    source: Any = SimpleNamespace(read=read)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about headers written by Python 2
            version = npy_format.read_magic(source)
            if version not in _READERS:
                raise DataError(f"{where}: .npy version {version} is not supported", _SAVE_AGAIN)
            found = _READERS[version](source, max_header_size=_HEADER_MOST)
    except DataError:
        raise
    except Exception as error:  # a damaged header can raise almost any exception in NumPy
        # NumPy appends the header to its message.
        reason = str(error).strip().partition("\n")[0].partition(": ")[0].rstrip()
        reason = reason or type(error).__name__
        raise DataError(f"{where}: the .npy header cannot be read ({reason})") from None
    header = Header(*found, file.tell())
    if not all(type(length) is int and 0 <= length < 2**63 for length in header.shape):
        raise DataError(f"{where}: the header claims the shape {header.shape}")
    if not header.dtype.itemsize:  # an empty file could claim any number of them
        raise DataError(f"{where}: its values have 0 bytes each ({header.dtype})", _SAVE_AGAIN)
    if size is None:
        return header
    if entry and size > _RATIOS.get(entry.compress_type, math.inf) * entry.compress_size:
        says = f"claims to unpack {entry.compress_size:,} bytes to {size:,}, which is impossible"
        raise DataError(f"{where}: {says}", _COPY_AGAIN)
    held = size - header.offset
    if held < header.size:
        says = f"the header claims {header.size:,} bytes of data, and the file has {held:,}"
        raise DataError(f"{where}: is cut off: {says}", _COPY_AGAIN)
    if entry and held > header.size and not header.dtype.hasobject:
        # zipfile verifies the checksum only of a member that is read to its end.
        raise DataError(f"{where}: holds {held:,} bytes, more than its header claims")
    return header


class NpyField(MappedField):
    """The array of a ``.npy`` file."""

    def __init__(self, path: Path, name: str, header: Header) -> None:
        super().__init__(path, name, header.shape, header.dtype, header.offset, header.fortran)
        self.refusal = _pickled(self)


def _pickled(field: Field) -> DataError | None:
    """Why a field of Python objects is not read."""
    if not field.dtype.hasobject:
        return None
    says = "holds pickled Python objects (dtype object), which are not read"
    return DataError(f"{field.where}: {says}", _SAVE_AGAIN)


class NpzField(Field):
    """One member of a ``.npz`` file, unpacked while it is read."""

    def __init__(self, path: Path, name: str, header: Header) -> None:
        super().__init__(path, name, header.shape, header.dtype)
        self._header = header
        self.refusal = _pickled(self)

    def buffer_bytes(self, by_rows: bool) -> int:
        return BLOCK_BYTES

    def blocks(self) -> Iterator[NDArray[Any]]:
        with self._data() as member:
            if self._header.fortran:  # column order cannot be streamed by rows
                yield self._take(member, self.shape[::-1]).T
                return
            for start, stop in self.spans(self.n, math.prod(self.shape[1:])):
                yield self._take(member, (stop - start, *self.shape[1:]))

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        if len(self.shape) == 2:
            yield from super().layers(wanted)
            return
        _, rows, width = self.shape
        with self._data() as member:
            whole = self._take(member, self.shape[::-1]).T if self._header.fortran else None
            for layer in range(wanted.stop):
                for start, stop in self.spans(rows, width):
                    if whole is None:
                        block = self._take(member, (stop - start, width))
                    else:
                        block = whole[layer, start:stop]
                    if layer in wanted:
                        yield layer, start, block

    @contextmanager
    def _data(self) -> Iterator[Any]:
        """The member, opened behind its header."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as member:
                member.read(self._header.offset)
                yield member
        except _UNZIP_ERRORS as error:
            raise DataError(f"{self.where}: cannot be unpacked ({error})") from None

    def _take(self, member: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """The next values, in C order."""
        values = allocate((math.prod(shape),), self.dtype, self.where)
        rest = memoryview(values.view(np.uint8).data)
        while rest and (got := member.readinto(rest[:BLOCK_BYTES])):
            rest = rest[got:]
        if rest:
            raise DataError(f"{self.where}: is cut off")
        return values.reshape(shape)


class NpyGzField(NpzField):
    """A gzip'd ``.npy`` file, unpacked while it is read."""

    @contextmanager
    def _data(self) -> Iterator[Any]:
        try:
            with gzip.open(self.path) as member:
                member.read(self._header.offset)
                yield member
                if member.read(1):  # also verifies the checksum
                    raise DataError(f"{self.where}: holds more bytes than its header claims")
        except _UNZIP_ERRORS as error:
            raise DataError(f"{self.where}: cannot be unpacked ({error})") from None
