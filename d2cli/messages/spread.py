"""Missing scores, spread along the edges from the rows that have one.

This is label propagation with the known values kept (the harmonic function of Zhu, Ghahramani and
Lafferty, ICML 2003), stopped after a fixed number of rounds.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Kernel
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.errors import DataError
from d2cli.graph.knn_graph import Edges
from d2cli.messages.by_rows import write_rows
from d2cli.messages.forward import check_kernel, scaled
from d2cli.messages.parts import EdgeParts, in_parts
from d2cli.messages.sizes import SPREAD_ROUNDS
from d2cli.runtime.decisions import Decision
from d2cli.runtime.jit import kernel

_RULE = (
    f"s_i = Σ_j e_ij(γ_f) s_j / Σ_j e_ij(γ_f) over the neighbours that have a value, in "
    f"{SPREAD_ROUNDS} rounds, and more until each row has a value; known scores are kept"
)


class Spread(NamedTuple):
    """Scores without gaps, and how they were filled."""

    values: NDArray[np.float64]  # (n,)
    decision: Decision


def spread(
    edges: Edges | EdgeParts, scores: NDArray[np.float64], missing: NDArray[np.bool_], *,
    kernel_name: Kernel, sigma: float, gamma: float, threads: int | None = None,
    progress: Progress = silent,
) -> Spread:  # fmt: skip
    """Give each row without a score the weighted mean of its neighbours, round by round.

    ``s_i ← Σ_j e_ij s_j / Σ_j e_ij`` over the neighbours j that have a value, from the values of
    the round before. In SPREAD_ROUNDS rounds all missing values are set; if some rows are still
    without a value then, more rounds set only these, until none is left. Values stay between the
    lowest and the highest known score, and equal known scores give equal values. Only ratios of the
    weights count, so that weights that underflow do no harm.

    Args:
        edges: the graph of n rows.
        scores: (n,) float64, finite where they are not missing; not changed.
        missing: (n,) bool, the rows whose score is set.
        kernel_name, sigma, gamma: see :func:`d2cli.messages.forward.weight`; `gamma` is γ_f.
        threads: number of threads; the result does not depend on it. None: every core.
        progress: called with (stage, rows done, rows).

    Raises:
        DataError: if no way along the edges leads from a row without a score to one that has one.
        UsageError: if `kernel_name` or `gamma` is out of range.
    """
    check_kernel(kernel_name, gamma, "gamma_forward")
    parts, count, n = in_parts(edges), thread_count(threads), scores.size
    values, squared = np.where(missing, np.nan, scores), kernel_name == "gaussian"
    asked, rounds = int(np.count_nonzero(missing)), 0
    left = asked  # rows that have no value yet
    while left or (asked and rounds < SPREAD_ROUNDS):
        before, values = values, np.empty_like(values)
        passed = min(rounds, SPREAD_ROUNDS - 1) * n
        message = (rounds >= SPREAD_ROUNDS, gamma, sigma, squared)

        def told(done: int, passed: int = passed) -> None:
            progress("spread", passed + done, SPREAD_ROUNDS * n)

        write_rows(parts, partial(_round_of_rows, before, missing, message), values, count, told)
        reached = left - int(np.count_nonzero(np.isnan(values)))
        if left and not reached:
            raise _unreached(values, asked)
        left -= reached
        rounds += 1
    numbers = {"rows": n, "missing": asked, "rounds": rounds, "gamma_forward": float(gamma)}
    return Spread(values, Decision("missing_scores", "spread", _RULE, numbers))


def _round_of_rows(
    values: NDArray[np.float64], missing: NDArray[np.bool_],
    message: tuple[bool, float, float, bool], part: Edges, first: int, out: NDArray[np.float64],
    start: int, stop: int,
) -> None:  # fmt: skip
    """One round, as :data:`d2cli.messages.by_rows.Rows`."""
    _spread_rows(part, first, values, missing, *message, out, start, stop)


def _unreached(values: NDArray[np.float64], asked: int) -> DataError:
    """The error that some rows are not connected to a row with a score."""
    rows = np.flatnonzero(np.isnan(values))
    says = (
        f"has no score and no way along the graph to a row that has one; this is so for "
        f"{rows.size:,} of the {asked:,} rows without score"
    )
    hint = "more neighbours (-k) connect more rows; or give a score to one row of each part"
    return DataError(says, hint, argument="scores", row=int(rows[0]))


@kernel
def _spread_rows(
    edges, first, values, missing, only_new, gamma, sigma, squared, out, start, stop
):  # fmt: skip
    """Write the rows ``start … stop`` of a part that begins at row `first`, of one round.

    `values` and `missing` are (n,), and `out` holds the rows of the part. NaN stands for no value
    yet. If `only_new`, values that are there stay as they are.
    """
    for p in range(start, stop):
        i = first + p
        out[p] = values[i]
        if not missing[i] or (only_new and not math.isnan(values[i])):
            continue
        nearest, low, high = np.inf, np.inf, -np.inf
        for e in range(edges.indptr[p], edges.indptr[p + 1]):
            value = values[edges.indices[e]]
            if not math.isnan(value):
                nearest = min(nearest, np.float64(edges.distances[e]))
                low, high = min(low, value), max(high, value)
        if nearest == np.inf:
            continue
        least, total, sent = scaled(nearest, sigma, squared), 0.0, 0.0
        for e in range(edges.indptr[p], edges.indptr[p + 1]):
            value = values[edges.indices[e]]
            if not math.isnan(value):
                # e_ij over the largest e_ij, which is 1: no sum of weights is 0.
                share = 1.0
                if gamma > 0.0 and edges.distances[e] > nearest:
                    x = scaled(edges.distances[e], sigma, squared)
                    share = math.exp(gamma * (least - x)) if x < np.inf else 0.0
                total += share
                sent += share * value
        # Rounding, or a sum beyond float64, may lead out of the range of the neighbours.
        out[p] = min(max(sent / total, low), high)
