"""NumPy files: ``.npy`` is memory-mapped; the members of ``.npz`` are streamed."""

from __future__ import annotations

import io
import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import BLOCK_BYTES, Field
from d2cli.runtime.memory import allocate

#: The longest header that is read, in bytes: NumPy's own limit for untrusted files.
_HEADER_MOST = 10_000
#: The struct format of the header's length, by format version.
_LENGTHS = {(1, 0): "<H", (2, 0): "<I"}
_LONGEST = 2**63 - 1
#: The highest compression ratio of deflate, from zlib's documentation.
_DEFLATE_RATIO = 1032
_SAVE_AGAIN = "save it again: numpy.save(path, numpy.asarray(values, dtype='float32'))"
_UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,  # a member name that is not UTF-8
    MemoryError,  # a damaged lzma header can ask for a window of any size
)


def npy_fields(path: Path) -> list[Field]:
    """The one array of a ``.npy`` file, memory-mapped."""
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file, str(path))
        offset = file.tell()
    _check_size(path.stat().st_size - offset, shape, dtype, str(path))
    return [NpyField(path, shape, fortran, dtype, offset)]


def npz_fields(path: Path) -> list[Field]:
    """The arrays of a ``.npz`` file; reads their headers only."""
    fields: list[Field] = []
    names: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise DataError(f"{path}: contains {twice[0]} more than once")
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                name = entry.filename[: -len(".npy")]
                where = f"{path}: {name}"
                with archive.open(entry) as member:
                    shape, fortran, dtype = _header(member, where)
                    header = member.tell()
                _check_packed(entry, where)
                held = entry.file_size - header
                _check_size(held, shape, dtype, where)
                if not dtype.hasobject and held > math.prod(shape) * dtype.itemsize:
                    # zipfile verifies the checksum only of a member that is read to its end.
                    raise DataError(f"{where}: holds {held:,} bytes, more than its header claims")
                fields.append(NpzField(path, name, shape, fortran, dtype, entry.filename))
    except _UNZIP_ERRORS as error:
        raise DataError(f"{path}: is not a readable .npz file ({error})") from None
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(
            f"{path}: is a PyTorch file, which is a pickle; pickles are not read",
            f"in Python: import numpy, torch; d = torch.load({str(path)!r}); "
            "numpy.save('scores.npy', numpy.asarray(d['el2n']))",
        )
    if not fields:
        raise DataError(f"{path}: the .npz file holds no arrays")
    return fields


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype from a ``.npy`` header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about headers written by Python 2
            version = npy_format.read_magic(file)
            if version not in _LENGTHS:
                raise DataError(f"{where}: .npy version {version} is not supported", _SAVE_AGAIN)
            start = _header_bytes(file, _LENGTHS[version], where)
            if version == (1, 0):
                header = npy_format.read_array_header_1_0(start, max_header_size=_HEADER_MOST)
            else:
                header = npy_format.read_array_header_2_0(start, max_header_size=_HEADER_MOST)
    except DataError:
        raise
    except Exception as error:  # a damaged header can raise almost any exception in NumPy
        raise DataError(f"{where}: the .npy header cannot be read ({_brief(error)})") from None
    shape, fortran, dtype = header
    if not all(type(length) is int and 0 <= length <= _LONGEST for length in shape):
        raise DataError(f"{where}: the header claims the shape {shape}")
    if not dtype.itemsize:  # an empty file could claim any number of them
        raise DataError(f"{where}: its values have 0 bytes each ({dtype})", _SAVE_AGAIN)
    return shape, fortran, dtype


def _header_bytes(file: IO[bytes], form: str, where: str) -> IO[bytes]:
    """The header with its length in front.

    NumPy would read as many bytes as the length claims before it checks anything.
    """
    length = file.read(struct.calcsize(form))
    (claimed,) = struct.unpack(form, length)
    if claimed > _HEADER_MOST:
        raise DataError(f"{where}: claims a .npy header of {claimed:,} bytes", _SAVE_AGAIN)
    return io.BytesIO(length + file.read(claimed))


def _brief(error: Exception) -> str:
    """The first line of an error, without the header that NumPy appends to it."""
    text = str(error).strip()
    return text.splitlines()[0].split(": ")[0].rstrip() if text else type(error).__name__


def _check_size(held: int, shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    if dtype.hasobject:  # pickled: its size is not known
        return
    claimed = math.prod(shape) * dtype.itemsize
    if held < claimed:
        raise DataError(
            f"{where}: is cut off: the header claims {claimed:,} bytes of data, and the file has "
            f"{held:,}",
            "make or copy the file again",
        )


def _check_packed(entry: zipfile.ZipInfo, where: str) -> None:
    """Refuse a member that claims a size that its compressed bytes cannot hold."""
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _DEFLATE_RATIO}.get(entry.compress_type)
    if ratio is not None and entry.file_size > ratio * entry.compress_size:
        raise DataError(
            f"{where}: claims to unpack {entry.compress_size:,} bytes to {entry.file_size:,}, "
            "which is impossible",
            "make or copy the file again",
        )


