"""Utility: scores turned so that higher = keep, and transformed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import DIRECTIONS, HIGHER_IS, TRANSFORM, HigherIs, Transform
from d2cli.errors import DataError
from d2cli.limits import check_choice
from d2cli.runtime.arrays import exact_sum


def utility(
    scores: NDArray[np.float64],
    higher_is: HigherIs = HIGHER_IS,
    transform: Transform | None = None,
    *,
    allow_negative: bool = False,
) -> NDArray[np.float64]:
    """The utility of scores: what the messages pass on.

    Args:
        scores: (n,) numbers; not changed.
        higher_is: the meaning of a high score. ``harder`` (EL2N, forgetting, loss, entropy) and
            ``better`` (CLIP similarity) keep the sign; ``easier`` (AUM, confidence) negates.
        transform: applied after the sign. ``none``; ``center``: s − mean(s); ``shift``:
            s − min(s); ``minmax``: (s − min) / (max − min), or 1 if all scores are equal;
            ``rank``: r/n with ranks r = 1 … n, equal scores at their mean rank. None: as
            :func:`usual_transform` has it.
        allow_negative: whether ``none`` accepts negative results, as the research code does.

    Returns:
        (n,) float64, a new array; >= 0 unless `allow_negative`, `transform` is ``center``, or
        `higher_is` is ``better``.

    Raises:
        DataError: if there are no scores, if one is not finite, or if one is negative after the
            transform and none of these conditions holds.
        UsageError: for an unknown `higher_is` or `transform`.
    """
    check_choice("higher_is", higher_is, HigherIs)
    if transform is not None:
        check_choice("score transform", transform, Transform)
    values = np.array(scores, np.float64)
    check_scores(values, values.size)
    if not values.size:
        raise DataError("there are no scores", argument="scores")
    if transform is None:
        transform = TRANSFORM if allow_negative else usual_transform(values, higher_is)
    if higher_is == "easier":
        values = 0.0 - values  # -values would turn 0.0 into -0.0
    if transform == "center":
        mean = float(exact_sum(values) / values.size)
        with np.errstate(over="ignore"):  # infinities are refused below
            values -= mean
    elif transform == "shift":
        with np.errstate(over="ignore"):  # infinities are refused below
            values -= values.min()
    elif transform == "minmax":
        low, high = values.min(), values.max()
        if low < high:  # halved, because high - low may overflow
            values = (values / 2 - low / 2) / (high / 2 - low / 2)
        else:
            values = np.ones_like(values)
    elif transform == "rank":
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        values = (np.cumsum(counts) - (counts - 1) / 2)[group] / values.size
    elif not allow_negative and DIRECTIONS[higher_is].negative is None:
        message = "score is negative ({:g})"
        hint = "choose --score-transform shift, minmax or rank"
        if higher_is == "easier":
            message = "scores that are higher for easier examples turn negative ({:g})"
            hint += ", which make them at least 0 again"
        else:
            hint += "; or, if a high score means an easy example, add --higher-is easier"
        refuse_scores(values, values < 0, message, hint)
    refuse_scores(values, ~np.isfinite(values), f"score is beyond float64 after {transform}")
    return values


def usual_transform(scores: NDArray[np.float64], higher_is: HigherIs) -> Transform:
    """The transform of (n,) scores, n >= 1, if none is named: ``none``, or ``center``.

    ``center`` is for scores whose utility would be negative, in a direction that admits such scores
    (:data:`d2cli.defaults.DIRECTIONS`).
    """
    lowest = -scores.max() if higher_is == "easier" else scores.min()
    return (DIRECTIONS[higher_is].negative if lowest < 0 else None) or TRANSFORM


def check_scores(scores: NDArray[np.float64], n: int) -> None:
    """Refuse scores that are not (n,) finite numbers."""
    if scores.shape != (n,):
        message = f"scores must be one number for each of {n:,} rows, not {scores.shape}"
        raise DataError(message, argument="scores")
    refuse_scores(scores, ~np.isfinite(scores), "score is {}")


def refuse_scores(
    scores: NDArray[np.float64], bad: NDArray[np.bool_], message: str, hint: str | None = None
) -> None:
    """Raise a DataError on the first `bad` score, if any; ``{}`` in `message` is that score."""
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(message.format(scores[row]), hint, argument="scores", row=row)
