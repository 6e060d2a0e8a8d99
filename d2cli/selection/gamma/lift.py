"""The rule of an automatic γ_r: the strongest diversity that keeps a share of attainable score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import Progress
from d2cli.evaluation.lift import LiftScale, expected_sum
from d2cli.limits import check_lift
from d2cli.runtime.arrays import exact_sum
from d2cli.runtime.decisions import Decision
from d2cli.selection.budgets import exactly
from d2cli.selection.costs.budget import thinned_to_cost
from d2cli.selection.gamma import search
from d2cli.selection.gamma.least import least_lift, least_lift_decision
from d2cli.selection.gamma.search import GAMMA_HIGH, GAMMA_LOW, GAMMA_TOLERANCE, Trial
from d2cli.selection.greedy import KeptLift, Run, Selection
from d2cli.selection.thinning import thinned, widened

_RULE = (
    "smallest γ_r whose picks have a lift of at least L; lift = (mean score of the picks − mean of "
    "all) / (mean of the N best − mean of all), all = rows that can be picked; score order if no "
    "γ_r keeps L"
)
_THINNING = (
    "select min(⌈1.01^j N⌉, m) rows with γ_r = 0.01 and keep N of them evenly; j by bisection: the "
    "kept picks have a lift of at least L, all of the wide selection score above 0, and j + 1 fails"
)
#: Sizes of selections to be thinned have this ratio; exact, so that no rounding decides a size.
_WIDER = Fraction(101, 100)


@dataclass(frozen=True)
class KeepLift:
    """Chooses the smallest γ_r (the strongest diversity) whose picks have a lift of at least L.

    ``lift = (mean score of the picks − mean of all) / (mean of the N best − mean of all)``, over
    the rows that can be picked: neither included nor left out. With class quotas, the N best are
    the best that the quotas admit, and the mean of all is that of a random selection under the
    quotas. Sums are exact, so that the lift does not depend on the order of the picks.

    γ_r is in GAMMA_LOW … GAMMA_HIGH, found to a ratio of GAMMA_TOLERANCE. If all selections have
    the same mean score, every lift is 1, and γ_r is GAMMA_LOW.

    Lift rises with γ_r. After forward messages it may fall again above γ_f: weak reverse messages
    leave the order of the propagated scores, while those of a γ_r near γ_f take back what forward
    messages have added. So if neither GAMMA_HIGH nor the order of the propagated scores keeps L,
    γ_r is also searched where lift is highest (:func:`d2cli.selection.gamma.search.climbed`).

    With limits of cost, lift is measured for the N rows of the run, and the γ_r that is found is
    used until the cost is spent.

    If L is automatic (:mod:`d2cli.selection.gamma.least`) and GAMMA_LOW keeps it, the picks are
    evenly spaced picks of a larger selection with GAMMA_LOW (:mod:`d2cli.selection.thinning`). Its
    size W is found by bisection: the kept picks have a lift of at least L and all W picks have a
    score above 0, and one of the two fails with the next larger size.

    If no γ_r keeps L, the picks are the N best, in the order of their scores and without messages:
    exact copies silence each other at every γ_r.

    Attributes:
        least: L, above 0 and at most 1; None: automatic.
        scores: (n,) float64, finite, what lift measures; higher = keep.
        two_groups: whether difficulties form two groups; an automatic L depends on it.

    Raises:
        UsageError: if L is out of range.
    """

    least: float | None
    scores: NDArray[np.float64]
    two_groups: bool = False

    def __post_init__(self) -> None:
        if self.least is not None:
            check_lift("keep_lift", self.least)

    def __call__(self, run: Run, progress: Progress) -> Selection:
        """The selection; a rule of :func:`d2cli.selection.greedy.greedy`."""
        least, decisions = self._least(run)
        trials = _Trials(run, self.scores, least)
        place = trials.smallest(progress)
        bound: Literal["low", "high"] | None = "low" if place == 0 else None
        if place > search.LAST:
            found, bound = trials.by_score, "high"
        else:
            found = trials.kept or run.full(search.grid(place), by_cost=False)
        wide = None
        if place == 0 and self.least is None and not trials.scale.flat:
            found, wide, thinning = trials.thinned(found)
            decisions = (*decisions, thinning)
        neighbours, by_score = (
            selected_neighbours(run, one.order) for one in (found, trials.by_score)
        )
        reached = float(trials.lift_of(found))
        kept = KeptLift(float(least), reached, trials.scale.flat, neighbours, by_score)
        decision = trials.decision(found, kept, bound)
        if run.rules.cost_limits is not None:
            found = self._within_cost(run, found, wide)
        return replace(found, at_bound=bound, lift=kept, decisions=(*decisions, decision))

    def _least(self, run: Run) -> tuple[Fraction, tuple[Decision, ...]]:
        """L, and the decision on it if it is automatic."""
        if self.least is not None:
            return exactly(self.least, 1), ()
        picks, rows = int(run.asked.sum()), int(np.count_nonzero(run.eligible))
        least = least_lift(picks, rows, self.two_groups)
        return least, (least_lift_decision(least, picks, rows, self.two_groups),)

    def _within_cost(self, run: Run, found: Selection, wide: int | None) -> Selection:
        """The selection that `found` becomes if cost ends it; `wide` as of _Trials.thinned."""
        if wide is not None:
            return thinned_to_cost(_widened(run, wide).full(GAMMA_LOW), run.rules)
        if found.gamma_reverse is None:
            return run.ordered(self.scores)
        return run.full(found.gamma_reverse)


@dataclass
class _Trials:
    """Selections with several values of γ_r, and their lifts.

    Attributes:
        by_score: the picks in the order of the scores, without messages.
        scale: what lift is measured by.
        kept: the accepted selection with the smallest γ_r that was tried, or None.
        lowest: that γ_r.
        lifts: the lift at each γ_r that was tried.
    """

    run: Run
    scores: NDArray[np.float64]
    least: Fraction
    kept: Selection | None = None
    lowest: float = math.inf
    lifts: dict[float, Fraction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        run = self.run
        self.by_score = run.ordered(self.scores, by_cost=False)
        classes = run.classes[run.eligible] if run.classes.size else None
        expected = expected_sum(self.scores[run.eligible], run.asked, classes)
        self.scale = LiftScale(expected, self.sum_of(self.by_score))

    def sum_of(self, selection: Selection) -> Fraction:
        """The sum of the scores of its picks, without the included rows."""
        return exact_sum(self.scores[selection.order[selection.included :]])

    def lift_of(self, selection: Selection) -> Fraction:
        """The lift of its picks."""
        return self.scale.lift(self.sum_of(selection))

    def smallest(self, progress: Progress) -> int:
        """The place of the smallest accepted γ_r on the grid, or LAST + 1."""
        if self.scale.flat:
            return 0
        if self.run.few:
            place = search.bisected(lambda gamma: self.tries([gamma])[0].accepted, progress)
        else:
            with search.steps_of(progress) as step:
                place = search.sectioned(self.tries, step)
        if place > search.LAST and self._last() < self.least:
            with search.steps_of(progress) as step:
                known = {gamma: self._trial(gamma) for gamma in self.lifts}
                place = search.climbed(self.tries, known, step)
        return place

    def _last(self) -> Fraction:
        """The lift of the picks in the order of the propagated scores, as if γ_r had no end."""
        return self.lift_of(self.run.ordered(self.run.propagated, by_cost=False))

    def tries(self, gammas: Sequence[float]) -> list[Trial]:
        """Select with several values of γ_r, in threads."""
        found: dict[float, Selection] = {}

        def one(gamma: float) -> None:
            found[gamma] = self.run.full(gamma, by_cost=False)

        self.run.at_once(one, gammas)
        for gamma in gammas:
            selection = found.pop(gamma)
            self.lifts[gamma] = self.lift_of(selection)
            if self.lifts[gamma] >= self.least and gamma < self.lowest:
                self.kept, self.lowest = selection, gamma
        return [self._trial(gamma) for gamma in gammas]

    def thinned(self, narrow: Selection) -> tuple[Selection, int | None, Decision]:
        """Evenly spaced picks of a larger selection with GAMMA_LOW; `narrow` is that of N picks.

        Returns the kept picks, W (None: `narrow` is kept), and the decision. Without quotas, the
        selections are prefixes of one; with quotas, each size is a run.
        """
        run, picks = self.run, int(self.run.asked.sum())
        rows, tried = int(np.count_nonzero(run.eligible)), dict[int, dict[str, Any]]()
        whole = None if run.classes.size else _widened(run, rows).full(GAMMA_LOW, by_cost=False)

        def selected(wide: int) -> Selection:
            if whole is None:
                return _widened(run, wide).full(GAMMA_LOW, by_cost=False)
            return whole.prefix(run.included + wide)

        found, width = narrow, None
        step, beyond = 0, math.ceil(math.log(rows / picks, _WIDER)) + 1
        while beyond - step > 1:
            middle = (step + beyond) // 2
            wide = min(rows, math.ceil(picks * _WIDER**middle))
            if wide not in tried:  # several j have the same size if N is small
                selection = selected(wide)
                thin = thinned(selection, run.size, run.rules)
                lift = self.lift_of(thin)
                kept = lift >= self.least and selection.ran_out_at is None
                size = selection.order.size
                tried[wide] = {"picks": size, "lift": float(lift), "kept": kept}
                if kept:
                    found, width = thin, wide
            step, beyond = (middle, beyond) if tried[wide]["kept"] else (step, middle)
        decision = Decision(
            "thinning", found.thinned_from, _THINNING, {"tried": list(tried.values())}
        )
        return found, width, decision

    def _trial(self, gamma: float) -> Trial:
        surplus = self.lifts[gamma] - self.least
        return Trial(surplus >= 0, float(surplus))

    def decision(self, found: Selection, kept: KeptLift, bound: str | None) -> Decision:
        """The choice of γ_r, with each value that was tried."""
        picks = found.order.size - found.included
        totals = (self.scale.random, self.scale.best, self.sum_of(found))
        numbers: dict[str, Any] = {
            "picks": picks,
            "least_lift": kept.least,
            "lift": kept.reached,
            **{
                name: float(total / picks) if picks else None
                for name, total in zip(("mean_all", "mean_best", "mean_kept"), totals, strict=True)
            },
            "selected_neighbours": kept.neighbours,
            "selected_neighbours_by_score": kept.neighbours_by_score,
            "bounds": [GAMMA_LOW, GAMMA_HIGH],
            "tolerance": GAMMA_TOLERANCE,
            "at_bound": bound,
            "tried": [
                {"gamma": gamma, "lift": float(lift), "kept": lift >= self.least}
                for gamma, lift in self.lifts.items()
            ],
        }
        return Decision("gamma_reverse", found.gamma_reverse, _RULE, numbers)


def _widened(run: Run, wide: int) -> Run:
    """The problem of picking `wide` rows besides the included ones, in the same workspaces."""
    return run.with_rules(*widened(run.size, wide, run.rules))


def selected_neighbours(run: Run, selected: NDArray[np.int64]) -> float:
    """The mean number of selected neighbours of a selected row; `selected` are row numbers (N,)."""
    marked = np.zeros(run.parts.n, np.bool_)
    marked[selected] = True
    return float(run.marked_neighbours(marked, np.flatnonzero(marked)).mean())