class _ArrayField(Field):
    """An array in NumPy's own format."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        super().__init__(path, name, shape, dtype)
        if dtype.hasobject:
            self.refusal = DataError(
                f"{self.where}: holds pickled Python objects (dtype object), which are not read",
                _SAVE_AGAIN,
            )

    def layer_spans(self, wanted: range) -> Iterator[tuple[int, int, int]]:
        """(layer, start, stop) of blocks of rows, for every layer up to the last wanted one."""
        rows, width = self.shape[-2:]
        step = max(1, BLOCK_BYTES // max(1, self.dtype.itemsize * width))
        for layer in range(wanted.stop):
            for start in range(0, rows, step):
                yield layer, start, min(start + step, rows)


class NpyField(_ArrayField):
    """The array of a ``.npy`` file."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], fortran: bool, dtype: np.dtype, offset: int
    ) -> None:
        super().__init__(path, "", shape, dtype)
        #: Whether it is in C order and native byte order, so that kernels can use it directly.
        self.is_plain = not fortran and dtype.isnative
        self._order, self._offset = "F" if fortran else "C", offset

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the array on disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    def mapped(self) -> NDArray[Any] | None:
        """The array, memory-mapped; nothing is read."""
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        return np.memmap(
            self.path,
            self.dtype,
            "r",
            self._offset,
            self.shape,
            self._order,  # type: ignore[call-overload]
        )

    def blocks(self) -> Iterator[NDArray[Any]]:
        array = self.mapped()
        assert array is not None
        for start, stop in self.spans():
            yield array[start:stop]

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        # Each block has its own map, so that the pages of earlier blocks can leave memory.
        rows, width = self.shape[-2:]
        for layer, start, stop in self.layer_spans(wanted):
            if layer not in wanted:
                continue
            if self._order == "F":
                array = self.mapped()
                assert array is not None
                yield layer, start, (array if array.ndim == 2 else array[layer])[start:stop]
                continue
            offset = self._offset + (layer * rows + start) * width * self.dtype.itemsize
            yield layer, start, np.memmap(self.path, self.dtype, "r", offset, (stop - start, width))


class NpzField(_ArrayField):
    """One member of a ``.npz`` file, unpacked while it is read."""

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, ...],
        fortran: bool,
        dtype: np.dtype,
        entry: str,
    ) -> None:
        super().__init__(path, name, shape, dtype)
        self._fortran, self._entry = fortran, entry

    def buffer_bytes(self, by_rows: bool) -> int:
        return BLOCK_BYTES

    def blocks(self) -> Iterator[NDArray[Any]]:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._entry) as member:
                _header(member, self.where)
                if self._fortran and len(self.shape) > 1:  # column order cannot be streamed by rows
                    whole = self._take(member, math.prod(self.shape))
                    yield whole.reshape(self.shape, order="F")
                    return
                width = math.prod(self.shape[1:])
                for start, stop in self.spans():
                    rows = self._take(member, (stop - start) * width)
                    yield rows.reshape(stop - start, *self.shape[1:])
        except _UNZIP_ERRORS as error:
            raise DataError(f"{self.where}: cannot be unpacked ({error})") from None

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        if len(self.shape) == 2:
            yield from super().layers(wanted)
            return
        if self._fortran:
            whole = next(iter(self.blocks()))
            for layer, start, stop in self.layer_spans(wanted):
                if layer in wanted:
                    yield layer, start, whole[layer, start:stop]
            return
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._entry) as member:
                _header(member, self.where)
                for layer, start, stop in self.layer_spans(wanted):
                    rows = self._take(member, (stop - start) * self.shape[2])
                    if layer in wanted:
                        yield layer, start, rows.reshape(stop - start, self.shape[2])
        except _UNZIP_ERRORS as error:
            raise DataError(f"{self.where}: cannot be unpacked ({error})") from None

    def _take(self, member: IO[bytes], count: int) -> NDArray[Any]:
        values = allocate((count,), self.dtype, self.where)
        view, got = memoryview(values.view(np.uint8).data), 0
        while got < len(view):
            piece = member.read(min(len(view) - got, BLOCK_BYTES))
            if not piece:
                raise DataError(f"{self.where}: is cut off")
            view[got : got + len(piece)] = piece
            got += len(piece)
        return values
