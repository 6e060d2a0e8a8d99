"""The trainings and their order, so that an interrupted run already has results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from store import Inputs, Training

RESULTS = Path(__file__).resolve().parent / "results"
#: In the order of the run.
RATES = (0.2, 0.1, 0.3, 0.05, 0.5)
#: Shares of wrong captions, in the order of the run.
NOISES = (0.3, 0.0)
#: Methods without settings.
FIXED = ("random", "highest")
LIFTS = (0.9, 0.95, 0.98)
#: The defaults of ``d2prune select --higher-is better``, one of the settings that are tried.
D2_DEFAULTS = {"keep_lift": 0.95, "transform": "center"}
#: β of CCS. A β of 1 − rate would leave nothing to choose: it is the highest scores.
CUTOFFS = (0.0, 0.3, 0.5, 0.7)
#: The settings that each method is tried with; one is chosen for each rate on the validation sets.
GRID: dict[str, tuple[dict[str, Any], ...]] = {
    "deduplicated": tuple({"keep_lift": level} for level in LIFTS),
    "ccs": tuple({"cutoff": beta} for beta in CUTOFFS),
    "d2": tuple({**D2_DEFAULTS, "keep_lift": level} for level in LIFTS),
}


def inputs_of(noise: float, seed: int) -> Inputs:
    """The inputs of one seed: a pool, its captions and its scores."""
    return Inputs("icons", noise, "cosine", "test", seed)


def settings_of(method: str, rate: float) -> tuple[dict[str, Any], ...]:
    """The settings that a method is tried with at a rate."""
    if method != "ccs":
        return GRID.get(method, ({},))
    return tuple(s for s in GRID[method] if s["cutoff"] < 1 - rate)


def trainings(inputs: Inputs) -> Iterator[Training]:
    """Yield the trainings of one seed, all rates of a method's settings included."""
    yield Training(inputs, "everything", 1.0)
    for rate in RATES:
        for method in (*FIXED, *GRID):
            for settings in settings_of(method, rate):
                yield Training(inputs, method, rate, settings)
