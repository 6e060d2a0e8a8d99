"""Greedy selection with reverse message passing (arXiv 2310.07931, section 3 and equation 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Kernel
from d2cli.engine.threads import Progress, silent
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import Edges
from d2cli.messages.forward import check_kernel, check_scores
from d2cli.selection.budgets import check_size
from d2cli.selection.picks import heap_picks, lazy_picks, silent_picks
from d2cli.selection.queue import Workspace

#: γ_r = auto looks between these. At 0.01 a neighbour at the median distance already takes away
#: 99 % of a pick's score, at 100 next to nothing.
GAMMA_LOW, GAMMA_HIGH = 0.01, 100.0
#: and stops when it knows γ_r to this ratio.
GAMMA_TOLERANCE = 1.01
#: Messages that leave the last pick so much of its score need not last any longer.
LAST_KEEPS = 2 / 3


@dataclass(frozen=True)
class Selection:
    """What was picked.

    Attributes:
        order: (N,) int64 rows, in the order in which they were picked.
        gains: (N,) float64, each one's score when it was picked.
        gamma_reverse: γ_r as used.
        included: how many of the first picks were given, not chosen.
        ran_out_at: the first chosen pick (0-based) whose score was not above zero: from there on
            the messages decide nothing. None if there is none.
        at_bound: whether an automatic γ_r stopped at ``low`` or ``high``; None if at neither.
        thinned_from: of how many picks these are every so many-th; None if they are all.
        cut: how many rows were left out as too hard.
    """

    order: NDArray[np.int64]
    gains: NDArray[np.float64]
    gamma_reverse: float
    included: int = 0
    ran_out_at: int | None = None
    at_bound: Literal["low", "high"] | None = None
    thinned_from: int | None = None
    cut: int = 0


@dataclass(frozen=True)
class Rules:
    """Who may be picked. Each part is None where it does not apply.

    Attributes:
        include: (n,) bool, rows that count as picked first: they are taken in the greedy order
            among themselves and send their messages.
        drop: (n,) bool, rows that take no part.
        classes: (n,) integers 0 … C-1, with `quotas`.
        quotas: (C,) int64, how many to pick of each class, included rows counted in.
    """

    include: NDArray[np.bool_] | None = None
    drop: NDArray[np.bool_] | None = None
    classes: NDArray[np.int64] | None = None
    quotas: NDArray[np.int64] | None = None

    def of_each_class(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the marked rows are of each class; all are of one where there is no quota."""
        if self.classes is None or self.quotas is None:
            return np.array([np.count_nonzero(rows)])
        return np.bincount(self.classes[rows], minlength=self.quotas.size)


def greedy(
    edges: Edges,
    propagated: NDArray[np.float64],
    size: int,
    *,
    kernel_name: Kernel,
    sigma: float,
    gamma: float | Literal["auto"],
    clamped: bool = True,
    rules: Rules | None = None,
    progress: Progress = silent,
) -> Selection:
    """Pick the highest score, send its reverse message, and again, `size` times.

    ``u_j ← u_j − e_kj(γ_r) · m(u_k)`` for every neighbour j of the pick k that is not yet picked,
    with m(x) = max(x, 0) where `clamped`, else x. Ties go to the lowest row.

    Args:
        edges: the graph of n rows, without the rows that `rules` drops; not changed.
        propagated: (n,) float64 scores after the forward pass; not changed.
        size: how many to pick, 1 … the number of rows that take part.
        kernel_name: ``gaussian`` or ``exponential``.
        sigma: the bandwidth, in units of distance.
        gamma: γ_r, no unit. ``auto`` (clamped only): the smallest γ_r, which is the strongest
            diversity, that outlasts the picks: the best score would stay above zero for
            1 − (1 − r)³ of the rows, where r of them are picked (of each class, with quotas). Or
            else, since scores may be mostly zero, that leaves the last pick more than two thirds
            of the score that the last one would have if nobody sent a message.
        clamped: see above.
        rules: who may be picked.
        progress: called with the stage, and how many are done of how many.

    Returns:
        The selection. Every prefix of it is the selection for that smaller size, if γ_r is the
        same and there are no quotas.
    """
    rules = rules or Rules()
    n = edges.indptr.size - 1
    check_scores(propagated, n)
    if gamma != "auto" and not isinstance(gamma, int | float | np.number):
        raise UsageError(f"gamma_reverse must be 'auto' or a number, not {gamma!r}")
    check_kernel(kernel_name, 0.0 if gamma == "auto" else gamma, "gamma_reverse")
    run = _Run(edges, propagated, size, kernel_name == "gaussian", sigma, clamped, rules)
    if gamma != "auto":
        progress("select", 0, size)
        selection = run.full(float(gamma))
        progress("select", size, size)
        return selection
    if not clamped:
        raise UsageError("gamma_reverse=auto needs clamped messages", "give gamma_reverse a number")
    value, bound = _smallest(run.lasts, progress)
    return replace(run.full(value), at_bound=bound)


