"""Greedy selection with reverse message passing (arXiv 2310.07931, section 3 and equation 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Kernel
from d2cli.engine.threads import Progress, each, silent, thread_count
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import Edges
from d2cli.messages.forward import check_kernel
from d2cli.messages.parts import EdgeParts, in_parts
from d2cli.runtime.decisions import Decision
from d2cli.selection import gamma as search
from d2cli.selection.bands import Bands
from d2cli.selection.gamma import GAMMA_HIGH, GAMMA_LOW, GAMMA_TOLERANCE, Trial
from d2cli.selection.picks import heap_picks, lazy_picks, silent_picks
from d2cli.selection.queue import Workspace
from d2cli.selection.sizes import FEW, ROUNDS_THREADS, outlasting
from d2cli.selection.sweeps import Sweeps

#: Every pick must score above this share of the lowest score that is picked without messages.
LAST_KEEPS = 2 / 3

_RULE = (
    "smallest γ_r for which the best score stays above 0 for ⌈m (1 − (1 − N/m)³)⌉ picks, "
    f"m = eligible rows; or for which all N picks score above {LAST_KEEPS:.3g} of the lowest score "
    "that is picked without messages"
)


@dataclass(frozen=True)
class Selection:
    """Picked rows.

    Attributes:
        order: (N,) int64 rows, in the order of the picks.
        gains: (N,) float64, the score of each pick when it was picked.
        gamma_reverse: γ_r as used.
        included: number of included rows; they are the first picks.
        at_bound: ``low`` or ``high`` if an automatic γ_r stopped at that bound, else None.
        thinned_from: number of picks that this selection was thinned from, or None.
        cut: number of rows that the cutoff left out.
        decisions: automatic choices and the numbers behind them.
    """

    order: NDArray[np.int64]
    gains: NDArray[np.float64]
    gamma_reverse: float
    included: int = 0
    at_bound: Literal["low", "high"] | None = None
    thinned_from: int | None = None
    cut: int = 0
    decisions: tuple[Decision, ...] = ()

    @cached_property
    def ran_out_at(self) -> int | None:
        """The first pick (0-based, after the included rows) whose score is not above 0, or None.

        From there on clamped messages decide nothing.
        """
        spent = np.flatnonzero(self.gains[self.included :] <= 0)
        return self.included + int(spent[0]) if spent.size else None


@dataclass(frozen=True)
class Rules:
    """Which rows can be picked; a row that is both included and left out is a DataError."""

    include: NDArray[np.bool_]  # (n,), picked first; they send messages like any pick
    left_out: NDArray[np.bool_]  # (n,), take no part: excluded rows and cut rows
    classes: NDArray[np.int64] | None = None  # (n,), 0 … C-1; given together with `quotas`
    quotas: NDArray[np.int64] | None = None  # (C,), picks of each class, included rows counted in

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


def greedy(
    edges: Edges | EdgeParts, propagated: NDArray[np.float64], size: int, *, kernel_name: Kernel,
    sigma: float, gamma: float | Literal["auto"], clamped: bool = True, rules: Rules | None = None,
    threads: int | None = None, progress: Progress = silent,
) -> Selection:  # fmt: skip
    """Pick the row k with the highest score, send its reverse message, and repeat `size` times.

    ``u_j ← u_j − e_kj(γ_r) · m(u_k)`` for every neighbour j of k that is not yet picked, with
    ``m(x) = max(x, 0)`` if `clamped`, else ``m(x) = x``. Ties go to the lowest row.

    γ_r = ``auto`` is the smallest γ_r (the strongest diversity) in GAMMA_LOW … GAMMA_HIGH for which
    one of these holds, to a ratio of GAMMA_TOLERANCE (:mod:`d2cli.selection.gamma`):

    - *outlasts*: the best score is above 0 at each of the first ``⌈m (1 − (1 − N/m)³)⌉``
      picks, with m eligible rows and N picks of them; with quotas, m and N are those of each class.
    - *keeps*: at each of the picks, the score is above 2/3 of the lowest score that would be picked
      without messages. This applies if most scores are zero.

    Args:
        edges: the graph of n rows, without the rows that `rules` leave out; not changed.
        propagated: (n,) float64, finite scores after the forward pass; not changed.
        size: number of picks, at least the included rows and at most the rows that take part; class
            quotas sum to it.
        kernel_name, sigma: see :func:`d2cli.messages.forward.weight`.
        gamma: γ_r >= 0, no unit; or ``auto``, for clamped messages only.
        rules: which rows can be picked; None: each row.
        threads: number of threads; the result does not depend on it. None: every core.
        progress: called with (stage, steps done, steps).

    Returns:
        The selection, with the decision on an automatic γ_r. Without quotas, every prefix is the
        selection for that smaller size and the same γ_r.

    Raises:
        UsageError: if `kernel_name` or `gamma` is out of range.
    """
    if gamma != "auto" and not isinstance(gamma, int | float | np.number):
        raise UsageError(f"gamma_reverse must be 'auto' or a number, not {gamma!r}")
    check_kernel(kernel_name, 0.0 if gamma == "auto" else gamma, "gamma_reverse")
    rules, squared = rules or Rules.none(propagated.size), kernel_name == "gaussian"
    parts = in_parts(edges)
    if parts.whole is None and not clamped:
        raise UsageError("edges in files need clamped messages", "give more memory")
    run = _Run(parts, propagated, size, squared, sigma, clamped, rules, thread_count(threads))
    if gamma != "auto":
        progress("select", 0, size)
        selection = run.full(float(gamma))
        progress("select", size, size)
        return selection
    if not clamped:
        raise UsageError("gamma_reverse=auto needs clamped messages", "give gamma_reverse a number")
    place = run.smallest(progress)
    bound: Literal["low", "high"] | None = "low" if place == 0 else None
    if place > search.LAST:
        place, bound = search.LAST, "high"
    value = search.grid(place)
    return replace(run.full(value), at_bound=bound, decisions=(run.decision(value, bound),))


@dataclass
class _Run:
    """One selection problem, to be run with several values of γ_r; fields as in :func:`greedy`."""

    parts: EdgeParts
    propagated: NDArray[np.float64]
    size: int
    squared: bool
    sigma: float
    clamped: bool
    rules: Rules
    threads: int
    tried: dict[float, dict[str, float | bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.eligible, self.included = self.rules.eligible, self.rules.included
        self.asked = self.rules.asked(self.size)
        self.classes = np.empty(0, np.int32)  # empty: one class
        if self.rules.classes is not None:
            self.classes = self.rules.classes.astype(np.int32)
        whole, graph = self.parts.whole, (self.squared, self.sigma, self.classes)
        self.bands = Bands(self.parts, *graph) if whole is None else None
        self.sweeps: Sweeps | None = None
        if whole is not None and self.threads >= ROUNDS_THREADS:
            self.sweeps = Sweeps(whole, *graph, self.threads)
        self.workspaces: list[Workspace] = []  # of runs that have ended, to be used again

    def smallest(self, progress: Progress) -> int:
        """The place of an automatic γ_r on the grid, or LAST + 1; see :func:`greedy`."""
        if np.count_nonzero(self.eligible) <= FEW:
            return search.bisected(self._accepts, progress)
        steps, done = 2 + 2 * search.HALVINGS // 3, 0

        def step(_: int) -> None:
            nonlocal done
            done = min(done + 1, steps - 1)
            progress("gamma_reverse", done, steps)

        progress("gamma_reverse", 0, steps)
        place, outlasts = search.LAST + 1, partial(self._trials, "outlasts")
        positive = self.rules.count_by_class(self.eligible & (self.propagated > 0))
        if (positive >= self._outlasted).all():
            place = search.sectioned(outlasts, search.LAST, step)
        if place > 0 and self._trials("keeps", [search.grid(place - 1)])[0].accepted:
            place = search.sectioned(partial(self._trials, "keeps"), place - 2, step)
        progress("gamma_reverse", steps, steps)
        return place

    def _accepts(self, gamma: float) -> bool:
        """Whether γ_r = `gamma` is accepted as automatic, see :func:`greedy`; clamped messages."""
        return any(self._trials(rule, [gamma])[0].accepted for rule in ("outlasts", "keeps"))

    def _trials(self, rule: str, gammas: Sequence[float]) -> list[Trial]:
        """Try one of the two rules of :func:`greedy` with several values of γ_r, in threads."""
        least, asked = 0.0, self._outlasted
        if rule == "keeps":
            least, asked = self._least_kept, self.asked
        found: dict[float, Trial] = {}

        def one(gamma: float) -> None:
            u, quota, order, gains = self._start(gamma, asked)
            order, gains = order[self.included :], gains[self.included :]
            done = self._lazy(
                gamma, u, self.eligible.copy(), quota, order, gains, least, trial=True
            )
            complete = done == order.size
            surplus = float(gains[-1]) - least if complete and order.size else 0.0
            found[gamma] = Trial(1.0 if complete else done / order.size, surplus)

        # Bands fill the memory, and sweeps use all threads: one run at a time.
        alone = self.bands is not None or self.sweeps is not None
        each(one, gammas, 1 if alone else self.threads, lambda _: None)
        for gamma in gammas:
            tried = self.tried.setdefault(
                gamma, {"gamma": gamma, "outlasts": False, "keeps": False}
            )
            tried[rule] = found[gamma].accepted
        return [found[gamma] for gamma in gammas]

    def decision(self, gamma: float, bound: str | None) -> Decision:
        """The choice of `gamma`, with each γ_r that was tried.

        A rule that was not tried counts as not met: the other one had decided.
        """
        tried = list(self.tried.values())
        outlasted = all(step["outlasts"] for step in tried)
        numbers: dict[str, Any] = {
            "picks": int(self.size) - self.included,
            "picks_to_outlast": int(self._outlasted.sum()),
            "score_to_keep": None if outlasted else self._least_kept,
            "bounds": [GAMMA_LOW, GAMMA_HIGH],
            "tolerance": GAMMA_TOLERANCE,
            "at_bound": bound,
            "tried": tried,
        }
        return Decision("gamma_reverse", gamma, _RULE, numbers)

    @cached_property
    def _outlasted(self) -> NDArray[np.int64]:
        """The picks of each class that messages must outlast, besides the included rows."""
        left = self.rules.count_by_class(self.eligible)
        pairs = zip(self.asked.tolist(), left.tolist(), strict=True)
        return np.array([outlasting(asked, m) for asked, m in pairs], np.int64)

    @cached_property
    def _least_kept(self) -> float:
        """LAST_KEEPS of the lowest score that would be picked without messages, at least 0."""
        scores = self.propagated[self.eligible]
        if self.classes.size:
            # In each class, ranked from its highest score down, the last pick is the asked-th.
            ranked = scores[np.lexsort((-scores, self.classes[self.eligible]))]
            left = self.rules.count_by_class(self.eligible)
            last = ranked[(np.cumsum(left) - left + self.asked - 1)[self.asked > 0]].min()
        else:
            at = self.included - self.size
            last = np.partition(scores, at)[at]
        return max(0.0, LAST_KEEPS * float(last))

    def full(self, gamma: float) -> Selection:
        """The selection with γ_r = `gamma`."""
        u, quota, order, gains = self._start(gamma, self.asked)
        at = self.included
        self._pick(gamma, u, self.eligible, quota, order[at:], gains[at:])
        return Selection(order, gains, gamma, at)

    def _start(self, gamma, asked):
        """Pick the included rows; returns scores and quotas afterwards, and all picks and gains."""
        u = self.propagated + 0.0  # a copy; + 0.0 turns -0.0 into 0.0
        quota = asked + self.rules.count_by_class(self.rules.include)
        order, gains = np.empty(quota.sum(), np.int64), np.empty(quota.sum())
        self._pick(gamma, u, self.rules.include, quota, order[: self.included], gains)
        return u, quota, order, gains

    def _pick(self, gamma, u, rows, quota, order, gains):
        """Fill `order` with picks from `rows` (bool); `u` and `quota` change in place."""
        if not order.size:
            return
        eligible = rows.copy()
        if not self.clamped:
            picked = self.rules.include & ~rows
            count = heap_picks(
                self.parts.whole, u, gamma, self.sigma, self.squared,
                eligible, picked, self.classes, quota, order, gains,
            )  # fmt: skip
        else:
            count = self._lazy(gamma, u, eligible, quota, order, gains)
            if count < order.size:
                left = np.flatnonzero(eligible)
                ranked = left[np.argsort(-u[left], kind="stable")]
                count = silent_picks(ranked, u, eligible, self.classes, quota, order, gains, count)
        assert count == order.size, "quotas and rows were checked to fill the budget"

    def _lazy(self, gamma, u, eligible, quota, order, gains, least=0.0, *, trial=False):
        """Clamped picks while the best score is above `least`; returns their number."""
        if self.sweeps is not None:
            return self.sweeps.picks(gamma, u, eligible, quota, order, gains, least, trial=trial)
        try:
            workspace = self.workspaces.pop()  # atomic; at most one per thread is ever made
        except IndexError:
            workspace = Workspace.of(u.size)
        if self.bands is not None:
            done = self.bands.picks(gamma, u, eligible, quota, order, gains, least, workspace)
        else:
            done = lazy_picks(
                self.parts.whole, u, u.view(np.int64), least, gamma, self.sigma, self.squared,
                eligible, self.classes, quota, order, gains, workspace,
            )  # fmt: skip
        self.workspaces.append(workspace)
        return done
