"""The rule of an automatic γ_r: messages outlast the picks, or leave the picks their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import Progress
from d2cli.runtime.decisions import Decision
from d2cli.selection.gamma import search
from d2cli.selection.gamma.search import GAMMA_HIGH, GAMMA_LOW, GAMMA_TOLERANCE, Trial
from d2cli.selection.greedy import Run, Selection
from d2cli.selection.sizes import outlasting

#: Every pick must score above this share of the lowest score that is picked without messages.
LAST_KEEPS = 2 / 3

_RULE = (
    "smallest γ_r for which the best score stays above 0 for ⌈m (1 − (1 − N/m)³)⌉ picks, "
    f"m = eligible rows; or for which all N picks score above {LAST_KEEPS:.3g} of the lowest score "
    "that is picked without messages"
)


def smallest_outlasting(run: Run, progress: Progress) -> Selection:
    """The selection with the smallest γ_r (the strongest diversity) for which one of these holds.

    - *outlasts*: the best score is above 0 at each of the first ``⌈m (1 − (1 − N/m)³)⌉``
      picks, with m eligible rows and N picks of them; with quotas, m and N are those of each class.
    - *keeps*: at each of the picks, the score is above 2/3 of the lowest score that would be picked
      without messages. This applies if most scores are zero.

    γ_r is in GAMMA_LOW … GAMMA_HIGH, found to a ratio of GAMMA_TOLERANCE; GAMMA_HIGH if neither
    holds for any.
    """
    conditions = _Conditions(run)
    place = conditions.smallest(progress)
    bound: Literal["low", "high"] | None = "low" if place == 0 else None
    if place > search.LAST:
        place, bound = search.LAST, "high"
    value = search.grid(place)
    decision = conditions.decision(value, bound)
    return replace(run.full(value), at_bound=bound, decisions=(decision,))


@dataclass
class _Conditions:
    """The two conditions of :func:`smallest_outlasting`, and what was tried."""

    run: Run
    tried: dict[float, dict[str, float | bool]] = field(default_factory=dict)

    def smallest(self, progress: Progress) -> int:
        """The place of the smallest accepted γ_r on the grid, or LAST + 1."""
        run = self.run
        if run.few:
            return search.bisected(self._accepts, progress)
        with search.steps_of(progress) as step:
            place, outlasts = search.LAST + 1, partial(self._trials, "outlasts")
            positive = run.rules.count_by_class(run.eligible & (run.propagated > 0))
            if (positive >= self._outlasted).all():
                place = search.sectioned(outlasts, search.LAST, step)
            if place > 0 and self._trials("keeps", [search.grid(place - 1)])[0].accepted:
                place = search.sectioned(partial(self._trials, "keeps"), place - 2, step)
        return place

    def _accepts(self, gamma: float) -> bool:
        return any(self._trials(rule, [gamma])[0].accepted for rule in ("outlasts", "keeps"))

    def _trials(self, rule: str, gammas: Sequence[float]) -> list[Trial]:
        """Try one of the conditions with several values of γ_r, in threads."""
        least, asked = 0.0, self._outlasted
        if rule == "keeps":
            least, asked = self._least_kept, self.run.asked
        found: dict[float, Trial] = {}

        def one(gamma: float) -> None:
            gains, complete = self.run.gains_above(least, gamma, asked)
            if complete:
                found[gamma] = Trial(True, float(gains[-1]) - least if gains.size else 0.0)
            else:
                share = gains.size / int(asked.sum())
                found[gamma] = Trial(False, math.log(max(share, 1e-9)))

        self.run.at_once(one, gammas)
        for gamma in gammas:
            tried = self.tried.setdefault(
                gamma, {"gamma": gamma, "outlasts": False, "keeps": False}
            )
            tried[rule] = found[gamma].accepted
        return [found[gamma] for gamma in gammas]

    def decision(self, gamma: float, bound: str | None) -> Decision:
        """The choice of `gamma`, with each γ_r that was tried.

        A condition that was not tried counts as not met: the other one had decided.
        """
        tried = list(self.tried.values())
        outlasted = all(step["outlasts"] for step in tried)
        numbers: dict[str, Any] = {
            "picks": int(self.run.asked.sum()),
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
        run = self.run
        left = run.rules.count_by_class(run.eligible)
        pairs = zip(run.asked.tolist(), left.tolist(), strict=True)
        return np.array([outlasting(asked, m) for asked, m in pairs], np.int64)

    @cached_property
    def _least_kept(self) -> float:
        """LAST_KEEPS of the lowest score that would be picked without messages, at least 0."""
        run = self.run
        scores = run.propagated[run.eligible]
        if run.classes.size:
            # In each class, ranked from its highest score down, the last pick is the asked-th.
            ranked = scores[np.lexsort((-scores, run.classes[run.eligible]))]
            left = run.rules.count_by_class(run.eligible)
            last = ranked[(np.cumsum(left) - left + run.asked - 1)[run.asked > 0]].min()
        else:
            at = scores.size - int(run.asked.sum())
            last = np.partition(scores, at)[at]
        return max(0.0, LAST_KEEPS * float(last))
