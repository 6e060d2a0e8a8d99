"""The search for an automatic γ_r."""

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from d2cli.engine.threads import silent
from d2cli.selection.gamma.search import (
    GAMMA_HIGH,
    GAMMA_LOW,
    GAMMA_TOLERANCE,
    LAST,
    Trial,
    bisected,
    climbed,
    grid,
    sectioned,
)
from d2cli.selection.sizes import AT_ONCE

PLACES = {grid(place): place for place in range(LAST + 1)}


def test_grid_goes_from_the_lowest_to_the_highest_value():
    values = [grid(place) for place in range(LAST + 1)]
    assert (values[0], values[-1]) == (GAMMA_LOW, GAMMA_HIGH)
    steps = np.diff(np.log(values))
    assert steps.min() > 0
    assert steps.max() < math.log(GAMMA_TOLERANCE)


@given(st.integers(0, LAST + 1))
def test_bisection_finds_the_smallest_accepted_value(smallest):
    asked = []

    def accepts(gamma):
        asked.append(gamma)
        return PLACES[gamma] >= smallest

    assert bisected(accepts, silent) == smallest
    assert len(asked) <= 12


@st.composite
def rising_trials(draw):
    """(the smallest accepted place, trials by place): numbers that rise with the place."""
    smallest = draw(st.integers(0, LAST + 1))
    power = draw(st.floats(0.05, 8))
    jump = draw(st.sampled_from([0.0, 0.3]))
    levels = draw(st.sampled_from([4, 10**6]))

    def trial(place):
        if place >= smallest:
            more = (place - smallest) / LAST
            return Trial(True, jump + math.floor(levels * more**power) / levels)
        less = 1 - (smallest - place) / (LAST + 2)
        share = (1 - jump) * math.floor(levels * less**power) / (levels + 1)
        return Trial(False, math.log(max(share, 1e-9)))

    return smallest, trial


@given(rising_trials())
def test_sectioning_finds_the_smallest_accepted_value(problem):
    smallest, trial = problem
    asked, open_places = [], []

    def tried(gammas):
        assert 1 <= len(gammas) <= AT_ONCE
        places = [PLACES[gamma] for gamma in gammas]
        assert places == sorted(set(places))
        asked.extend(places)
        return [trial(place) for place in places]

    assert sectioned(tried, open_places.append) == smallest
    assert len(set(asked)) == len(asked) <= 40
    assert open_places == sorted(open_places, reverse=True)
    assert open_places[-1] == 0


@given(st.integers(0, LAST), st.floats(-0.5, 0.2), st.lists(st.integers(0, LAST), max_size=8))
def test_climbing_finds_an_accepted_value_near_the_summit(summit, height, known):
    """A single summit: if its value is accepted and wide enough, the lowest accepted is found."""

    def trial(place):
        value = height - abs(place - summit) / 100
        return Trial(value >= 0, value)

    before = {grid(p): trial(p) for p in {*known, LAST}}
    assume(not any(one.accepted for one in before.values()))
    asked = []

    def tried(gammas):
        assert 1 <= len(gammas) <= AT_ONCE
        asked.extend(PLACES[gamma] for gamma in gammas)
        return [trial(PLACES[gamma]) for gamma in gammas]

    found = climbed(tried, before, lambda _: None)
    assert len(asked) == len(set(asked)) <= 24
    if height < 0:
        assert found == LAST + 1
    elif height > 0.16:  # 32 accepted places
        assert trial(found).accepted
        assert found == 0 or not trial(found - 1).accepted


def test_sectioning_of_a_smooth_curve_takes_few_runs():
    for smallest in range(300, 800, 7):
        asked = []

        def tried(gammas, smallest=smallest, asked=asked):
            asked.extend(gammas)
            places = [(PLACES[gamma] - smallest) / 128 for gamma in gammas]
            return [Trial(x >= 0, 0.6 * x if x < 0 else 1 - math.exp(-x)) for x in places]

        assert sectioned(tried, lambda _: None) == smallest
        assert len(asked) <= 10
