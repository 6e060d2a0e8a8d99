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
- ``dyn-unc``: mean over the windows of J successive epochs of the standard deviation of ``p_y`` in
  the window, divided by J - 1 (Dyn-Unc, He et al. 2023, arXiv 2306.05175). Their code multiplies
  by 10 and leaves out the last window.
- ``dual``: mean over the windows of that deviation times 1 - the mean of ``p_y`` in the window
  (DUAL, Cho et al. 2025, arXiv 2502.06905). Their code multiplies by 10. They use the first 30
  epochs on CIFAR and 60 on ImageNet.
- ``tdds``: with ``d_t = Σ_c |p'_c ln((p'_c + ε) / (p_c + ε))|`` from one epoch, p, to the next, p',
  and ε = 1e-8, the norm ``w = |d - mean d|₂`` of the J - 1 steps of each window; then the moving
  average ``s ← 0.9 w + 0.1 s`` over the windows, from s = 0 (TDDS, Zhang et al. 2024, arXiv
  2311.13613, and their code). Needs no labels.
- ``loss-drop``: ``q (1 - x^T)`` with ``q x^t``, 0 ≤ x ≤ 1, fitted to the losses of the T epochs t =
  0 … T - 1 by least squares (MRMC, Chen 2025, ICML, openreview UeGo9RmpRY, where w = 1 / x and
  T = 20). At least 0; how the curve is fitted is our choice.
- ``forgetting``: number of times that y is predicted in one epoch used and not in the next (Toneva
  et al. 2019, arXiv 1812.05159). A row whose label is never predicted gets the number of epochs,
  which is more than any other row can reach; the authors give it infinity.

J is 10 by default, as the authors of the three scores choose. The prediction is the class with the
highest value; ties go to the lowest class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.defaults import WINDOW, ScoreKind
from d2cli.difficulty import _kernels as kernels
from d2cli.difficulty.kinds import KINDS, check_dynamics, check_kinds, statistics_of
from d2cli.difficulty.running import Forgetting, running
from d2cli.difficulty.sizes import COLUMNS, LIKE_PROBS, Outputs, output_rows
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import DataError, UsageError


def score_dynamics(
    kinds: Sequence[ScoreKind], *,
    logits: NDArray[np.floating] | None = None, probs: NDArray[np.floating] | None = None,
    labels: ArrayLike | None = None, window: int = WINDOW, threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Compute scores from training dynamics. The module's docstring defines each kind.

    Args:
        kinds: the scores to compute.
        logits: (epochs, n, classes) float16, float32 or float64, or (n, classes) for one epoch; may
            be memory-mapped and is read in blocks; not changed.
        probs: probabilities of the same shape, in place of logits.
        labels: (n,) integers 0 … classes - 1; not needed for ``entropy`` and ``tdds``.
        window: J, the epochs in a window of ``dyn-unc``, ``dual`` (at least 2) and ``tdds`` (at
            least 3); at most the number of epochs.
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
    has_labels = labels is not None
    check_dynamics(kinds, epochs=epochs, logits=is_logits, labels=has_labels, window=window)
    numbers = None if labels is None else class_numbers(labels, n, classes)
    about = Outputs(n, classes, epochs, outputs.dtype.itemsize, window)
    dynamics = Dynamics(
        kinds, about, outputs.dtype, labels=numbers, logits=is_logits, threads=threads
    )
    for epoch in range(epochs):
        dynamics.add(epoch, 0, outputs[epoch])
        progress("epochs", epoch + 1, epochs)
    return dynamics.scores()


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

    Only the arrays of :data:`~d2cli.difficulty.sizes.KEPT` are kept: of the outputs, at most those
    of one epoch. Add every row once per epoch, epochs in order. Messages count epochs from
    `first_epoch`.

    Args:
        kinds: the scores to compute, which :func:`~d2cli.difficulty.kinds.check_dynamics` allows.
        outputs: the sizes of what will be added; `dtype` is its type.
        labels, logits, threads: as of :func:`score_dynamics`.

    Attributes:
        epochs: the number of epochs so far.
        bad: (n,) bool, the rows with an output that is not finite, whose scores mean nothing; None
            if such a row is refused.
    """

    def __init__(
        self, kinds: Sequence[str], outputs: Outputs, dtype: np.dtype, *,
        labels: NDArray[np.int64] | None, logits: bool, threads: int, first_epoch: int = 1,
        marks_bad: bool = False,
    ) -> None:  # fmt: skip
        n, classes = outputs.rows, outputs.classes
        if n < 1:
            raise DataError("there are no rows", argument="outputs")
        if classes < 2:
            raise DataError(
                f"outputs have {classes} classes per row; at least 2 are needed",
                "for two classes give both columns", argument="outputs",
            )  # fmt: skip
        self._classes, self._threads = classes, threads
        self._labels, self._logits, self._first_epoch = labels, logits, first_epoch
        native = dtype.newbyteorder("=")
        self._kinds = list(kinds)
        self._running = {
            key: running(*key, outputs, native, logits) for key in statistics_of(kinds)
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
        for one in self._running.values():
            one.add(epoch, rows, found, values)

    @property
    def never_right(self) -> int:
        """Number of rows whose label was never predicted; needs the kind ``forgetting``."""
        (found,) = (one for one in self._running.values() if isinstance(one, Forgetting))
        return found.never_right

    @property
    def looks_like_probabilities(self) -> bool:
        """Whether each row of the logits is >= 0 and has a sum of 1."""
        return bool(self._like_probs.all())

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """Return the scores (n,) float64 so far; a DataError if one is beyond float64."""
        scores = {}
        for kind in self._kinds:
            of = self._running[KINDS[kind].statistic, KINDS[kind].mean_of]
            score = of.score(kind, self.epochs, self._threads)
            if not (finite := np.isfinite(score)).all():
                row = int(np.argmin(finite))
                raise DataError(
                    f"row {row}: {kind} is beyond float64",
                    "use the kind loss, whose order is the same" if kind == "perplexity" else None,
                    argument="outputs",
                )
            scores[kind] = score
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
