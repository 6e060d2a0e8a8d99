"""Opening one file of any format: its fields."""

from __future__ import annotations

from pathlib import Path

from d2cli.files.formats.fields import Field
from d2cli.files.formats.numpy_files import npy_fields, npz_fields
from d2cli.files.formats.recognise import Format
from d2cli.files.formats.tables import TableFile

#: The order in which the formats in one folder are tried: arrays before tables of metadata.
KINDS: tuple[Format, ...] = ("npy", "npz", "parquet", "arrow", "arrow-stream", "jsonl", "csv")


def file_fields(path: Path, kind: Format, skim: bool = False) -> list[Field]:
    """Every field of one file; `skim` as in :class:`~d2cli.files.formats.choice.Wanted`."""
    if kind == "npy":
        return npy_fields(path)
    if kind == "npz":
        return npz_fields(path)
    return TableFile(path, kind, skim=skim).fields()