def _longer(asked: NDArray[np.int64], left: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 − (1 − r)³ of `left` rows where r of them, which are `asked`, are picked; rounded up.

    Of few rows that is nearly three times as many, of nearly all no more than these. Why: where
    messages last no longer than the picks, the last of these have nothing left to be told apart by,
    and easy rows come in. Measured in evidence/README.md.
    """
    pairs = zip(asked.tolist(), left.tolist(), strict=True)  # cubes are beyond int64
    return np.array([m - (m - a) ** 3 // m**2 if m else 0 for a, m in pairs], np.int64)


def _smallest(lasts, progress: Progress) -> tuple[float, Literal["low", "high"] | None]:
    """The smallest γ_r for which ``lasts(γ_r)``, by bisection on its logarithm."""
    steps = 1 + math.ceil(math.log2(math.log(GAMMA_HIGH / GAMMA_LOW) / math.log(GAMMA_TOLERANCE)))
    progress("gamma_reverse", 0, steps)
    if lasts(GAMMA_LOW):
        progress("gamma_reverse", steps, steps)
        return GAMMA_LOW, "low"
    low, high = GAMMA_LOW, GAMMA_HIGH
    for step in range(1, steps):
        progress("gamma_reverse", step, steps)
        middle = math.sqrt(low * high)
        if lasts(middle):
            high = middle
        else:
            low = middle
    # The weakest messages are the longest run, and hardly ever needed: so they are tried last.
    lasting = high < GAMMA_HIGH or lasts(GAMMA_HIGH)
    progress("gamma_reverse", steps, steps)
    return high, None if lasting else "high"


class _Run:
    """One selection problem, ready to be run with one γ_r or another."""

    def __init__(
        self,
        edges: Edges,
        propagated: NDArray[np.float64],
        size: int,
        squared: bool,
        sigma: float,
        clamped: bool,
        rules: Rules,
    ) -> None:
        n = propagated.size
        self.edges, self.propagated, self.size = edges, propagated, size
        self.squared, self.sigma, self.clamped = squared, sigma, clamped
        self.workspace = Workspace.of(n if clamped else 0)
        nobody = np.zeros(n, np.bool_)
        drop = nobody if rules.drop is None else rules.drop
        self.include = nobody if rules.include is None else rules.include
        self.rest = ~(self.include | drop)
        if (self.include & drop).any():
            row = int(np.argmax(self.include & drop))
            raise DataError("is both included and dropped", argument="include", row=row)
        self.included = int(self.include.sum())
        check_size(size, self.included, self.included + int(self.rest.sum()))
        if rules.classes is None or rules.quotas is None:
            self.classes = np.empty(0, np.int32)
            self.quotas = np.array([size], np.int64)
        else:
            self.classes = rules.classes.astype(np.int32)
            self.quotas = rules.quotas.astype(np.int64)
            if int(self.quotas.sum()) != size:
                raise UsageError(f"class quotas sum to {int(self.quotas.sum()):,}, not to {size:,}")
        self.rules = rules

    def lasts(self, gamma: float) -> bool:
        """Whether an automatic γ_r may be so small, see :func:`greedy`. Clamped messages."""
        if self._stay_above(gamma, 0.0, self._longer_quotas):
            return True
        return self._stay_above(gamma, max(0.0, LAST_KEEPS * self._last_alone), self.quotas)

    def _stay_above(self, gamma: float, least: float, quotas: NDArray[np.int64]) -> bool:
        """Whether the best score is above `least` at every chosen pick of so many."""
        u, quota, order, gains = self._start(quotas)
        self._phase(gamma, u, self.include, quota, order, gains, 0, self.included)
        at = self.included
        done = self._positive(gamma, u, self.rest.copy(), quota, order[at:], gains[at:], least)
        return at + done == order.size

    @cached_property
    def _longer_quotas(self) -> NDArray[np.int64]:
        """The quotas of picks that messages would have to last for."""
        included = self.rules.of_each_class(self.include)
        return included + _longer(self.quotas - included, self.rules.of_each_class(self.rest))

    @cached_property
    def _last_alone(self) -> float:
        """The score of the last pick if nobody sent a message. Some are to be picked."""
        scores = self.propagated[self.rest]
        if not self.classes.size:
            last = self.included - self.size
            return float(np.partition(scores, last)[last])
        # Each class from its highest score down: its last pick stands `asked` places in.
        asked = self.quotas - self.rules.of_each_class(self.include)
        ranked = scores[np.lexsort((-scores, self.classes[self.rest]))]
        left = self.rules.of_each_class(self.rest)
        return float(ranked[(np.cumsum(left) - left + asked - 1)[asked > 0]].min())

    def full(self, gamma: float) -> Selection:
        """The whole selection."""
        u, quota, order, gains = self._start(self.quotas)
        at = self.included
        self._phase(gamma, u, self.include, quota, order, gains, 0, at)
        self._phase(gamma, u, self.rest, quota, order, gains, at, self.size)
        spent = np.flatnonzero(gains[at:] <= 0)
        ran_out_at = at + int(spent[0]) if spent.size else None
        return Selection(order, gains, gamma, at, ran_out_at)

    def _start(self, quotas):
        u = self.propagated + 0.0  # a copy, in which -0.0 is 0.0
        size = int(quotas.sum())
        return u, quotas.copy(), np.empty(size, np.int64), np.empty(size, np.float64)

    def _phase(self, gamma, u, who, quota, order, gains, start, stop):
        """Pick from `who` until `order` is filled from `start` to `stop`."""
        if start == stop:
            return
        before = order[:start]
        order, gains, eligible = order[start:stop], gains[start:stop], who.copy()
        if not self.clamped:
            picked = np.zeros(u.size, np.bool_)
            picked[before] = True
            count = heap_picks(
                self.edges, u, gamma, self.sigma, self.squared,
                eligible, picked, self.classes, quota, order, gains,
            )  # fmt: skip
        else:
            count = self._positive(gamma, u, eligible, quota, order, gains)
            if count < stop - start:
                left = np.flatnonzero(eligible)
                ranked = left[np.argsort(-u[left], kind="stable")]
                count = silent_picks(ranked, u, eligible, self.classes, quota, order, gains, count)
        assert count == stop - start, "quotas and rows were checked to fill the budget"

    def _positive(self, gamma, u, eligible, quota, order, gains, least=0.0):
        """Clamped picks for as long as scores are above `least`; returns how many."""
        return lazy_picks(
            self.edges, u, u.view(np.int64), least, gamma, self.sigma, self.squared,
            eligible, self.classes, quota, order, gains, self.workspace,
        )  # fmt: skip
