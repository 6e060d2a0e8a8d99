"""Outputs of d2prune, which a step that does not consume them must not take for data.

An output is known by its sidecar, ``<output>.json``, or by its metadata if the sidecar is gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from d2cli.errors import DataError
from d2cli.files.locate.tree import LocalTree, Tree
from d2cli.files.parts.part_kinds import PART_KINDS
from d2cli.files.provenance.sidecar import from_metadata, read_sidecar

#: The commands whose outputs an option consumes; any other option consumes none.
_CONSUMED = {
    "graph": ("graph",),
    "scores": ("score", "propagate"),
    "cutoff-scores": ("score", "propagate"),
    "propagated": ("propagate",),
    "selected": ("select",),
    "include": ("select",),
    "exclude": ("select",),
}
#: The columns of outputs that are tables; those of ``score`` are its kinds.
_COLUMNS = {
    "graph": {"neighbors", "distances", "excluded"},
    "select": {"index", "rank", "score", "propagated", "gain"},
}


def reads_parts(option: str) -> bool:
    """Whether an option consumes outputs that may be folders of parts."""
    return bool({kind.command for kind in PART_KINDS} & {*_CONSUMED.get(option, ())})


def is_sidecar(path: str, tree: Tree) -> bool:
    """Whether a file is the sidecar of an output of d2prune."""
    content = tree.json(path)
    return isinstance(content, dict) and content.get("program") == "d2prune"


def is_foreign(path: str, tree: Tree, option: str) -> bool:
    """Whether the sidecar of a file says that it is an output that `option` does not consume.

    Raises:
        DataError: if the file is on this machine and its sidecar describes another content.
    """
    local = isinstance(tree, LocalTree)
    sidecar = read_sidecar(Path(path)) if local else tree.json(f"{path}.json")
    if not isinstance(sidecar, dict) or sidecar.get("program") != "d2prune":
        return False
    return sidecar.get("command") not in _CONSUMED.get(option, ())


def is_foreign_table(path: Path, schema: pa.Schema, option: str) -> bool:
    """Whether the metadata of a table say that it is an output that `option` does not consume.

    Metadata outlive the addition of a column. A table with other columns is no output.
    """
    try:
        provenance: Any = from_metadata(path, schema.metadata) or {}
    except DataError:
        return False
    command, scores = provenance.get("command"), provenance.get("scores")
    if command in _CONSUMED.get(option, ()):
        return False
    own = _COLUMNS.get(command, set())
    if command == "score" and isinstance(scores, dict):
        own = set(scores)
    return bool(own) and {*schema.names} <= {*own, "id"}
