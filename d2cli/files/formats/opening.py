"""Opening one file of any format: its fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from d2cli.files.formats.arrays.hdf5 import hdf5_fields
from d2cli.files.formats.arrays.raw_vectors import vector_fields
from d2cli.files.formats.arrays.safetensors_files import safetensors_fields
from d2cli.files.formats.arrays.zarr_stores import zarr_fields
from d2cli.files.formats.fields import Field
from d2cli.files.formats.numpy_files import npy_fields, npy_gz_fields, npz_fields
from d2cli.files.formats.recognise import Format
from d2cli.files.formats.tables import TableFile

#: The order in which the formats in one folder are tried: arrays before tables of metadata.
KINDS: tuple[Format, ...] = (
    "npy", "npy-gz", "npz", "safetensors", "vectors", "hdf5", "zarr", "parquet", "orc", "arrow",
    "arrow-stream", "jsonl", "csv",
)  # fmt: skip
#: The readers of arrays, by format. Every other format is a table.
_READERS: dict[Format, Callable[[Path], list[Field]]] = {
    "npy": npy_fields, "npy-gz": npy_gz_fields, "npz": npz_fields, "hdf5": hdf5_fields,
    "safetensors": safetensors_fields, "vectors": vector_fields, "zarr": zarr_fields,
}  # fmt: skip


def file_fields(path: Path, kind: Format, skim: bool = False) -> list[Field]:
    """Every field of one file; `skim` as in :class:`~d2cli.files.formats.choice.Wanted`."""
    read = _READERS.get(kind)
    return TableFile(path, kind, skim=skim).fields() if read is None else read(path)
