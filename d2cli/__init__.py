"""d2prune: choose which part of a training set to keep (D2 pruning, arXiv 2310.07931)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from d2cli.version import __version__

#: Public names and their modules. Names load on first use, so that `d2prune --help` stays fast.
_HOMES = {
    "build_graph": "d2cli.api",
    "own_scores": "d2cli.api",
    "prepare_edges": "d2cli.api",
    "propagate": "d2cli.api",
    "select": "d2cli.api",
    "utility": "d2cli.messages.utility",
    "score_dynamics": "d2cli.difficulty.dynamics",
    "prototypicality": "d2cli.difficulty.embedding",
    "knn_distance": "d2cli.difficulty.neighbours",
    "label_disagreement": "d2cli.difficulty.neighbours",
    "KnnGraph": "d2cli.graph.knn_graph",
    "Edges": "d2cli.graph.knn_graph",
    "Selection": "d2cli.selection.greedy",
    "read_graph": "d2cli.files.graph_file",
    "write_graph": "d2cli.files.graph_file",
    "D2Error": "d2cli.errors",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:  # the form `as` marks names as public for type checkers
    from d2cli.api import build_graph as build_graph
    from d2cli.api import own_scores as own_scores
    from d2cli.api import prepare_edges as prepare_edges
    from d2cli.api import propagate as propagate
    from d2cli.api import select as select
    from d2cli.difficulty.dynamics import score_dynamics as score_dynamics
    from d2cli.difficulty.embedding import prototypicality as prototypicality
    from d2cli.difficulty.neighbours import knn_distance as knn_distance
    from d2cli.difficulty.neighbours import label_disagreement as label_disagreement
    from d2cli.errors import D2Error as D2Error
    from d2cli.files.graph_file import read_graph as read_graph
    from d2cli.files.graph_file import write_graph as write_graph
    from d2cli.graph.knn_graph import Edges as Edges
    from d2cli.graph.knn_graph import KnnGraph as KnnGraph
    from d2cli.messages.utility import utility as utility
    from d2cli.selection.greedy import Selection as Selection


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
