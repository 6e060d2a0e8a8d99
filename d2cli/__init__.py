"""d2prune: choose which part of a training set to keep (D2 pruning, arXiv 2310.07931)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from d2cli.version import __version__

#: Public names by module. Names load on first use, so that `d2prune --help` stays fast.
_PUBLIC = {
    "api": ("build_graph", "own_scores", "prepare_edges", "propagate", "select", "spread_scores"),
    "messages.utility": ("utility",),
    "difficulty.dynamics": ("score_dynamics",),
    "difficulty.embedding": ("prototypicality", "target_similarity"),
    "difficulty.neighbours": ("knn_distance", "label_disagreement"),
    "graph.knn_graph": ("KnnGraph", "Edges"),
    "selection.greedy": ("Selection",),
    "files.epoch_log": ("EpochLog",),
    "files.graph_file": ("read_graph", "write_graph"),
    "errors": ("D2Error",),
}
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:  # the form `as` marks names as public for type checkers
    from d2cli.api import build_graph as build_graph
    from d2cli.api import own_scores as own_scores
    from d2cli.api import prepare_edges as prepare_edges
    from d2cli.api import propagate as propagate
    from d2cli.api import select as select
    from d2cli.api import spread_scores as spread_scores
    from d2cli.difficulty.dynamics import score_dynamics as score_dynamics
    from d2cli.difficulty.embedding import prototypicality as prototypicality
    from d2cli.difficulty.embedding import target_similarity as target_similarity
    from d2cli.difficulty.neighbours import knn_distance as knn_distance
    from d2cli.difficulty.neighbours import label_disagreement as label_disagreement
    from d2cli.errors import D2Error as D2Error
    from d2cli.files.epoch_log import EpochLog as EpochLog
    from d2cli.files.graph_file import read_graph as read_graph
    from d2cli.files.graph_file import write_graph as write_graph
    from d2cli.graph.knn_graph import Edges as Edges
    from d2cli.graph.knn_graph import KnnGraph as KnnGraph
    from d2cli.messages.utility import utility as utility
    from d2cli.selection.greedy import Selection as Selection


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"d2cli.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
