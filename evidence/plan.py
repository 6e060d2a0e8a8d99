"""The trainings and their order, so that an interrupted run already has results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from store import Inputs, Store, Training

RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
#: Methods without settings or with published settings; D2 with its defaults is the first.
FIXED = (
    *("d2", "random", "highest", "moderate"),
    *("k-center", "facility-location", "near-duplicates", "zcore", "d2-partial"),
)
#: Methods of comparisons with EL2N only: other scores cost little, and none of them is missing.
EL2N_ONLY = ("d2-partial",)
CUTOFFS = (0.0, 0.1, 0.2, 0.3, 0.5)
#: The largest β of the grid at high rates: larger ones leave few rows and were far from best.
LARGEST_CUTOFF = {0.5: 0.2, 0.7: 0.1}
ALPHAS = (0.1, 0.03, 0.01, 0.3)
#: Settings, each with the values that are tried; ties go to the first value.
Grid = tuple[tuple[str, tuple[Any, ...]], ...]
#: The methods whose settings are tuned for each rate. Several settings are tuned one after the
#: other, each with the best values of those before it.
GRIDS: dict[str, Grid] = {
    "cutoff": (("cutoff", CUTOFFS),),
    "ccs": (("cutoff", CUTOFFS),),
    "d2": (
        ("cutoff", ("auto", *CUTOFFS)),
        ("k", (10, 5, 20)),
        ("gamma_reverse", ("auto", 0.3, 1.0)),
    ),
    "d2-paper": (("cutoff", CUTOFFS), ("k", (10, 5, 20)), ("gamma_reverse", (0.1, 0.3, 1.0))),
    "graph-cut": (("alpha", ALPHAS),),
    "infomax": (("alpha", ALPHAS),),
    "semdedup-then-score": (("lift", (0.95, 0.8, 0.5)),),
    "dual-sampling": (("shape", (4.0, 11.0)),),
}
#: Defaults, which settings leave out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "d2": {"cutoff": "auto", "k": 10, "gamma_reverse": "auto"},
    "d2-paper": {"cutoff": 0.0, "k": 10, "gamma_reverse": 0.1},
}
TUNING_SEED = 100

#: Data set, share of noise, scores.
Comparison = tuple[str, float, str]

#: The comparisons, in the order of the run. No default was chosen on kernel_docs.
COMPARISONS: tuple[Comparison, ...] = (
    ("wordnet", 0.0, "el2n"),
    ("fashion_mnist", 0.0, "el2n"),
    ("wordnet", 0.1, "el2n"),
    ("fashion_mnist", 0.1, "el2n"),
    ("wordnet", 0.0, "prototypicality"),
    ("fashion_mnist", 0.0, "prototypicality"),
    ("wordnet", 0.0, "knn-distance"),
    ("fashion_mnist", 0.0, "knn-distance"),
    ("kernel_docs", 0.0, "el2n"),
    ("kernel_docs", 0.1, "el2n"),
)


def stages(comparison: Comparison, seeds: int, store: Store) -> Iterator[list[Training]]:
    """Yield lists of trainings; a list may depend on the results of earlier lists.

    1. Methods without settings, one seed.
    2. Tuning.
    3. All methods, seed by seed.
    """
    inputs = [Inputs(*comparison, "test", seed) for seed in range(seeds)]
    yield fixed(inputs[0])
    for method in tuned_methods(comparison):
        yield from tuning(comparison, method, store)
    for one in inputs:
        yield [*fixed(one), *tuned(one, store)]


def tuned_methods(comparison: Comparison) -> list[str]:
    """Return the methods that are tuned; dual-sampling needs a model that was trained on labels."""
    _, _, scores = comparison
    return [method for method in GRIDS if method != "dual-sampling" or scores == "el2n"]


def fixed(inputs: Inputs) -> list[Training]:
    """Return the trainings that need no tuning, and training on all rows."""
    everything = Training(inputs, "everything", 1.0)
    methods = [m for m in FIXED if inputs.scores == "el2n" or m not in EL2N_ONLY]
    return [everything, *(Training(inputs, m, rate) for m in methods for rate in RATES)]


def tuned(inputs: Inputs, store: Store) -> list[Training]:
    """Return each tuned method with its best settings on the validation split."""
    comparison = (inputs.dataset, inputs.noise, inputs.scores)
    return [
        Training(inputs, method, rate, best(comparison, method, rate, store))
        for method in tuned_methods(comparison)
        for rate in RATES
    ]


def tuning(comparison: Comparison, method: str, store: Store) -> Iterator[list[Training]]:
    """Yield the trainings on the validation split that decide the settings."""
    inputs = Inputs(*comparison, "validation", TUNING_SEED)
    grid = GRIDS[method]
    for upto in range(1, len(grid) + 1):
        yield [
            Training(inputs, method, rate, settings)
            for rate in RATES
            for settings in candidates(comparison, method, rate, store, grid[:upto])
        ]


def candidates(
    comparison: Comparison, method: str, rate: float, store: Store, grid: Grid
) -> list[dict[str, Any]]:
    """Return settings with each value of the last setting of `grid`, the others at their best."""
    before = best(comparison, method, rate, store, grid[:-1]) if len(grid) > 1 else {}
    name, values = grid[-1]
    if name == "cutoff":
        values = tuple(v for v in values if v == "auto" or v <= LARGEST_CUTOFF.get(rate, 1.0))
    return [_without_defaults(method, {**before, name: value}) for value in values]


def best(
    comparison: Comparison, method: str, rate: float, store: Store, grid: Grid | None = None
) -> dict[str, Any]:
    """Return the settings with the highest validation accuracy; ties go to the first."""
    grid = GRIDS[method] if grid is None else grid
    inputs = Inputs(*comparison, "validation", TUNING_SEED)
    options = candidates(comparison, method, rate, store, grid)
    found = [store.accuracy(Training(inputs, method, rate, s)) for s in options]
    if any(f is None for f in found):
        raise LookupError(f"{method} is not tuned yet at {rate:g}")
    return options[found.index(max(found))]  # type: ignore[type-var]


def _without_defaults(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out defaults. If γ_r of d2 is a number, the cutoff stays: its default is then 0."""
    defaults = DEFAULTS.get(method, {})
    others = {k: v for k, v in settings.items() if k not in defaults or v != defaults[k]}
    if method == "d2" and "gamma_reverse" in others:
        others["cutoff"] = settings.get("cutoff", defaults["cutoff"])
    return others
