"""Greedy selection with reverse message passing (arXiv 2310.07931, section 3 and equation 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Kernel
from d2cli.engine.threads import Progress, each, silent, thread_count
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import Edges
from d2cli.messages.forward import check_kernel
from d2cli.messages.parts import EdgeParts, in_parts, marked_neighbours
from d2cli.runtime.decisions import Decision
from d2cli.selection.bands import Bands
from d2cli.selection.costs.limits import CostLimits
from d2cli.selection.picks import NO_LIMITS, heap_picks, lazy_picks, silent_picks
from d2cli.selection.queue import Workspace
from d2cli.selection.shards import Shards
from d2cli.selection.sizes import FEW, ROUNDS_THREADS
from d2cli.selection.sweeps import InThreads, Sweeps


@dataclass(frozen=True)
class KeptLift:
    """What a selection keeps of the attainable mean score, and how much closer the best rows are.

    Attributes:
        least: L, the lift that γ_r had to keep.
        reached: the lift; see :class:`d2cli.selection.gamma.lift.KeepLift`.
        flat: whether all selections have the same mean score, so that every lift is 1.
        neighbours: mean number of selected neighbours of a selected row.
        neighbours_by_score: the same if the best rows were selected, in the order of the scores.
    """

    least: float
    reached: float
    flat: bool
    neighbours: float
    neighbours_by_score: float


@dataclass(frozen=True)
class Selection:
    """Picked rows.

    Attributes:
        order: (N,) int64 rows, in the order of the picks.
        gains: (N,) float64, the score of each pick when it was picked.
        gamma_reverse: γ_r as used; None: no reverse messages were sent.
        included: number of included rows; they are the first picks.
        at_bound: ``low`` or ``high`` if an automatic γ_r stopped at that bound, else None.
        thinned_from: number of picks that this selection was thinned from, or None.
        cut: number of rows that the cutoff left out.
        lift: if γ_r is automatic, else None.
        decisions: automatic choices and the numbers behind them.
    """

    order: NDArray[np.int64]
    gains: NDArray[np.float64]
    gamma_reverse: float | None
    included: int = 0
    at_bound: Literal["low", "high"] | None = None
    thinned_from: int | None = None
    cut: int = 0
    lift: KeptLift | None = None
    decisions: tuple[Decision, ...] = ()

    @cached_property
    def ran_out_at(self) -> int | None:
        """The first pick (0-based, after the included rows) whose score is not above 0, or None.

        From there on clamped messages decide nothing. None also if there were no messages.
        """
        if self.gamma_reverse is None:
            return None
        spent = np.flatnonzero(self.gains[self.included :] <= 0)
        return self.included + int(spent[0]) if spent.size else None

    def prefix(self, count: int) -> Selection:
        """The first `count` picks, included rows counted in."""
        return replace(self, order=self.order[:count], gains=self.gains[:count])

    @property
    def lift_section(self) -> dict[str, float | None]:
        """The entries of provenance about `lift`."""
        lift = self.lift
        return {
            "kept_lift": None if lift is None else lift.reached,
            "selected_neighbours": None if lift is None else lift.neighbours,
            "selected_neighbours_by_score": None if lift is None else lift.neighbours_by_score,
        }


@dataclass(frozen=True)
class Rules:
    """Which rows can be picked; a row that is both included and left out is a DataError."""

    include: NDArray[np.bool_]  # (n,), picked first; they send messages like any pick
    left_out: NDArray[np.bool_]  # (n,), take no part: excluded rows and cut rows
    classes: NDArray[np.int64] | None = None  # (n,), 0 … C-1; given together with `quotas`
    quotas: NDArray[np.int64] | None = None  # (C,), picks of each class, included rows counted in
    #: What the picks may cost. Then sizes and quotas serve the automatic rules only.
    cost_limits: CostLimits | None = None

    def __post_init__(self) -> None:
        both = self.include & self.left_out
        if both.any():
            row = int(np.argmax(both))
            raise DataError("is both included and excluded", argument="include", row=row)

    @classmethod
    def none(cls, n: int) -> Rules:
        """No rules: each of n rows can be picked."""
        return cls(np.zeros(n, np.bool_), np.zeros(n, np.bool_))

    @property
    def included(self) -> int:
        """Number of included rows."""
        return int(self.include.sum())

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """(n,) bool, rows that can be chosen: neither included nor left out."""
        return ~(self.include | self.left_out)

    def without(self, rows: NDArray[np.bool_]) -> Rules:
        """The same rules with more rows left out."""
        return replace(self, left_out=self.left_out | rows)

    def count_by_class(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(C,) number of the marked rows in each class; (1,) without quotas."""
        if self.classes is None or self.quotas is None:
            return np.array([np.count_nonzero(rows)])
        return np.bincount(self.classes[rows], minlength=self.quotas.size)

    def asked(self, size: int) -> NDArray[np.int64]:
        """(C,) picks of each class besides the included rows; (1,) without quotas."""
        quotas = np.array([size]) if self.quotas is None else self.quotas
        return quotas - self.count_by_class(self.include)


