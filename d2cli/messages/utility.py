"""Utility: scores turned so that higher = keep, and transformed to numbers of at least 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import HIGHER_IS, TRANSFORM, HigherIs, Transform
from d2cli.errors import DataError
from d2cli.limits import check_choice


def utility(
    scores: NDArray[np.float64],
    higher_is: HigherIs = HIGHER_IS,
    transform: Transform = TRANSFORM,
    *,
    allow_negative: bool = False,
) -> NDArray[np.float64]:
    """The utility of scores: what the messages pass on.

    Args:
        scores: (n,) numbers; not changed.
        higher_is: the meaning of a high score. ``harder`` (EL2N, forgetting, loss, entropy) and
            ``better`` (CLIP similarity) keep the sign; ``easier`` (AUM, confidence) negates.
        transform: applied after the sign. ``none``; ``shift``: s − min(s); ``minmax``:
            (s − min) / (max − min), or 1 if all scores are equal; ``rank``: r/n with ranks r = 1 …
            n, equal scores at their mean rank.
        allow_negative: whether ``none`` accepts negative results, as the research code does.

    Returns:
        (n,) float64, a new array; >= 0 unless `allow_negative`.

    Raises:
        DataError: if there are no scores, if one is not finite, or if one is negative after the
            transform and `allow_negative` is false.
        UsageError: for an unknown `higher_is` or `transform`.
    """
    check_choice("higher_is", higher_is, HigherIs)
    check_choice("score transform", transform, Transform)
    values = np.array(scores, np.float64)
    check_scores(values, values.size)
    if not values.size:
        raise DataError("there are no scores", argument="scores")
    if higher_is == "easier":
        values = 0.0 - values  # -values would turn 0.0 into -0.0
    if transform == "shift":
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
    elif not allow_negative:
        message = "score is negative ({:g})"
        hint = "choose --score-transform shift, minmax or rank"
        if higher_is == "easier":
            message = "scores that are higher for easier examples turn negative ({:g})"
            hint += ", which make them at least 0 again"
        elif higher_is == "better":
            hint = "choose --score-transform shift, which subtracts the lowest score"
        else:
            hint += "; or, if a high score means an easy example, add --higher-is easier"
        refuse_scores(values, values < 0, message, hint)
    refuse_scores(values, ~np.isfinite(values), "score minus the lowest score is beyond float64")
    return values


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
