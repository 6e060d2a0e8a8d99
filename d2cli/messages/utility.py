"""Utility: scores turned so that higher = keep, and transformed to numbers of at least 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import HIGHER_IS, TRANSFORM, HigherIs, Transform, choices
from d2cli.errors import DataError, UsageError


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
    if higher_is not in choices(HigherIs):
        raise UsageError(
            f"higher_is must be one of {', '.join(choices(HigherIs))}, not {higher_is!r}"
        )
    if transform not in choices(Transform):
        raise UsageError(
            f"score transform must be one of {', '.join(choices(Transform))}, not {transform!r}"
        )
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
        values = _minmax(values)
    elif transform == "rank":
        values = _mean_ranks(values) / values.size
    elif not allow_negative:
        _refuse_negative(values, higher_is)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise DataError(
            "score minus the lowest score is beyond float64", argument="scores", row=row
        )
    return values


def _minmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = values.min(), values.max()
    if low == high:
        return np.ones_like(values)
    # Halved, because high - low may overflow.
    return (values / 2 - low / 2) / (high / 2 - low / 2)


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks 1 … n in ascending order; equal values get their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def _refuse_negative(values: NDArray[np.float64], higher_is: HigherIs) -> None:
    negative = values < 0
    if not negative.any():
        return
    row = int(np.argmax(negative))
    choose = "choose --score-transform shift, minmax or rank"
    if higher_is == "easier":
        raise DataError(
            f"scores that are higher for easier examples turn negative ({values[row]:g})",
            f"{choose}, which make them at least 0 again",
            argument="scores",
            row=row,
        )
    raise DataError(
        f"score is negative ({values[row]:g})",
        f"{choose}; or, if a high score means an easy example, add --higher-is easier",
        argument="scores",
        row=row,
    )


def check_scores(scores: NDArray[np.float64], n: int) -> None:
    """Refuse scores that are not (n,) finite numbers."""
    if scores.ndim != 1 or scores.size != n:
        raise DataError(
            f"scores must be one number for each of {n:,} rows, not {scores.shape}",
            argument="scores",
        )
    finite = np.isfinite(scores)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"score is {scores[row]}", argument="scores", row=row)
