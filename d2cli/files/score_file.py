"""Scores on disk: one ``.npy`` a kind, or a table with a column a kind; and what they mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from numpy.typing import NDArray

from d2cli.defaults import HigherIs, choices
from d2cli.errors import DataError, UsageError
from d2cli.files.formats.fields import Field
from d2cli.files.formats.tables import ColumnField
from d2cli.files.provenance.record import FORMAT_VERSION, KEY, as_metadata, read_sidecar
from d2cli.files.sources import Source

FORMS = (".npy", ".csv", ".parquet", ".arrow")


def plan_files(out: str, kinds: list[str]) -> dict[str, list[str]]:
    """Which kinds go into which file: one file a kind where `out` holds ``{kind}``, else one.

    Raises:
        UsageError: for a form that is not known, and several kinds in one ``.npy``.
    """
    files = (
        {out.replace("{kind}", kind): [kind] for kind in kinds} if "{kind}" in out else {out: kinds}
    )
    ending = Path(out).suffix.lower()
    if ending not in FORMS:
        raise UsageError(
            f"{out}: the ending says the form, and {ending or 'none'} is not known",
            f"use one of {', '.join(FORMS)}",
        )
    if ending == ".npy" and any(len(inside) > 1 for inside in files.values()):
        raise UsageError(
            f"{out}: .npy holds one kind of score, and there are {len(kinds)}",
            "put {kind} into --out, for example --out '{kind}.npy', or write .parquet",
        )
    return files


def store_scores(
    path: Path,
    ending: str,
    scores: dict[str, NDArray[np.float64]],
    ids: pa.Array | None,
    entry: dict[str, Any],
) -> None:
    """Write scores, (n,) each, to `path` in the form that `ending` says."""
    if ending == ".npy":
        with path.open("wb") as file:
            np.save(file, next(iter(scores.values())), allow_pickle=False)
        return
    columns = {} if ids is None else {"id": ids}
    table = pa.table({**columns, **{kind: pa.array(values) for kind, values in scores.items()}})
    table = table.replace_schema_metadata(as_metadata(entry))
    if ending == ".csv":
        pa.csv.write_csv(table, path)
    elif ending == ".parquet":
        pa.parquet.write_table(table, path, compression="zstd")
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def recorded_direction(source: Source) -> tuple[str, HigherIs] | None:
    """The kind of the scores in `source` and what a high one says, where ``score`` recorded it.

    Raises:
        DataError: if the provenance is damaged, the file has changed since, or its files differ.
    """
    found = {part.where: _direction(part) for part in source.parts}
    first = next(iter(found))
    for where, direction in found.items():
        if direction != found[first]:
            said = [d and f"{d[0]}, high = {d[1]}" for d in (found[first], direction)]
            raise DataError(
                f"{where}: is recorded as {said[1] or 'no known score'}, {first} as "
                f"{said[0] or 'no known score'}",
                "give files of one kind, or say what they mean with --higher-is",
            )
    return found[first]


def _direction(field: Field) -> tuple[str, HigherIs] | None:
    entry = _record(field)
    if entry is None or entry.get("command") != "score":
        return None
    scores = entry.get("scores")
    hint = "make the scores again with d2prune score"
    if not isinstance(scores, dict):
        raise DataError(f"{field.path}: its provenance is damaged", hint)
    kind = field.name or next(iter(scores), "")
    if kind not in scores:
        return None  # a column that somebody added
    said = scores[kind].get("higher_is") if isinstance(scores[kind], dict) else None
    if said not in choices(HigherIs):
        raise DataError(f"{field.path}: its provenance gives {kind} no direction", hint)
    return kind, said


def _record(field: Field) -> dict[str, Any] | None:
    """Provenance from the metadata of a table, else from the file beside."""
    raw = None
    if isinstance(field, ColumnField):
        raw = (field.table.schema.metadata or {}).get(KEY)
    if raw is None:
        return read_sidecar(field.path)
    try:
        entry = json.loads(raw)
        known = entry["format_version"] == FORMAT_VERSION
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise DataError(
            f"{field.path}: its 'd2prune' metadata cannot be read",
            "it is damaged, or of another version of d2prune",
        )
    return entry if isinstance(entry, dict) else None
