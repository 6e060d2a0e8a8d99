"""NumPy's own files: ``.npy``, memory-mapped, and ``.npz``, whose members are streamed."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.io.fields import BLOCK_BYTES, Field

#: The longest header that is read; NumPy's own limit for untrusted files.
_HEADER_MOST = 10_000
_SAVE_AGAIN = "save it again: numpy.save(path, numpy.asarray(values, dtype='float32'))"
_UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    OSError,
    EOFError,
)


def npy_fields(path: Path) -> list[Field]:
    """The one array of a ``.npy`` file, memory-mapped."""
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file, str(path))
        offset = file.tell()
    _check_size(path.stat().st_size - offset, shape, dtype, str(path))
    return [NpyField(path, shape, fortran, dtype, offset)]


def npz_fields(path: Path) -> list[Field]:
    """The arrays of a ``.npz`` file; only their headers are read here."""
    fields: list[Field] = []
    names: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                name = entry.filename[: -len(".npy")]
                where = f"{path}: {name}"
                with archive.open(entry) as member:
                    shape, fortran, dtype = _header(member, where)
                    header = member.tell()
                _check_size(entry.file_size - header, shape, dtype, where)
                fields.append(NpzField(path, name, shape, fortran, dtype, entry.filename))
    except _UNZIP_ERRORS as error:
        raise DataError(f"{path}: is not a readable .npz file ({error})") from None
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(
            f"{path}: is a PyTorch file, which is a pickle and not read",
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
            warnings.simplefilter("ignore")  # NumPy remarks on headers that Python 2 wrote
            version = npy_format.read_magic(file)
            if version == (1, 0):
                header = npy_format.read_array_header_1_0(file, max_header_size=_HEADER_MOST)
            elif version == (2, 0):
                header = npy_format.read_array_header_2_0(file, max_header_size=_HEADER_MOST)
            else:
                raise DataError(f"{where}: .npy version {version} is not known", _SAVE_AGAIN)
    except DataError:
        raise
    except Exception as error:  # NumPy lets through whatever a damaged header makes Python raise
        raise DataError(f"{where}: the .npy header cannot be read ({_brief(error)})") from None
    shape, fortran, dtype = header
    if any(length < 0 for length in shape):
        raise DataError(f"{where}: the header claims the shape {shape}")
    return shape, fortran, dtype


def _brief(error: Exception) -> str:
    """The first line of an error, without the whole header that NumPy repeats in it."""
    text = str(error).strip()
    return text.splitlines()[0].split(": ")[0].rstrip() if text else type(error).__name__


def _check_size(held: int, shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    if dtype.hasobject:  # pickled, of whatever size
        return
    claimed = math.prod(shape) * dtype.itemsize
    if held < claimed:
        raise DataError(
            f"{where}: is cut off: the header claims {claimed:,} bytes of data and {held:,} are "
            "there",
            "make or copy the file again",
        )


class _ArrayField(Field):
    """An array as NumPy wrote it."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        super().__init__(path, name, shape, dtype)
        if dtype.hasobject:
            self.refusal = DataError(
                f"{self.where}: holds pickled Python objects (dtype object), which are not read",
                _SAVE_AGAIN,
            )


class NpyField(_ArrayField):
    """The array of a ``.npy`` file."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], fortran: bool, dtype: np.dtype, offset: int
    ) -> None:
        super().__init__(path, "", shape, dtype)
        self._order, self._offset = "F" if fortran else "C", offset

    def mapped(self) -> NDArray[Any] | None:
        """The array as it lies in the file, nothing read."""
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


class NpzField(_ArrayField):
    """One member of a ``.npz`` file, unpacked as it is read."""

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

    def blocks(self) -> Iterator[NDArray[Any]]:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._entry) as member:
                _header(member, self.where)
                if self._fortran and len(self.shape) > 1:  # columns first: nothing to stream
                    whole = self._take(member, math.prod(self.shape))
                    yield whole.reshape(self.shape, order="F")
                    return
                width = math.prod(self.shape[1:])
                for start, stop in self.spans():
                    rows = self._take(member, (stop - start) * width)
                    yield rows.reshape(stop - start, *self.shape[1:])
        except _UNZIP_ERRORS as error:
            raise DataError(f"{self.where}: cannot be unpacked ({error})") from None

    def _take(self, member: IO[bytes], count: int) -> NDArray[Any]:
        buffer = bytearray(count * self.dtype.itemsize)
        view, got = memoryview(buffer), 0
        while got < len(buffer):
            piece = member.read(min(len(buffer) - got, BLOCK_BYTES))
            if not piece:
                raise DataError(f"{self.where}: is cut off")
            view[got : got + len(piece)] = piece
            got += len(piece)
        return np.frombuffer(buffer, self.dtype)
