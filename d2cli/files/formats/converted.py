"""Fields whose values are read as something else than the file stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import DataError, UsageError
from d2cli.files.formats.arrow_types import one_array
from d2cli.files.formats.extras import needed
from d2cli.files.formats.fields import BLOCK_BYTES, Field
from d2cli.files.formats.numpy_files import npy_fields
from d2cli.files.regular import check_regular

#: What NumPy stores for bfloat16 of ml_dtypes: two bytes without a type.
BFLOAT16 = np.dtype("V2")
#: Steps between the smallest and the largest value of an 8-bit quantisation.
_STEPS = 255


@dataclass(frozen=True)
class Reading:
    """How embeddings are to be read.

    Attributes:
        bits: whether each byte holds 8 values of one bit, as ``numpy.packbits`` packs them.
        scale: a number, or a ``.npy`` file with one number per dimension, (d,), or with the lowest
            and the highest value of each dimension, (2, d), as sentence-transformers quantises.
    """

    bits: bool = False
    scale: str | None = None

    def __post_init__(self) -> None:
        if self.bits and self.scale is not None:
            raise UsageError("--emb-bits and --emb-scale exclude each other")

    @property
    def scale_file(self) -> Path | None:
        """The file of the scale, if it is not a number."""
        return None if self.scale is None or self._number is not None else Path(self.scale)

    @property
    def _number(self) -> float | None:
        try:
            return float(self.scale or "")
        except ValueError:
            return None

    @cached_property
    def factors(self) -> NDArray[np.float64]:
        """The scale: (), (d,) or (2, d).

        Raises:
            UsageError: for a number that is 0 or not finite.
            DataError: for a file that holds something else.
        """
        if (path := self.scale_file) is None:
            number = np.float64(self._number or 0.0)
            if not (np.isfinite(number) and number):
                raise UsageError(f"--emb-scale must be a number other than 0, not {self.scale}")
            return np.asarray(number)
        check_regular(path)
        stored = npy_fields(path)[0]
        fits = stored.dtype.kind == "f" and stored.shape and stored.shape[:-1] in ((), (2,))
        if not fits:
            says = f"{stored.dtype} {stored.shape}"
            raise DataError(f"{path}: a scale must be floats, (d,) or (2, d), not {says}")
        values = np.array(stored.mapped(), np.float64)
        if not np.isfinite(values).all():
            raise DataError(f"{path}: a scale must be finite")
        if values.ndim == 1 and not values.all():
            raise DataError(f"{path}: column {int(np.argmin(values != 0))} of the scale is 0")
        return values

    @property
    def recorded(self) -> dict[str, Any]:
        """For provenance: what differs from the values as they are stored."""
        if self.bits:
            return {"bits": True}
        if self.scale is None:
            return {}
        content = hashlib.blake2b(self.factors.tobytes(), digest_size=16)
        return {"scale": self.scale, "scale_fingerprint": content.hexdigest()}


#: The values as they are stored.
AS_STORED = Reading()


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
        return self.stored.buffer_bytes(True) + 3 * BLOCK_BYTES

    def _convert(self, block: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def blocks(self) -> Iterator[NDArray[Any]]:
        for block in self.stored.blocks():
            for start, stop in self.spans(len(block), self.width() if block.ndim > 1 else 1):
                yield self._convert(block[start:stop])

    def layers(self, wanted: range) -> Iterator[tuple[int, int, NDArray[Any]]]:
        for layer, start, block in self.stored.layers(wanted):
            yield layer, start, self._convert(block)


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


class BFloat16(ConvertedField):
    """Numbers of the type bfloat16, read as float32."""

    def __init__(self, stored: Field) -> None:
        super().__init__(stored, stored.shape, np.float32)
        if not stored.declared:
            says = "values of two bytes without a type are read as bfloat16"
            self.notices = (*self.notices, f"{self.where}: {says}")
        self._type = needed("ml_dtypes", "bfloat16", self.where).bfloat16

    def _convert(self, block: NDArray[Any]) -> NDArray[Any]:
        return block.view(self._type).astype(np.float32)


class UnpackedBits(ConvertedField):
    """The bits of 8-bit integers, 0 or 1, as float32; 8 columns for each stored column.

    int8 is what sentence-transformers calls ``binary``: the packed bytes minus 128.
    """

    def __init__(self, stored: Field) -> None:
        if stored.stored_dtype not in (np.uint8, np.int8) or stored.axes_of_row > 1:
            says = f"{stored.where}: --emb-bits unpacks lists of uint8 or int8, not "
            raise DataError(says + stored.type_name)
        super().__init__(stored, (stored.n, 8 * stored.shape[1]), np.float32)

    def width(self) -> int:
        return 8 * self.stored.width()

    def header_width(self) -> int:
        return 8 * self.stored.header_width()

    def _convert(self, block: NDArray[Any]) -> NDArray[Any]:
        null = np.isnan(block).any(axis=1) if block.dtype.kind == "f" else None
        if null is not None:  # a table had nulls
            block = np.where(null[:, None], 0, block)
        signed = self.stored.stored_dtype == np.int8
        packed = (block.astype(np.int16) + 128 * signed).astype(np.uint8)
        bits = np.unpackbits(packed, axis=1).astype(np.float32)
        if null is not None:
            bits[null] = np.nan
        return bits


class Scaled(ConvertedField):
    """Quantised integers as floats: times the scale, or in the range of each dimension.

    sentence-transformers stores ``(x - min) / step``, with step = (max - min) / 255, as uint8, and
    that minus 128 as int8.
    """

    def __init__(self, stored: Field, reading: Reading) -> None:
        kind, factors = stored.stored_dtype, reading.factors
        if kind.kind not in "iu":
            says = f"{stored.where}: --emb-scale scales integers, not {stored.type_name}"
            raise DataError(says)
        super().__init__(stored, stored.shape, np.result_type(np.float32, stored.dtype))
        self._origin = str(reading.scale_file or "--emb-scale")
        self._factors: NDArray[np.float64] = factors
        self._offsets: NDArray[np.float64] | float = 0.0
        if factors.ndim == 2:
            if kind not in (np.uint8, np.int8):
                says = f"{stored.where}: a range per dimension scales uint8 or int8, not {kind}"
                raise DataError(says)
            lowest, highest = factors
            self._factors = (highest - lowest) / _STEPS
            self._offsets = lowest + (128 * self._factors if kind == np.int8 else 0.0)
        if not stored.width_shows_late:
            self._check_width(stored.width())

    def _check_width(self, width: int) -> None:
        if self._factors.ndim and self._factors.size != width:
            says = f"has {self._factors.size} columns, {self.where} has {width}"
            raise DataError(f"{self._origin}: {says}")

    def _convert(self, block: NDArray[Any]) -> NDArray[Any]:
        self._check_width(block.shape[1])
        return (block * self._factors + self._offsets).astype(self.dtype)


def read_as(field: Field, reading: Reading) -> Field:
    """A field of embeddings, read as the user says; else integers as numbers, with a notice.

    Raises:
        DataError: if the field cannot be read so, or its integers may be bits of floats.
    """
    if reading.bits:
        return UnpackedBits(field)
    if reading.scale is not None:
        return Scaled(field, reading)
    kind = field.stored_dtype
    if kind == np.uint16:
        raise DataError(
            f"{field.where}: uint16 may be the bits of bfloat16 or of float16", uint16_hint("emb")
        )
    if kind.kind in "iu" and (kind == field.dtype or field.integers) and not field.text_numbers:
        says = f"{field.where}: {kind} values are read as numbers"
        if kind.itemsize == 1:
            says += "; packed bits need --emb-bits, and quantised values may need --emb-scale"
        field.notices = (*field.notices, says)
    return field


def uint16_hint(option: str) -> str:
    """How to say what uint16 values are."""
    return (
        "say what they are: array.view(ml_dtypes.bfloat16).astype('float32') if they are bits of "
        "bfloat16, array.view('float16') if of float16, array.astype('float32') if numbers; save "
        f"that as {option}.npy"
    )
