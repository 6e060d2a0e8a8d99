"""Scores from training dynamics: what a model predicts for each row, epoch after epoch.

z are the logits and p = softmax(z) the probabilities of one epoch, y is the label. Means are over
the epochs used.

- ``el2n``: mean of ``|p - onehot(y)|₂``, 0 … √2 (Paul, Ganguli, Dziugaite 2021, arXiv 2107.07075).
  The authors take one early epoch and the mean over several networks: for their score, stack
  networks in place of epochs.
- ``aum``: mean of ``z_y - max_{c≠y} z_c`` (Pleiss et al. 2020, arXiv 2001.10528). Logits only.
- ``margin``: mean of ``p_y - max_{c≠y} p_c``, -1 … 1. Its order differs from that of ``aum``. It is
  not the margin of active learning, which is the highest minus the second highest probability.
- ``entropy``: mean of ``-Σ_c p_c ln p_c``, in nats (Shannon 1948). Needs no labels.
- ``loss``: mean of ``-ln p_y``, the cross-entropy of the label, in nats. Computed from logits as
  ``ln Σ_c exp(z_c) - z_y`` in float64. Of probabilities, p_y counts as at least 1e-12
  (:data:`~d2cli.difficulty._kernels.LEAST_PROBABILITY`), so the loss is at most 27.6.
- ``perplexity``: ``exp(loss)``, 1 / the geometric mean of p_y over the epochs (Jelinek, Mercer,
  Bahl, Baker 1977). The order of the rows is that of ``loss``.
- ``confidence``: mean of ``p_y``; ``variability``: standard deviation of ``p_y`` (divided by the
  number of epochs, not by one less); ``correctness``: share of the epochs in which y is predicted
  (dataset cartography, Swayamdipta et al. 2020, arXiv 2009.10795).
- ``forgetting``: number of times that y is predicted in one epoch used and not in the next (Toneva
  et al. 2019, arXiv 1812.05159). A row whose label is never predicted gets the number of epochs,
  which is more than any other row can reach; the authors give it infinity.

The prediction is the class with the highest value; ties go to the lowest class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.defaults import ScoreKind
from d2cli.difficulty import _kernels as kernels
from d2cli.difficulty.kinds import KINDS, check_dynamics, check_kinds
from d2cli.difficulty.sizes import COLUMNS, CONFIDENCE, CORRECT, LIKE_PROBS, output_rows
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import DataError, UsageError


def score_dynamics(
    kinds: Sequence[ScoreKind], *,
    logits: NDArray[np.floating] | None = None, probs: NDArray[np.floating] | None = None,
    labels: ArrayLike | None = None, threads: int | None = None, progress: Progress = silent,
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Compute scores from training dynamics. The module's docstring defines each kind.

    Args:
        kinds: the scores to compute.
        logits: (epochs, n, classes) float16, float32 or float64, or (n, classes) for one epoch; may
            be memory-mapped and is read in blocks; not changed.
        probs: probabilities of the same shape, in place of logits.
        labels: (n,) integers 0 … classes - 1; not needed for ``entropy``.
        threads: number of threads (default: every core); the result does not depend on it.
        progress: called with the stage, the epochs done and the number of epochs.

    Returns:
        For each kind an array (n,) float64.

    Raises:
        UsageError: for kinds that cannot be computed from these outputs.
        DataError: for a wrong shape, values that are not finite, probabilities that are negative or
            whose sum is not 1 ± 0.01, or labels that are not classes.
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
    threads, is_logits = thread_count(threads), logits is not None
    check_dynamics(kinds, epochs=epochs, logits=is_logits, labels=labels is not None)
    numbers = None if labels is None else class_numbers(labels, n, classes)
    running = Dynamics(kinds, n, classes, labels=numbers, logits=is_logits, threads=threads)
    for epoch in range(epochs):
        running.add(epoch, 0, outputs[epoch])
        progress("epochs", epoch + 1, epochs)
    return running.scores()


def class_numbers(labels: ArrayLike, n: int, classes: int) -> NDArray[np.int64]:
    """Return labels as (n,) int64; a DataError unless they are n integers 0 … `classes` - 1."""
    values = np.asarray(labels)
    if values.shape != (n,):
        raise DataError(f"labels must be ({n},), not {values.shape}", argument="labels")
    if values.dtype.kind not in "iub":
        raise DataError(
            f"labels must be class numbers 0 … {classes - 1}, because the outputs' classes have no "
            f"names, not {'text' if values.dtype.kind in 'OUST' else values.dtype}",
            "number them in the order of the outputs' classes", argument="labels",
        )  # fmt: skip
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        from_one = values.min() == 1 and values.max() == classes
        raise DataError(
            f"the label {values[row]} is none of the outputs' {classes} classes, 0 … {classes - 1}",
            "these labels count from 1: subtract 1" if from_one else None,
            argument="labels", row=row,
        )  # fmt: skip
    return values.astype(np.int64)


class Dynamics:
    """Scores that are updated epoch by epoch and block by block.

    Only the state that :data:`~d2cli.difficulty.kinds.KINDS` declares is kept, not the outputs. Add
    every row once per epoch, epochs in order. Messages count epochs from `first_epoch`.

    Attributes:
        epochs: the number of epochs so far.
        bad: (n,) bool, the rows with an output that is not finite, whose scores mean nothing; None
            if such a row is refused.
    """

    def __init__(
        self, kinds: Sequence[str], n: int, classes: int, *, labels: NDArray[np.int64] | None,
        logits: bool, threads: int, first_epoch: int = 1, marks_bad: bool = False,
    ) -> None:  # fmt: skip
        if n < 1:
            raise DataError("there are no rows", argument="outputs")
        if classes < 2:
            raise DataError(
                f"outputs have {classes} classes per row; at least 2 are needed",
                "for two classes give both columns", argument="outputs",
            )  # fmt: skip
        self._classes, self._threads = classes, threads
        self._labels, self._logits, self._first_epoch = labels, logits, first_epoch
        self._state = {
            kind: {name: np.zeros(n, dtype) for name, dtype in KINDS[kind].state.items()}
            for kind in kinds
        }
        self.bad = np.zeros(n, np.bool_) if marks_bad else None
        self._like_probs = np.ones(n, np.bool_)
        self.epochs = 0

    def add(
        self, epoch: int, first: int, block: NDArray[np.floating],
        places: NDArray[np.int64] | None = None,
    ) -> None:  # fmt: skip
        """Add a block (m, classes) of rows of one epoch, the first used epoch being 0.

        `first` is the number of the block's first row in the file. `places` (m,) are the rows that
        the outputs belong to, -1 to skip one; default first, first + 1, ….
        """
        self.epochs = max(self.epochs, epoch + 1)

        def work(start: int, stop: int) -> None:
            if places is None:
                known, rows = np.arange(start, stop), slice(first + start, first + stop)
                self._add_rows(epoch, rows, first + known, block[start:stop])
            else:
                known = start + np.flatnonzero(places[start:stop] >= 0)
                self._add_rows(epoch, places[known], first + known, block[known])

        for_blocks(work, block.shape[0], output_rows(self._classes), self._threads)

    def _add_rows(
        self, epoch: int, rows: slice | NDArray[np.int64], in_file: NDArray[np.int64],
        block: NDArray[np.floating],
    ) -> None:  # fmt: skip
        """Measure `block` and update the state of `rows`; `in_file` numbers them in messages."""
        values = np.ascontiguousarray(block, np.float64)
        count = values.shape[0]
        finite = np.asarray(np.isfinite(values).all(axis=1))
        if self.bad is not None and not finite.all():
            self.bad[rows] |= ~finite
            values = np.where(finite[:, None], values, 1 / self._classes)
        labels = np.full(count, -1) if self._labels is None else self._labels[rows]
        found = np.empty((count, COLUMNS))
        measure = kernels.measure_logits if self._logits else kernels.measure_probs
        with np.errstate(over="ignore"):  # differences of logits may exceed float64
            row, column, fault = measure(values, labels, found)
        if fault != kernels.FINE:
            row_name = int(in_file[row])
            raise _refusal(epoch, self._first_epoch, row_name, values[row], column, fault)
        self._like_probs[rows] &= found[:, LIKE_PROBS] > 0
        for kind, state in self._state.items():
            mean_of = KINDS[kind].mean_of
            if mean_of is not None:
                state["sum"][rows] += found[:, mean_of]
            elif kind == "variability":
                # Welford's update: a sum of squares minus a squared sum would cancel.
                before = found[:, CONFIDENCE] - state["mean"][rows]
                state["mean"][rows] += before / (epoch + 1)
                state["squares"][rows] += before * (found[:, CONFIDENCE] - state["mean"][rows])
            elif kind == "forgetting":
                right = found[:, CORRECT] > 0
                state["forgotten"][rows] += state["was_right"][rows] & ~right
                state["was_right"][rows] = right
                state["ever_right"][rows] |= right

    @property
    def never_right(self) -> int:
        """Number of rows whose label was never predicted; needs the kind ``forgetting``."""
        return int(np.count_nonzero(~self._state["forgetting"]["ever_right"]))

    @property
    def looks_like_probabilities(self) -> bool:
        """Whether each row of the logits is >= 0 and has a sum of 1."""
        return bool(self._like_probs.all())

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """Return the scores (n,) float64 so far; a DataError if one is beyond float64."""
        scores = {}
        for kind, state in self._state.items():
            if kind == "variability":
                score = np.sqrt(state["squares"] / self.epochs)
            elif kind == "forgetting":
                score = np.where(state["ever_right"], state["forgotten"], self.epochs)
            else:
                score = state["sum"] / self.epochs
                if kind == "perplexity":
                    with np.errstate(over="ignore"):  # infinities are refused below
                        score = np.exp(score)
            if not (finite := np.isfinite(score)).all():
                row = int(np.argmin(finite))
                raise DataError(
                    f"row {row}: {kind} is beyond float64",
                    "use the kind loss, whose order is the same" if kind == "perplexity" else None,
                    argument="outputs",
                )
            scores[kind] = score.astype(np.float64, copy=False)
        return scores


def _refusal(
    epoch: int, first_epoch: int, row: int, values: NDArray[np.float64], column: int, fault: int
) -> DataError:
    """The error for one row of outputs; `epoch` counts the epochs used, from 0."""
    number, hint = epoch + first_epoch, None
    where = f"epoch {number}, row {row}"
    if np.isnan(values).all():
        message = f"{where}: was never recorded (all {values.size} values are nan)"
        if epoch:
            hint = f"--epochs {first_epoch}:{number - 1} uses the epochs that are complete"
        else:
            hint = "each row needs outputs in each epoch: a loader with drop_last leaves out rows"
    elif fault == kernels.SUM_NOT_ONE:
        message = f"{where}: probabilities add up to {values.sum():g}, not 1"
        hint = "give logits, before the softmax, as --logits"
    elif fault == kernels.NOT_A_PROBABILITY:
        message = f"{where}, class {column}: {values[column]:g} is no probability"
        hint = "give logits as --logits; log-probabilities are logits too"
    else:
        message = f"{where}, class {column}: is {values[column]}"
    return DataError(message, hint, argument="outputs")
