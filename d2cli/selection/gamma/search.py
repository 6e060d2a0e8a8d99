"""The search for γ_r: the smallest value of a grid that a rule accepts.

The grid has ``2**HALVINGS + 1`` values from GAMMA_LOW to GAMMA_HIGH, found by repeated halving of
log γ_r, so that neighbours have a ratio below GAMMA_TOLERANCE. Strong messages (small γ_r) are
refused and weak ones accepted. The result is accepted, and the grid value below it is refused; if
a small γ_r is accepted and a larger one refused, which happens with few rows, there may be several
such values.

- :func:`bisected`: one value after the other, by halving. For few rows.
- :func:`sectioned`: two values at once, near where the trials so far place the result. About a
  third of the runs.
- :func:`climbed`: afterwards, for a rule that may refuse GAMMA_HIGH and accept a smaller value.

None depends on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from d2cli.engine.threads import Progress
from d2cli.selection.sizes import AT_ONCE

#: Bounds of an automatic γ_r. At the median distance a reverse message takes 99 % of the pick's
#: score at 0.01, and nothing at 100.
GAMMA_LOW, GAMMA_HIGH = 0.01, 100.0
GAMMA_TOLERANCE = 1.01  #: neighbours on the grid have at most this ratio
HALVINGS = math.ceil(math.log2(math.log(GAMMA_HIGH / GAMMA_LOW) / math.log(GAMMA_TOLERANCE)))
LAST = 1 << HALVINGS  #: the place of GAMMA_HIGH; GAMMA_LOW has the place 0
_SUMMIT = LAST // 64  # :func:`climbed` halves no smaller gaps; a ratio of 1.15
_SLOW = 4  # slow steps until :func:`sectioned` goes by thirds
_FIRST = (LAST // 2, LAST // 2 + LAST // 8)  # γ_r = 1 and 3.2: results are mostly 0.5 to 5


class Trial(NamedTuple):
    """What a rule says of one γ_r."""

    accepted: bool
    value: float  #: rises with γ_r: below 0 if refused, at least 0 if accepted


@cache
def grid(place: int) -> float:
    """γ_r at a place of the grid, 0 … LAST."""
    if place in (0, LAST):
        return GAMMA_HIGH if place else GAMMA_LOW
    half = place & -place  # the two values that this one halves are this far away
    return math.sqrt(grid(place - half) * grid(place + half))


@contextmanager
def steps_of(progress: Progress) -> Iterator[Callable[[int], None]]:
    """What :func:`sectioned` calls after each step: it tells `progress`, which ends with the block.

    The number of steps is not known before; the last one is only told at the end.
    """
    steps, done = 2 + 2 * HALVINGS // 3, 0

    def step(_: int) -> None:
        nonlocal done
        done = min(done + 1, steps - 1)
        progress("gamma_reverse", done, steps)

    progress("gamma_reverse", 0, steps)
    yield step
    progress("gamma_reverse", steps, steps)


def bisected(accepts: Callable[[float], bool], progress: Progress) -> int:
    """The place of the smallest accepted γ_r, or LAST + 1 if none is; bisection."""
    steps = 1 + HALVINGS
    progress("gamma_reverse", 0, steps)
    low, high = 0, LAST
    if accepts(GAMMA_LOW):
        high = 0
    else:
        for step in range(1, steps):
            progress("gamma_reverse", step, steps)
            middle = (low + high) // 2
            low, high = (low, middle) if accepts(grid(middle)) else (middle, high)
        # GAMMA_HIGH takes the longest run and is rarely the answer, so it is tried last.
        if high == LAST and not accepts(GAMMA_HIGH):
            high = LAST + 1
    progress("gamma_reverse", steps, steps)
    return high


def sectioned(
    tried: Callable[[Sequence[float]], list[Trial]], step: Callable[[int], object]
) -> int:
    """The place of the smallest accepted γ_r, or LAST + 1 if none is accepted.

    Args:
        tried: tries several values of γ_r; its trials do not depend on each other.
        step: called with the number of places that are still open, after each call of `tried`.
    """
    low, high, slow = -1, LAST + 1, 0
    known: dict[int, Trial] = {}
    while high - low > 1:
        places, before = _next(known, low, high, slow), high - low
        for place, trial in zip(places, tried([grid(p) for p in places]), strict=True):
            known[place] = trial
        high = min([high, *(p for p in places if known[p].accepted)])
        low = max([low, *(p for p in places if not known[p].accepted and p < high)])
        slow += 2 * (high - low) > before
        step(high - low - 1)
    return high


def climbed(
    tried: Callable[[Sequence[float]], list[Trial]], known: dict[float, Trial],
    step: Callable[[int], object],
) -> int:  # fmt: skip
    """The place of an accepted γ_r after all trials so far were refused, or LAST + 1.

    For a rule whose value rises with γ_r up to a summit and falls beyond it. The gaps beside the
    highest value are halved, two values at once, until one is accepted or both gaps are small. The
    accepted value is then followed down by bisection.

    Args:
        tried: as of :func:`sectioned`.
        known: the trials so far, by γ_r; at least one, GAMMA_HIGH among them.
        step: called with the number of places that are still open, after each call of `tried`.
    """
    trials, accepted = {_places()[gamma]: trial for gamma, trial in known.items()}, list[int]()
    while not accepted:
        top = max(trials, key=lambda p: (trials[p].value, -p))
        below = max((p for p in trials if p < top), default=-1)
        above = min((p for p in trials if p > top), default=top)
        gaps = [(a, b) for a, b in ((below, top), (top, above)) if b - a > _SUMMIT]
        if not gaps:
            return LAST + 1
        places = [(a + b) // 2 for a, b in gaps]
        trials |= zip(places, tried([grid(p) for p in places]), strict=True)
        accepted = [p for p in places if trials[p].accepted]
        step(sum(b - a for a, b in gaps))
    high = accepted[0]
    low = max((p for p in trials if p < high), default=-1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tried([grid(middle)])[0].accepted else (middle, high)
        step(high - low - 1)
    return high


@cache
def _places() -> dict[float, int]:
    """The place of each value of the grid."""
    return {grid(place): place for place in range(LAST + 1)}


def _next(known: dict[int, Trial], low: int, high: int, slow: int) -> list[int]:
    """At most AT_ONCE places between `low` (refused) and `high` (accepted), ascending.

    Two secants point at the result: one through the last two refused trials, which mostly points
    too high, and one through the first two accepted ones, which mostly points too low. `slow`
    counts steps that did not halve what is open: each moves the next places apart, and after
    _SLOW of them, places are thirds.
    """
    refused, accepted = sorted(p for p in known if p <= low), sorted(p for p in known if p >= high)
    below = _root([(p, known[p].value) for p in refused[-2:]])
    above = _root([(p, known[p].value) for p in accepted[:2]])
    first, last = low + (high - low) / 3, high - (high - low) / 3
    if not known:
        first, last = _FIRST
    elif slow >= _SLOW:
        slow = 0
    elif below is not None and above is not None:
        first, last = min(below, above), max(below, above)
    elif below is not None:
        first, last = (low + below) / 2, below
    elif above is not None:
        first, last = above, (above + high) / 2
    first, last = math.floor(first) - (1 << slow) + 1, math.ceil(last) + (1 << slow) - 1
    places = (first, last)
    assert len(places) == AT_ONCE
    return sorted({min(max(place, low + 1), high - 1) for place in places})


def _root(points: list[tuple[int, float]]) -> float | None:
    """Where the line through two points is 0; None if it does not rise."""
    if len(points) < 2:
        return None
    (a, at_a), (b, at_b) = points
    slope = (at_b - at_a) / (b - a)
    return b - at_b / slope if slope > 0 else None
