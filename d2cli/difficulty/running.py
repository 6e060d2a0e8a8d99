"""Statistics of each row that are updated epoch by epoch; scores are read from them.

p_t is the probability of the label in epoch t, J the length of a window of successive epochs, and T
the number of epochs. Windows start at every epoch from the first to the (T - J + 1)-th.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.difficulty import _trajectories as kernels
from d2cli.difficulty.sizes import CONFIDENCE, CORRECT, KEPT, LOSS, Outputs, Statistic, decay_rows
from d2cli.engine.threads import for_blocks

Rows = slice | NDArray[np.int64]
#: β of TDDS: the weight of a window is β (1 - β)^(number of later windows).
_DECAY = 0.9


class Running(ABC):
    """One statistic of all rows.

    Attributes:
        kept: its arrays, (n, …), of :data:`~d2cli.difficulty.sizes.KEPT`.
    """

    name: Statistic

    def __init__(self, outputs: Outputs, dtype: np.dtype, logits: bool) -> None:
        self._outputs, self._logits = outputs, logits
        self.kept = {
            name: np.zeros(
                (outputs.rows, kept.columns(outputs)) if kept.per else outputs.rows,
                kept.dtype or dtype,
            )
            for name, kept in KEPT[self.name].items()
        }

    @abstractmethod
    def add(
        self, epoch: int, rows: Rows, found: NDArray[np.float64], values: NDArray[np.float64]
    ) -> None:
        """Add some `rows` of one epoch, which counts from 0.

        `found` (m, COLUMNS) are their measures, `values` (m, classes) their outputs.
        """

    @abstractmethod
    def score(self, kind: str, epochs: int, threads: int) -> NDArray[np.float64]:
        """The score (n,) after some `epochs`."""


class Mean(Running):
    """The mean of one measure."""

    name = "mean"

    def __init__(self, outputs: Outputs, dtype: np.dtype, logits: bool, column: int) -> None:
        super().__init__(outputs, dtype, logits)
        self._column = column

    def add(self, epoch: int, rows: Rows, found: Any, values: Any) -> None:
        self.kept["sum"][rows] += found[:, self._column]

    def score(self, kind: str, epochs: int, threads: int) -> NDArray[np.float64]:
        mean = self.kept["sum"] / epochs
        if kind == "perplexity":
            with np.errstate(over="ignore"):  # the caller refuses infinities
                return np.exp(mean)
        return mean


class Spread(Running):
    """The standard deviation of p_t over all epochs."""

    name = "spread"

    def add(self, epoch: int, rows: Rows, found: Any, values: Any) -> None:
        # Welford's update: a sum of squares minus a squared sum would cancel.
        mean, p = self.kept["mean"], found[:, CONFIDENCE]
        before = p - mean[rows]
        mean[rows] += before / (epoch + 1)
        self.kept["squares"][rows] += before * (p - mean[rows])

    def score(self, kind: str, epochs: int, threads: int) -> NDArray[np.float64]:
        return np.sqrt(self.kept["squares"] / epochs)


class Forgetting(Running):
    """How often the label is predicted in one epoch and not in the next."""

    name = "forgetting"

    def add(self, epoch: int, rows: Rows, found: Any, values: Any) -> None:
        right, kept = found[:, CORRECT] > 0, self.kept
        kept["forgotten"][rows] += kept["was_right"][rows] & ~right
        kept["was_right"][rows] = right
        kept["ever_right"][rows] |= right

    def score(self, kind: str, epochs: int, threads: int) -> NDArray[np.float64]:
        score = np.where(self.kept["ever_right"], self.kept["forgotten"], epochs)
        return score.astype(np.float64)

    @property
    def never_right(self) -> int:
        """Number of rows whose label was never predicted."""
        return int(np.count_nonzero(~self.kept["ever_right"]))


class Windows(Running):
    """Standard deviation and mean of p_t in each window: ``dyn-unc`` and ``dual``."""

    name = "windows"

    def add(self, epoch: int, rows: Rows, found: Any, values: Any) -> None:
        recent, window = self.kept["recent"], self._outputs.window
        recent[rows, epoch % window] = np.minimum(found[:, CONFIDENCE], 1.0)
        if epoch + 1 < window:
            return
        # Differences from one of the epochs: equal probabilities have a deviation of exactly 0.
        first = recent[rows, 0]
        apart = recent[rows] - first[:, None]
        deviation = apart.std(axis=1, ddof=1)
        self.kept["dyn-unc"][rows] += deviation
        doubt = np.maximum(1.0 - (first + apart.mean(axis=1)), 0.0)
        self.kept["dual"][rows] += deviation * doubt

    def score(self, kind: str, epochs: int, threads: int) -> NDArray[np.float64]:
        return np.asarray(self.kept[kind] / (epochs - self._outputs.window + 1))


class Divergences(Running):
    """How unsteadily the probabilities of all classes change in each window: ``tdds``."""

    name = "divergences"

    def add(self, epoch: int, rows: Rows, found: Any, values: Any) -> None:
        before, steps, average = (self.kept[name] for name in ("before", "steps", "average"))
        if epoch:
            change = np.empty(values.shape[0])
            earlier = np.ascontiguousarray(before[rows], np.float64)
            kernels.divergences(values, earlier, self._logits, change)
            steps[rows, (epoch - 1) % steps.shape[1]] = change
        before[rows] = values
        if epoch >= steps.shape[1]:
            recent = steps[rows]
            apart = recent - recent.mean(axis=1, keepdims=True)
            norm = np.sqrt(np.einsum("ij,ij->i", apart, apart))
            average[rows] = _DECAY * norm + (1 - _DECAY) * average[rows]

    def score(self, kind: str, epochs: int, threads: int) -> NDArray[np.float64]:
        return np.asarray(self.kept["average"].copy())


class Losses(Running):
    """The losses of all epochs, to which a decay is fitted: ``loss-drop``."""

    name = "losses"

    def add(self, epoch: int, rows: Rows, found: Any, values: Any) -> None:
        self.kept["losses"][rows, epoch] = found[:, LOSS]

    def score(self, kind: str, epochs: int, threads: int) -> NDArray[np.float64]:
        losses = self.kept["losses"][:, :epochs]
        drops = np.empty(losses.shape[0])

        def fit(start: int, stop: int) -> None:
            fitted = np.empty((stop - start, 2))
            kernels.fit_decays(np.ascontiguousarray(losses[start:stop]), fitted)
            first, ratio = fitted[:, 0], fitted[:, 1]
            drops[start:stop] = first * (1.0 - ratio**epochs)

        for_blocks(fit, drops.size, decay_rows(epochs), threads)
        return drops


def running(
    statistic: Statistic, column: int | None, outputs: Outputs, dtype: np.dtype, logits: bool
) -> Running:
    """A statistic without any epoch yet; `column`: of what a mean is taken."""
    if column is not None:
        return Mean(outputs, dtype, logits, column)
    found = next(one for one in (Spread, Forgetting, Windows, Divergences, Losses)
                 if one.name == statistic)  # fmt: skip
    return found(outputs, dtype, logits)
