"""Where the numbers of an Arrow file lie, so that they can be read or written in ranges."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.ipc


class BatchPlaces(NamedTuple):
    """The rows of a batch, and where the numbers of some columns of lists begin, in bytes."""

    rows: int
    offsets: list[int]


def list_places(path: Path, names: tuple[str, ...]) -> list[BatchPlaces] | None:
    """Where the numbers of columns ``fixed_size_list<number>`` lie, for each batch with rows.

    None if there are nulls, or lists of another kind, or compressed buffers. Reads headers only.

    Raises:
        pa.ArrowException: for a damaged file.
    """
    found = []
    with pa.memory_map(os.fsencode(path)) as source:
        whole = source.read_buffer()
        reader = pa.ipc.open_file(pa.BufferReader(whole))
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            columns = [batch.column(name) for name in names]
            offsets = [_offset(column, whole) for column in columns if batch.num_rows]
            if None in offsets:
                return None
            if batch.num_rows:
                found.append(BatchPlaces(batch.num_rows, [at for at in offsets if at is not None]))
    return found


def _offset(lists: pa.Array, whole: pa.Buffer) -> int | None:
    """Where the numbers of lists begin in the buffer of the whole file, or None."""
    if not pa.types.is_fixed_size_list(lists.type) or lists.offset:
        return None
    *nulls, numbers = lists.buffers()
    size = len(lists) * lists.type.list_size * lists.type.value_type.bit_width // 8
    if any(one is not None for one in nulls) or numbers is None or numbers.size < size:
        return None
    offset = numbers.address - whole.address
    return offset if 0 <= offset <= whole.size - size else None
