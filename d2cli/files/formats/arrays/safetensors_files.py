"""safetensors: the package parses and checks the header; the values are memory-mapped."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from d2cli.errors import DataError
from d2cli.files.formats.extras import needed
from d2cli.files.formats.fields import Field, MappedField
from d2cli.files.regular import reason_of

#: NumPy's types by the names of the format. NumPy has no bfloat16.
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "V2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def safetensors_fields(path: Path) -> list[Field]:
    """The tensors of a file, by name.

    Raises:
        DataError: if the package is missing or the header is damaged.
    """
    package = needed("safetensors", "safetensors", path)
    try:
        with package.safe_open(os.fspath(path), framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.offset_keys()}
            about = {
                name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()
            }
    except Exception as error:  # the package has an exception class of its own
        says = f"is not a readable safetensors file ({reason_of(error)})"
        raise DataError(f"{path}: {says}") from None
    with path.open("rb") as file:
        at = 8 + int.from_bytes(file.read(8), "little")
    fields: list[Field] = []
    for name, (kind, shape) in about.items():  # in the order of the data, which have no gaps
        if kind not in _TYPES:
            raise DataError(f"{path}: {name}: values of the type {kind} are not read")
        dtype = np.dtype(_TYPES[kind])
        field = MappedField(path, name, shape, dtype, at)
        field.declared = kind == "BF16"
        fields.append(field)
        at += math.prod(shape) * dtype.itemsize
    if at != path.stat().st_size:
        says = f"its tensors end at byte {at:,} of {path.stat().st_size:,}"
        raise DataError(f"{path}: is not a readable safetensors file ({says})")
    if not fields:
        raise DataError(f"{path}: the safetensors file holds no tensors")
    return fields
