"""Missing scores: spread along the graph before messages are sent, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.propagate.inputs import Scores
from d2cli.commands.settle import Messages
from d2cli.engine.threads import Progress
from d2cli.files.sources import blame
from d2cli.graph.knn_graph import Edges
from d2cli.messages.parts import EdgeParts
from d2cli.messages.spread import spread
from d2cli.runtime.decisions import Decision


def without_gaps(
    edges: Edges | EdgeParts, sigma: float, scores: Scores, messages: Messages, threads: int,
    progress: Progress, left_out: NDArray[np.bool_] | None = None,
) -> tuple[Scores, tuple[Decision, ...]]:  # fmt: skip
    """The scores with a utility for each row that takes part, and how missing ones were found.

    The utility is spread, so direction and transform come first: they depend on known scores only,
    and a mean of numbers of at least 0 is at least 0.

    Args:
        edges, sigma, messages: the kernel at γ_f gives the weights of the neighbours.
        scores: their utility is settled.
        left_out: (n,) bool, rows that need no score.

    Raises:
        DataError: if a row cannot be reached from any row with a score.
    """
    missing = scores.missing
    if missing is not None and left_out is not None:
        missing = missing & ~left_out
    if missing is None or not missing.any():
        return scores, ()
    with blame(scores=scores.origin):
        found = spread(
            edges, scores.utility, missing, kernel_name=messages.kernel, sigma=sigma,
            gamma=messages.gamma_forward, threads=threads, progress=progress,
        )  # fmt: skip
    return replace(scores, utility=found.values), (found.decision,)


def missing_lines(decisions: tuple[Decision, ...]) -> list[tuple[str, str]]:
    """(label, text) for people, of the decisions of :func:`without_gaps`."""
    return [
        (
            "missing",
            f"{one.numbers['missing']:,} of {one.numbers['rows']:,} scores spread from the others "
            f"along the graph, in {one.numbers['rounds']} rounds",
        )
        for one in decisions
    ]
