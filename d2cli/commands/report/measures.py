"""The measures of a report: of each selection, and of random selections of its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.measure import Ruler, Spread, vectors_of
from d2cli.commands.report.inputs import ReportData
from d2cli.commands.requests import ReportOptions
from d2cli.engine.threads import Progress
from d2cli.evaluation.balance import BinCounts, class_balance, rank_groups, score_balance
from d2cli.evaluation.coverage import Coverage, most_covering, random_distances
from d2cli.evaluation.lift import lift
from d2cli.evaluation.redundancy import Redundancy, random_redundancy
from d2cli.evaluation.selections import RANDOM_SEEDS, shared_rows, top_places
from d2cli.files.selection_file import SelectionFile, StoredSelection

#: Groups of equal size in the order of difficulty, and bins of the score.
SCORE_GROUPS, SCORE_BINS = 20, 30
#: Quantiles of the distances, for the curves.
QUANTILES = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class RandomMeasures:
    """Measures of random selections of one size, seed by seed; `quantiles` are their means."""

    coverage: list[Coverage]
    quantiles: NDArray[np.float64]
    redundancy: list[Redundancy]


@dataclass(frozen=True)
class Example:
    """A row, the `value` that it was chosen by, and for dropped rows the nearest kept row."""

    row: int
    value: float
    twin: int | None = None


@dataclass(frozen=True)
class SelectionMeasures:
    """One selection and its measures; `lift` is among all rows of the report."""

    selection: StoredSelection
    coverage: Coverage
    quantiles: NDArray[np.float64]
    redundancy: Redundancy
    random: RandomMeasures
    lift: float
    bins: BinCounts
    groups: BinCounts
    classes: BinCounts | None
    examples: dict[str, list[Example]]

    @property
    def kept(self) -> int:
        """The number of rows kept."""
        return int(self.selection.rows.size)

    @property
    def file(self) -> SelectionFile:
        """The file of the selection."""
        return self.selection.file


@dataclass(frozen=True)
class Measures:
    """The measures of all selections.

    Attributes:
        vectors: (n, d) as distances are measured on them.
        bin_edges: (SCORE_BINS + 1,) of the bins of the score.
        threshold: see :class:`~d2cli.evaluation.redundancy.Redundancy`.
        measured_rows: number of rows that distances were measured on.
        shared: (s, s) numbers of rows in common.
    """

    vectors: NDArray[np.floating]
    bin_edges: NDArray[np.float64]
    threshold: float
    measured_rows: int
    selections: list[SelectionMeasures]
    shared: NDArray[np.int64]


def measure(data: ReportData, options: ReportOptions, threads: int, progress: Progress) -> Measures:
    """Measure every selection; distances of at most `measured_rows` rows."""
    sizes = list(dict.fromkeys(int(one.rows.size) for one in data.selections))
    done, steps = count(1), 1 + len(data.selections) + 2 * RANDOM_SEEDS * len(sizes)

    def tick() -> None:
        progress("measure", next(done), steps)

    with data.bad.counting(data.emb, data.metric):
        vectors = vectors_of(data.emb, data.metric, threads, progress, data.rows)
    ruler = Ruler(vectors, options.measured_rows, options.seed, threads)
    tick()
    random = {size: _random(ruler, size, tick) for size in sizes}
    edges = np.histogram_bin_edges(data.scores, SCORE_BINS)
    groups, codes = rank_groups(data.difficulty, SCORE_GROUPS), data.codes
    worth = -data.scores if data.higher_is == "easier" else data.scores
    measured = []
    for one in data.selections:
        kept = one.rows
        spread = ruler.measure(kept)
        tick()
        measured.append(
            SelectionMeasures(
                one, spread.coverage, _quantiles(spread.distances), spread.redundancy,
                random[kept.size],
                lift(worth, kept),
                score_balance(data.scores, kept, edges),
                class_balance(groups, kept, SCORE_GROUPS),
                None if codes is None else class_balance(codes, kept, len(data.classes)),
                _examples(data, kept, ruler.rows, spread, options.examples),
            )
        )  # fmt: skip
    shared = shared_rows([one.rows for one in data.selections], data.scores.size)
    return Measures(vectors, edges, ruler.threshold, int(ruler.rows.size), measured, shared)


def _quantiles(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.quantile(distances.astype(np.float64), QUANTILES)


def _random(ruler: Ruler, size: int, tick: Callable[[], None]) -> RandomMeasures:
    """The measures of random selections of `size` rows, one for each seed."""
    coverage, quantiles = [], []
    for distances in random_distances(
        ruler.vectors, size, metric="euclidean", rows=ruler.rows, threads=ruler.threads
    ):
        coverage.append(Coverage.of(distances))
        quantiles.append(_quantiles(distances))
        tick()
    redundancy = random_redundancy(
        ruler.vectors, size, ruler.threshold,
        metric="euclidean", most=ruler.most, threads=ruler.threads,
    )  # fmt: skip
    for _ in redundancy:
        tick()
    return RandomMeasures(coverage, np.mean(quantiles, axis=0), redundancy)


def _examples(
    data: ReportData, kept: NDArray[np.int64], rows: NDArray[np.int64], spread: Spread, most: int
) -> dict[str, list[Example]]:
    """The examples of the page, by kind; at most `most` of each."""
    distances, which = spread.distances, spread.nearest
    covering, counts = most_covering(which, kept, most)
    hardest = kept[top_places(kept, data.difficulty[kept], most)]
    is_kept = np.zeros(data.scores.size, np.bool_)
    is_kept[kept] = True
    out = np.flatnonzero(~is_kept[rows])

    def dropped(places: NDArray[np.int64]) -> list[Example]:
        return [Example(int(rows[p]), float(distances[p]), int(which[p])) for p in out[places]]

    return {
        "most_covering": [Example(int(r), int(c)) for r, c in zip(covering, counts, strict=True)],
        "hardest_kept": [Example(int(r), float(data.scores[r])) for r in hardest],
        "most_redundant_dropped": dropped(top_places(rows[out], -distances[out], most)),
        "least_covered": dropped(top_places(rows[out], distances[out], most)),
    }
