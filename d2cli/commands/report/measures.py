"""The numbers of a report: every selection measured, beside random ones of its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.report.inputs import ReportInputs
from d2cli.commands.requests import ReportOptions
from d2cli.engine.threads import Progress
from d2cli.evaluation.balance import BinCounts, class_balance, rank_groups, score_balance
from d2cli.evaluation.coverage import (
    Coverage,
    most_covering,
    nearest_selected,
    random_distances,
)
from d2cli.evaluation.redundancy import (
    Redundancy,
    nearest_other,
    random_redundancy,
    redundancy_threshold,
)
from d2cli.evaluation.selections import RANDOM_SEEDS, sample_rows, shared_rows, top_places
from d2cli.files.selection_read import SelectionFile
from d2cli.files.sources import blame
from d2cli.graph.vectors import prepare

#: Groups of equal size in the order of difficulty, and bins of the score.
SCORE_GROUPS, SCORE_BINS = 20, 30
#: Quantiles of the distances, for the curves.
QUANTILES = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Chance:
    """What random selections of one size come to, seed by seed."""

    coverage: list[Coverage]
    quantiles: NDArray[np.float64]
    redundancy: list[Redundancy]


@dataclass(frozen=True)
class Example:
    """A row to look at; `value` is what it was chosen for, `twin` its nearest kept row."""

    row: int
    value: float
    twin: int | None = None


@dataclass(frozen=True)
class Measured:
    """One selection and all that was measured of it."""

    selection: SelectionFile
    coverage: Coverage
    quantiles: NDArray[np.float64]
    redundancy: Redundancy
    chance: Chance
    bins: BinCounts
    groups: BinCounts
    classes: BinCounts | None
    examples: dict[str, list[Example]]

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return int(self.selection.rows.size)


@dataclass(frozen=True)
class Measures:
    """All selections, and what they share.

    Attributes:
        vectors: (n, d) as they were measured.
        bin_edges: of the score's bins.
        threshold: see :class:`~d2cli.evaluation.redundancy.Redundancy`.
        measured_rows: how many rows distances were measured on.
        shared: (s, s) rows in common.
    """

    vectors: NDArray[np.floating]
    bin_edges: NDArray[np.float64]
    threshold: float
    measured_rows: int
    selections: list[Measured]
    shared: NDArray[np.int64]


def measure(
    inputs: ReportInputs, options: ReportOptions, threads: int, progress: Progress
) -> Measures:
    """Measure every selection; distances on a sample where there are more rows than asked for."""
    with blame(embeddings=inputs.emb):
        vectors = prepare(inputs.emb.matrix(), inputs.metric, threads=threads, progress=progress)
    n, most = inputs.frame.n, options.measured_rows
    rows = sample_rows(n, most, options.seed)
    total = len(inputs.selections)
    chances = {s.rows.size: None for s in inputs.selections}
    steps = 1 + 2 * total + 2 * RANDOM_SEEDS * len(chances)
    tick = _ticker(progress, steps)
    threshold = redundancy_threshold(vectors, metric="euclidean", rows=rows, threads=threads)
    tick()
    edges = np.histogram_bin_edges(inputs.scores, SCORE_BINS)
    groups = rank_groups(inputs.difficulty, SCORE_GROUPS)
    found: dict[int, Chance] = {}
    for size in chances:
        found[size] = _chance(vectors, size, rows, threshold, most, threads, tick)
    measured = []
    for selection in inputs.selections:
        kept = selection.rows
        distances, which = nearest_selected(
            vectors, kept, metric="euclidean", rows=rows, threads=threads
        )
        tick()
        some = kept[sample_rows(kept.size, most, options.seed)]
        others = nearest_other(vectors, kept, metric="euclidean", rows=some, threads=threads)
        tick()
        codes = inputs.codes
        measured.append(
            Measured(
                selection,
                Coverage.of(distances),
                _quantiles(distances),
                Redundancy.of(others, threshold),
                found[kept.size],
                score_balance(inputs.scores, kept, edges),
                class_balance(groups, kept, SCORE_GROUPS),
                None if codes is None else class_balance(codes, kept, len(inputs.classes)),
                _examples(inputs, kept, rows, distances, which, options.examples),
            )
        )
    shared = shared_rows([s.rows for s in inputs.selections], n)
    return Measures(vectors, edges, threshold, int(rows.size), measured, shared)


def _ticker(progress: Progress, steps: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress("measure", done, steps)

    return tick


def _quantiles(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.quantile(distances.astype(np.float64), QUANTILES)


def _chance(
    vectors: NDArray[np.floating],
    size: int,
    rows: NDArray[np.int64],
    threshold: float,
    most: int,
    threads: int,
    tick: Callable[[], None],
) -> Chance:
    coverage, quantiles = [], []
    for distances in random_distances(
        vectors, size, metric="euclidean", rows=rows, threads=threads
    ):
        coverage.append(Coverage.of(distances))
        quantiles.append(_quantiles(distances))
        tick()
    redundancy = random_redundancy(
        vectors, size, threshold, metric="euclidean", most=most, threads=threads
    )
    for _ in redundancy:
        tick()
    return Chance(coverage, np.mean(quantiles, axis=0), redundancy)


def _examples(
    inputs: ReportInputs,
    kept: NDArray[np.int64],
    rows: NDArray[np.int64],
    distances: NDArray[np.float32],
    which: NDArray[np.int32],
    most: int,
) -> dict[str, list[Example]]:
    """The rows that say most: see the headings of the page."""
    covering, counts = most_covering(which, kept, most)
    hardest = kept[top_places(kept, inputs.difficulty[kept], most)]
    is_kept = np.zeros(inputs.frame.n, np.bool_)
    is_kept[kept] = True
    out = np.flatnonzero(~is_kept[rows])
    near = out[top_places(rows[out], -distances[out], most)]
    far = out[top_places(rows[out], distances[out], most)]
    return {
        "most_covering": [
            Example(int(r), int(c)) for r, c in zip(covering, counts, strict=True)
        ],
        "hardest_kept": [Example(int(r), float(inputs.scores[r])) for r in hardest],
        "most_redundant_dropped": [
            Example(int(rows[p]), float(distances[p]), int(which[p])) for p in near
        ],
        "least_covered": [
            Example(int(rows[p]), float(distances[p]), int(which[p])) for p in far
        ],
    }  # fmt: skip
