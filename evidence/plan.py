"""Which trainings, in which order: an interrupted run should have something to say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from store import Inputs, Store, Training

RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
#: Methods whose settings are the published ones, or that have none. D2 with its defaults leads.
FIXED = (
    *("d2", "random", "highest", "moderate"),
    *("k-center", "facility-location", "near-duplicates"),
)
#: Methods with settings that are tuned for each rate.
TUNED = ("cutoff", "ccs", "d2")
CUTOFFS = (0.0, 0.1, 0.2, 0.3, 0.5)
#: Where so much is kept, a larger cutoff leaves little to choose from and is far from best.
LARGEST_CUTOFF = {0.5: 0.2, 0.7: 0.1}
#: D2's settings are tuned one after the other, each with the best of those before.
D2_GRID: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("cutoff", ("auto", *CUTOFFS)),
    ("k", (10, 5, 20)),
    ("gamma_reverse", ("auto", 0.3, 1.0)),
)
#: D2's defaults, which settings leave unsaid.
D2_DEFAULTS = {"cutoff": "auto", "k": 10, "gamma_reverse": "auto"}
TUNING_SEED = 100

#: Data set, share of noise, scores.
Comparison = tuple[str, float, str]

#: The comparisons, in the order in which they are run.
COMPARISONS: tuple[Comparison, ...] = (
    ("wordnet", 0.0, "el2n"),
    ("fashion_mnist", 0.0, "el2n"),
    ("wordnet", 0.1, "el2n"),
    ("fashion_mnist", 0.1, "el2n"),
    ("wordnet", 0.0, "prototypicality"),
    ("fashion_mnist", 0.0, "prototypicality"),
    ("wordnet", 0.0, "knn-distance"),
    ("fashion_mnist", 0.0, "knn-distance"),
)


def stages(comparison: Comparison, seeds: int, store: Store) -> Iterator[list[Training]]:
    """Lists of trainings; each list may depend on the results of those before it.

    One seed of what has no settings; tuning; one seed of what is tuned; then the other seeds.
    """
    inputs = [Inputs(*comparison, "test", seed) for seed in range(seeds)]
    yield fixed(inputs[0])
    for method in TUNED:
        yield from tuning(comparison, method, store)
    for one in inputs:
        yield [*fixed(one), *tuned(one, store)]


def fixed(inputs: Inputs) -> list[Training]:
    """All that needs no tuning, and training on everything."""
    everything = Training(inputs, "everything", 1.0)
    return [everything, *(Training(inputs, m, rate) for m in FIXED for rate in RATES)]


def tuned(inputs: Inputs, store: Store) -> list[Training]:
    """Each tuned method with its best settings on the validation split."""
    comparison = (inputs.dataset, inputs.noise, inputs.scores)
    return [
        Training(inputs, method, rate, best(comparison, method, rate, store))
        for method in TUNED
        for rate in RATES
    ]


def tuning(comparison: Comparison, method: str, store: Store) -> Iterator[list[Training]]:
    """The trainings that tell which settings are best."""
    inputs = Inputs(*comparison, "validation", TUNING_SEED)
    grid = D2_GRID if method == "d2" else (("cutoff", CUTOFFS),)
    for upto in range(1, len(grid) + 1):
        yield [
            Training(inputs, method, rate, settings)
            for rate in RATES
            for settings in candidates(comparison, method, rate, store, grid[:upto])
        ]


def candidates(
    comparison: Comparison,
    method: str,
    rate: float,
    store: Store,
    grid: tuple[tuple[str, tuple[Any, ...]], ...],
) -> list[dict[str, Any]]:
    """The values of the last of `grid`, with the best of those before it."""
    before = best(comparison, method, rate, store, grid[:-1]) if len(grid) > 1 else {}
    name, values = grid[-1]
    if name == "cutoff":
        values = tuple(v for v in values if v == "auto" or v <= LARGEST_CUTOFF.get(rate, 1.0))
    settings = [{**before, name: value} for value in values]
    return settings if method != "d2" else [_said(s) for s in settings]


def best(
    comparison: Comparison,
    method: str,
    rate: float,
    store: Store,
    grid: tuple[tuple[str, tuple[Any, ...]], ...] | None = None,
) -> dict[str, Any]:
    """The settings with the highest accuracy on the validation split; of equals the first."""
    if grid is None:
        grid = D2_GRID if method == "d2" else (("cutoff", CUTOFFS),)
    inputs = Inputs(*comparison, "validation", TUNING_SEED)
    options = candidates(comparison, method, rate, store, grid)
    found = [store.accuracy(Training(inputs, method, rate, s)) for s in options]
    if any(f is None for f in found):
        raise LookupError(f"{method} is not tuned yet at {rate:g}")
    return options[found.index(max(found))]  # type: ignore[type-var]


def _said(settings: dict[str, Any]) -> dict[str, Any]:
    """D2's settings without its defaults. With a γ_r in numbers the cutoff must be said."""
    full = {**D2_DEFAULTS, **settings}
    told = {k: v for k, v in full.items() if v != D2_DEFAULTS[k]}
    return told if full["gamma_reverse"] == "auto" else {**told, "cutoff": full["cutoff"]}