#: Chooses γ_r for a problem from runs with several values, and returns the selection with it.
GammaRule = Callable[["Run", Progress], Selection]


def greedy(
    edges: Edges | EdgeParts, propagated: NDArray[np.float64], size: int, *, kernel_name: Kernel,
    sigma: float, gamma: float | GammaRule, clamped: bool = True, rules: Rules | None = None,
    threads: int | None = None, progress: Progress = silent,
) -> Selection:  # fmt: skip
    """Pick the row k with the highest score, send its reverse message, and repeat `size` times.

    ``u_j ← u_j − e_kj(γ_r) · m(u_k)`` for every neighbour j of k that is not yet picked, with
    ``m(x) = max(x, 0)`` if `clamped`, else ``m(x) = x``. Ties go to the lowest row.

    Args:
        edges: the graph of n rows, without the rows that `rules` leave out; not changed.
        propagated: (n,) float64, finite scores after the forward pass; not changed.
        size: number of picks, at least the included rows and at most the rows that take part; class
            quotas sum to it. With limits of cost, only the search for γ_r uses it.
        kernel_name, sigma: see :func:`d2cli.messages.forward.weight`.
        gamma: γ_r >= 0, no unit; or a rule that chooses it (:mod:`d2cli.selection.gamma`), for
            clamped messages only.
        rules: which rows can be picked; None: each row.
        threads: number of threads; the result does not depend on it. None: every core.
        progress: called with (stage, steps done, steps).

    Returns:
        The selection, with the decision on γ_r if a rule chose it. Without quotas, every prefix is
        the selection for that smaller size and the same γ_r.

    Raises:
        UsageError: if `kernel_name` or `gamma` is out of range.
    """
    rule = gamma if callable(gamma) else None
    number = 0.0 if callable(gamma) else float(gamma)
    check_kernel(kernel_name, number, "gamma_reverse")
    rules, squared = rules or Rules.none(propagated.size), kernel_name == "gaussian"
    parts = in_parts(edges)
    if parts.whole is None and not clamped:
        raise UsageError("edges in files need clamped messages", "give more memory")
    if rule is not None and not clamped:
        raise UsageError("gamma_reverse=auto needs clamped messages", "give gamma_reverse a number")
    run = Run(parts, propagated, size, squared, sigma, clamped, rules, thread_count(threads))
    try:
        if rule is not None:
            return rule(run, progress)
        progress("select", 0, size)
        selection = run.full(number)
        progress("select", size, size)
        return selection
    finally:
        run.end()


