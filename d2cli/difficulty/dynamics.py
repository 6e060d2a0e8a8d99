"""Scores from training dynamics: what a model said of each row, epoch after epoch.

With z the logits and p = softmax(z) of one epoch, y the label, and means over the epochs used:

- ``el2n``: mean of ``|p - onehot(y)|₂`` (Paul, Ganguli, Dziugaite 2021, arXiv 2107.07075, who take
  an early epoch and the mean over several networks; whoever stacks networks in place of epochs
  gets theirs). 0 … √2.
- ``aum``: mean of ``z_y - max_{c≠y} z_c`` (Pleiss et al. 2020, arXiv 2001.10528). On logits only.
- ``margin``: the same of probabilities, mean of ``p_y - max_{c≠y} p_c``, -1 … 1; another number
  and another order. (Active learning's margin, the highest minus the second whatever the label,
  is not meant.)
- ``entropy``: mean of ``-Σ_c p_c ln p_c``, in nats (Shannon 1948). Needs no labels.
- ``confidence``: mean of ``p_y``; ``variability``: its standard deviation (division by the number
  of epochs); ``correctness``: share of the epochs in which y is predicted (dataset cartography,
  Swayamdipta et al. 2020, arXiv 2009.10795).
- ``forgetting``: how often y is predicted in one epoch used and not in the next (Toneva et al.
  2019, arXiv 1812.05159). A row that is never predicted right has forgotten nothing; its authors
  count it as infinitely often forgotten, here it counts as the number of epochs, which is more
  than can happen to any other.

The prediction is the class with the highest value, of equal ones the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.defaults import ScoreKind
from d2cli.difficulty import _measures as m
from d2cli.difficulty.kinds import check_dynamics, check_kinds
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import DataError, UsageError

#: Numbers in the working block of one thread, float64: 1 MiB.
_BLOCK_NUMBERS = 1 << 17
#: Kinds that are the mean of one column of the measures.
_MEANS: dict[str, int] = {
    "el2n": m.EL2N,
    "entropy": m.ENTROPY,
    "margin": m.MARGIN,
    "aum": m.AUM,
    "confidence": m.CONFIDENCE,
    "correctness": m.CORRECT,
}


def score_dynamics(
    kinds: Sequence[ScoreKind],
    *,
    logits: NDArray[np.floating] | None = None,
    probs: NDArray[np.floating] | None = None,
    labels: ArrayLike | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, NDArray[np.float64]]:
    """Scores from training dynamics; definitions and sources stand above, in this module.

    Args:
        kinds: which scores, any of those above.
        logits: (epochs, n, classes) float16, float32 or float64, or (n, classes) as one epoch; may
            be memory-mapped and is read in blocks; not changed.
        probs: probabilities in the same form, in place of logits.
        labels: (n,) integers 0 … classes - 1; not needed for ``entropy``.
        threads: how many to use (default: every core); the result does not depend on it.
        progress: called with the stage, and how many rows are done of how many.

    Returns:
        For each kind (n,) float64.

    Raises:
        UsageError: for kinds that these outputs cannot give.
        DataError: for another shape, values that are not finite, probabilities that are negative
            or do not add up to 1 within 0.01, labels that are no class.
    """
    check_kinds(kinds)
    if (logits is None) == (probs is None):
        raise UsageError("give either logits or probs")
    outputs = np.asanyarray(logits if logits is not None else probs)
    if outputs.ndim == 2:
        outputs = outputs[None]
    if outputs.ndim != 3 or outputs.dtype.kind != "f":
        raise DataError(
            f"outputs must be (epochs, n, classes) of floats, not {outputs.shape} {outputs.dtype}",
            argument="outputs",
        )
    epochs, n, classes = outputs.shape
    check_dynamics(kinds, epochs=epochs, logits=logits is not None, labels=labels is not None)
    numbers = None if labels is None else class_numbers(labels, n, classes)
    gathered = Dynamics(
        kinds, n, classes, labels=numbers, logits=logits is not None, threads=thread_count(threads)
    )
    for epoch in range(epochs):
        gathered.add(epoch, 0, outputs[epoch])
        progress("epochs", epoch + 1, epochs)
    return gathered.scores()


def class_numbers(labels: ArrayLike, n: int, classes: int) -> NDArray[np.int64]:
    """Labels as int64 (n,), each held against the classes 0 … C-1 that the outputs have.

    Raises:
        DataError: for another length, labels that are not whole numbers, or are no class.
    """
    values = np.asarray(labels)
    if values.shape != (n,):
        raise DataError(f"labels must be ({n},), not {values.shape}", argument="labels")
    if values.dtype.kind not in "iub":
        raise DataError(
            f"labels must be class numbers, 0 … {classes - 1}, since the outputs' classes have no "
            f"names, not {'text' if values.dtype.kind in 'OUST' else values.dtype}",
            "number them in the order of the outputs' classes",
            argument="labels",
        )
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        from_one = values.min() == 1 and values.max() == classes
        raise DataError(
            f"the label {values[row]} is none of the outputs' {classes} classes, 0 … {classes - 1}",
            "these labels count from 1: subtract 1" if from_one else None,
            argument="labels",
            row=row,
        )
    return values.astype(np.int64)


class Dynamics:
    """Gathers scores epoch by epoch, block by block; holds a few numbers a row and no outputs.

    Every row must be added once for each epoch, epochs in order.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        n: int,
        classes: int,
        *,
        labels: NDArray[np.int64] | None,
        logits: bool,
        threads: int,
        first_epoch: int = 1,
    ) -> None:
        if n < 1:
            raise DataError("there are no rows", argument="outputs")
        if classes < 2:
            raise DataError(
                f"outputs have {classes} classes a row, and at least 2 are needed",
                "of two classes give both columns",
                argument="outputs",
            )
        self._kinds, self._classes, self._threads = tuple(kinds), classes, threads
        self._labels, self._logits, self._first_epoch = labels, logits, first_epoch
        self._sums = {kind: np.zeros(n) for kind in kinds if kind in _MEANS}
        self._odd = np.ones(n, np.bool_)
        if "variability" in kinds:
            self._mean, self._squares = np.zeros(n), np.zeros(n)
        if "forgetting" in kinds:
            self._forgotten = np.zeros(n, np.int32)
            self._was_right, self._ever_right = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.epochs = 0

    def add(
        self,
        epoch: int,
        first: int,
        block: NDArray[np.floating],
        places: NDArray[np.int64] | None = None,
    ) -> None:
        """Take in some rows of one epoch.

        Args:
            epoch: 0 for the first that is used.
            first: the number of the block's first row.
            block: (m, classes) floats, not changed.
            places: (m,) which row each belongs to, -1 for none; by default first, first + 1, ….
        """
        self.epochs = max(self.epochs, epoch + 1)
        step = max(1, _BLOCK_NUMBERS // self._classes)

        def work(start: int, stop: int) -> None:
            values = block[start:stop]
            if places is None:
                self._take(epoch, slice(first + start, first + stop), first + start, values)
                return
            known = np.flatnonzero(places[start:stop] >= 0)
            self._take(epoch, places[start:stop][known], first + start + known, values[known])

        for_blocks(work, block.shape[0], step, self._threads)

    def _take(
        self,
        epoch: int,
        rows: slice | NDArray[np.int64],
        in_file: int | NDArray[np.int64],
        block: NDArray[np.floating],
    ) -> None:
        """Measure some rows and add what was found to theirs."""
        values = np.ascontiguousarray(block, np.float64)
        count = values.shape[0]
        labels = np.full(count, -1) if self._labels is None else self._labels[rows]
        found = np.empty((count, m.COLUMNS))
        measure = m.measure_logits if self._logits else m.measure_probs
        with np.errstate(over="ignore"):  # logits may lie beyond float64 of each other
            row, column, fault = measure(values, labels, found)
        if fault != m.FINE:
            at = in_file + row if isinstance(in_file, int) else int(in_file[row])
            raise self._refusal(epoch, at, values[row], column, fault)
        for kind, total in self._sums.items():
            total[rows] += found[:, _MEANS[kind]]
        self._odd[rows] &= found[:, m.ODD] > 0
        if "variability" in self._kinds:
            # Welford's update: a sum of squares minus a square of sums would cancel.
            before = found[:, m.CONFIDENCE] - self._mean[rows]
            self._mean[rows] += before / (epoch + 1)
            self._squares[rows] += before * (found[:, m.CONFIDENCE] - self._mean[rows])
        if "forgetting" in self._kinds:
            right = found[:, m.CORRECT] > 0
            self._forgotten[rows] += self._was_right[rows] & ~right
            self._was_right[rows] = right
            self._ever_right[rows] |= right

    def _refusal(
        self, epoch: int, row: int, values: NDArray[np.float64], column: int, fault: int
    ) -> DataError:
        place = f"epoch {epoch + self._first_epoch}, row {row}"
        if fault == m.NOT_ONE:
            return DataError(
                f"{place}: probabilities add up to {values.sum():g}, not 1",
                "logits, of which the softmax is still to be taken, are for --logits",
                argument="outputs",
            )
        if fault == m.NOT_A_SHARE:
            return DataError(
                f"{place}, class {column}: {values[column]:g} is no probability",
                "give logits as --logits; log-probabilities too: their softmax gives the "
                "probabilities, and their margins are those of logits",
                argument="outputs",
            )
        return DataError(f"{place}, class {column}: is {values[column]}", argument="outputs")

    @property
    def never_right(self) -> int:
        """How many rows were never predicted right; only where forgetting is asked for."""
        return int(np.count_nonzero(~self._ever_right))

    @property
    def looks_like_probabilities(self) -> bool:
        """Whether every row of what was given as logits is >= 0 and adds up to 1."""
        return bool(self._odd.all())

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """The scores over the epochs added so far, each (n,) float64, a new array.

        Raises:
            DataError: if one is beyond float64.
        """
        scores = {}
        for kind in self._kinds:
            if kind == "variability":
                scores[kind] = np.sqrt(self._squares / self.epochs)
            elif kind == "forgetting":
                scores[kind] = np.where(self._ever_right, self._forgotten, self.epochs).astype(
                    np.float64
                )
            else:
                scores[kind] = self._sums[kind] / self.epochs
            if not np.isfinite(scores[kind]).all():
                row = int(np.argmin(np.isfinite(scores[kind])))
                raise DataError(f"row {row}: {kind} is beyond float64", argument="outputs")
        return scores
