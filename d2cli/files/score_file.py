"""Scores on disk: one ``.npy`` per kind, or a table with one column per kind; their direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.defaults import HigherIs, choices
from d2cli.errors import DataError, UsageError
from d2cli.files.formats.fields import Field
from d2cli.files.formats.tables import ColumnField, write_table
from d2cli.files.keys import Key
from d2cli.files.provenance.sidecar import as_metadata, from_metadata, read_sidecar
from d2cli.files.sources import Source

#: The endings of files that hold scores.
FORMS = (".npy", ".csv", ".parquet", ".arrow")


def plan_files(out: str, kinds: list[str]) -> dict[str, list[str]]:
    """The kinds by output file: one file per kind if `out` contains ``{kind}``, else one file.

    Raises:
        UsageError: if the ending is unknown, or a ``.npy`` would hold several kinds.
    """
    files = {out: kinds}
    if "{kind}" in out:
        files = {out.replace("{kind}", kind): [kind] for kind in kinds}
    ending = Path(out).suffix.lower()
    if ending not in FORMS:
        says = f"the ending gives the format, and {ending or 'none'} is not known"
        raise UsageError(f"{out}: {says}", f"use one of {', '.join(FORMS)}")
    if ending == ".npy" and any(len(inside) > 1 for inside in files.values()):
        raise UsageError(
            f"{out}: .npy holds one kind of score, not {len(kinds)}",
            "put {kind} into --out, for example --out '{kind}.npy', or write .parquet",
        )
    return files


def store_scores(
    path: Path, ending: str, scores: dict[str, NDArray[np.float64]], ids: pa.Array | None,
    provenance: dict[str, Any],
) -> None:  # fmt: skip
    """Write scores, (n,) each, to `path` in the format of `ending`.

    NaN stands for no score: it is written as null into tables, but for CSV, where a null in the
    only column would be an empty line, which readers skip.
    """
    if ending == ".npy":
        with path.open("wb") as file:
            np.save(file, next(iter(scores.values())), allow_pickle=False)
        return
    columns = {} if ids is None else {"id": ids}
    columns.update(
        {kind: pa.array(values, from_pandas=ending != ".csv") for kind, values in scores.items()}
    )
    write_table(pa.table(columns, metadata=as_metadata(provenance)), path, ending)


def recorded_direction(source: Source) -> tuple[str, HigherIs] | None:
    """The kind of the scores in `source` and their direction, as ``score`` recorded them, or None.

    Raises:
        DataError: if the provenance is damaged, a file has changed since, or files differ.
    """
    found = {part.where: _direction(part) for part in source.parts}
    first = next(iter(found))
    for where, direction in found.items():
        if direction != found[first]:
            pair = (direction, found[first])
            said = [f"{d[0]}, higher is {d[1]}" if d else "no known score" for d in pair]
            hint = "give files of one kind, or set their direction with --higher-is"
            raise DataError(f"{where}: is recorded as {said[0]}, {first} as {said[1]}", hint)
    return found[first]


def add_recorded_names(source: Source, id_column: str | None) -> None:
    """Let the ids of a file of d2prune be known by the name of the column that they came from.

    What else its provenance says of its rows becomes known too (the attributes `recorded_…`).
    """
    for part in source.parts:
        provenance = _provenance_of(part) or {}
        ids = provenance.get("ids")
        ids = ids if isinstance(ids, dict) else {}
        name, made_from = ids.get("column"), ids.get("made_from")
        if isinstance(name, str):
            source.recorded_ids = name
            source.recorded_out_of_order |= ids.get("out_of_order") is True
            kept = source.keys.get("id")
            if not source.id_parts and name == id_column and kept is not None:
                source.id_parts = list(kept.parts)
            if source.id_parts:
                source.keys.setdefault(name, Key(name, tuple(source.id_parts)))
        order = (provenance.get("parameters") or {}).get("order")
        source.recorded_by_rank |= provenance.get("command") == "select" and order == "rank"
        if isinstance(made_from, list):
            found = {one for one in made_from if isinstance(one, str)}
            source.recorded_fingerprints |= found


def _provenance_of(field: Field) -> dict[str, Any] | None:
    """What is recorded in the file's metadata, else beside it."""
    found = None
    if isinstance(field, ColumnField):
        found = from_metadata(field.path, field.table.schema.metadata)
    return found or read_sidecar(field.path)


def _direction(field: Field) -> tuple[str, HigherIs] | None:
    provenance = _provenance_of(field)
    if provenance is None or provenance.get("command") != "score":
        return None
    scores = provenance.get("scores")
    hint = "make the scores again with d2prune score"
    if not isinstance(scores, dict):
        raise DataError(f"{field.path}: its provenance has no section 'scores'", hint)
    kind = field.name or next(iter(scores), "")
    if kind not in scores:
        return None  # a column that the user added
    said = scores[kind].get("higher_is") if isinstance(scores[kind], dict) else None
    if not isinstance(said, str) or said not in choices(HigherIs):
        raise DataError(f"{field.path}: its provenance gives {kind} no direction", hint)
    return kind, cast(HigherIs, said)