@dataclass
class Run:
    """One selection problem, to be run with several values of γ_r; fields as in :func:`greedy`.

    Attributes:
        eligible: (n,) bool, rows that can be picked.
        asked: (C,) picks of each class besides the included rows; (1,) without quotas.
        classes: (n,) int32, the class of each row; empty: one class.
    """

    parts: EdgeParts
    propagated: NDArray[np.float64]
    size: int
    squared: bool
    sigma: float
    clamped: bool
    rules: Rules
    threads: int

    def __post_init__(self) -> None:
        self._count()
        self.classes = np.empty(0, np.int32)
        if self.rules.classes is not None:
            self.classes = self.rules.classes.astype(np.int32)
        graph, engine = (self.squared, self.sigma), self.parts.engine
        self.sweeps: Sweeps | None = None
        self.shards: Shards | None = None
        if engine is not None and engine.nodes > 1:
            self.shards = Shards(self.parts, *graph, classes=bool(self.classes.size))
            self.sweeps = Sweeps(self.shards, self.classes)
        elif engine is not None:  # no other node has edges, and a queue costs less than rounds
            self.parts = self.parts.brought_here()
        whole = self.parts.whole
        self.bands = Bands(self.parts, *graph, self.classes) if whole is None else None
        if whole is not None and self.threads >= ROUNDS_THREADS:
            self.sweeps = Sweeps(InThreads(whole, *graph, self.threads), self.classes)
        self.workspaces: list[Workspace] = []  # of runs that have ended, to be used again

    def _count(self) -> None:
        self.eligible, self.included = self.rules.eligible, self.rules.included
        self.asked = self.rules.asked(self.size)

    def with_rules(self, size: int, rules: Rules) -> Run:
        """The problem with other numbers of picks, which uses what this one has made."""
        other = copy(self)
        other.size, other.rules = size, rules
        other._count()
        return other

    @property
    def few(self) -> bool:
        """Whether there are so few rows that γ_r is searched by bisection."""
        return bool(np.count_nonzero(self.eligible) <= FEW)

    def at_once(self, work: Callable[[float], object], gammas: Sequence[float]) -> None:
        """Call ``work(γ_r)``, which makes one run, for several values in threads."""
        threads = self.threads
        if self.shards is not None:
            threads = len(gammas)  # one run is prepared here while the shards work on another
        elif self.bands is not None or self.sweeps is not None:
            threads = 1  # bands fill the memory, and sweeps use all threads
        each(work, gammas, threads, lambda _: None)

    def marked_neighbours(
        self, marked: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """As :func:`d2cli.messages.parts.marked_neighbours`, with the edges of the run."""
        if self.shards is not None:
            return self.shards.marked_neighbours(marked, rows)
        return marked_neighbours(self.parts, marked, rows)

    def end(self) -> None:
        """Give back what an engine holds for the run."""
        if self.shards is not None:
            self.shards.end()

    def full(self, gamma: float, *, by_cost: bool = True) -> Selection:
        """The selection with γ_r = `gamma`; limits of cost count only with `by_cost`."""
        at, (asked, purse) = self.included, self._budget(by_cost)
        u, quota, order, gains = self._start(gamma, asked)
        count = at + self._pick(
            gamma, u, self.eligible, quota, order[at:], gains[at:], purse, last=True
        )
        if count < order.size:
            order, gains = order[:count].copy(), gains[:count].copy()
        return Selection(order, gains, gamma, at)

    def ordered(self, scores: NDArray[np.float64], *, by_cost: bool = True) -> Selection:
        """The selection in the order of `scores`, without messages; ties: the lowest row.

        Included rows come first. The gains are the scores. `by_cost` as in :meth:`full`.
        """
        asked, purse = self._budget(by_cost)
        u, quota = scores + 0.0, asked + self.rules.count_by_class(self.rules.include)
        order, gains, count = np.empty(quota.sum(), np.int64), np.empty(quota.sum()), 0
        for rows, limits in ((self.rules.include, NO_LIMITS), (self.eligible, purse)):
            ranked, free = _ranked(u, rows), rows.copy()
            count = silent_picks(ranked, u, free, self.classes, quota, order, gains, limits, count)
        return Selection(order[:count].copy(), gains[:count].copy(), None, self.included)

    def _budget(self, by_cost):
        """Picks of each class besides the included rows, and what they may cost."""
        limits = self.rules.cost_limits
        if limits is None or not by_cost:
            return self.asked, NO_LIMITS
        most = self.rules.count_by_class(self.eligible)
        return most, limits.purse(int(most.sum()))

    def _start(self, gamma, asked):
        """Pick the included rows; returns scores and quotas afterwards, and all picks and gains."""
        u = self.propagated + 0.0  # a copy; + 0.0 turns -0.0 into 0.0
        quota = asked + self.rules.count_by_class(self.rules.include)
        order, gains = np.empty(quota.sum(), np.int64), np.empty(quota.sum())
        self._pick(gamma, u, self.rules.include, quota, order[: self.included], gains)
        return u, quota, order, gains

    def _pick(self, gamma, u, rows, quota, order, gains, purse=NO_LIMITS, *, last=False):
        """Fill `order` with picks from `rows` (bool), as far as limits of cost allow.

        `u`, `quota` and `purse` change in place; after the `last` picks, `u` is of no use. Returns
        the number of picks.
        """
        if not order.size:
            return 0
        eligible = rows.copy()
        if not self.clamped:
            picked = self.rules.include & ~rows
            count = heap_picks(
                self.parts.whole, u, gamma, self.sigma, self.squared,
                eligible, picked, self.classes, quota, order, gains, purse,
            )  # fmt: skip
        else:
            count = self._lazy(gamma, u, eligible, quota, order, gains, purse, last)
            if count < order.size and purse.room[0]:
                ranked = _ranked(u, eligible)
                count = silent_picks(
                    ranked, u, eligible, self.classes, quota, order, gains, purse, count
                )
        assert count == order.size or not purse.room[0], "quotas were checked to fill the budget"
        return count

    def _lazy(self, gamma, u, eligible, quota, order, gains, purse, last):
        """Clamped picks while the best score is above 0; returns their number."""
        if self.sweeps is not None and not purse.cost.size:  # rounds know no costs
            return self.sweeps.picks(gamma, u, eligible, quota, order, gains, last=last)
        try:
            workspace = self.workspaces.pop()  # atomic; at most one per thread is ever made
        except IndexError:
            workspace = Workspace.of(u.size)
        if self.bands is not None:
            done = self.bands.picks(gamma, u, eligible, quota, order, gains, workspace, purse)
        else:
            done = lazy_picks(
                self.parts.whole, u, u.view(np.int64), 0.0, gamma, self.sigma, self.squared,
                eligible, self.classes, quota, order, gains, purse, workspace,
            )  # fmt: skip
        self.workspaces.append(workspace)
        return done


def _ranked(scores: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The marked rows from the highest score down; ties: the lowest row."""
    left = np.flatnonzero(rows)
    return left[np.argsort(-scores[left], kind="stable")]
