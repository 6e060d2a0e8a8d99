"""What a score means: its direction, and its transform to numbers that are not negative."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import HIGHER_IS, TRANSFORM, HigherIs, Transform, choices
from d2cli.errors import DataError, UsageError
from d2cli.messages.forward import check_scores


def utility(
    scores: NDArray[np.float64],
    higher_is: HigherIs = HIGHER_IS,
    transform: Transform = TRANSFORM,
) -> NDArray[np.float64]:
    """Scores as the messages want them: at least 0, higher = more wanted.

    Args:
        scores: (n,) numbers, not changed.
        higher_is: what a high score says. ``harder`` (EL2N, forgetting, loss, entropy) and
            ``better`` (CLIP similarity) stay as they are; ``easier`` (AUM, confidence) is negated.
        transform: then ``none``; ``shift`` so that the lowest is 0; ``minmax`` to 0 … 1 (all 1
            where all are equal); ``rank`` to r/n, r = 1 … n with ties at their mean.

    Returns:
        (n,) float64, a new array.

    Raises:
        DataError: if a score is not finite, or is negative after the transform.
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
        values = 0.0 - values  # and not -values, which would make -0.0 of 0
    if transform == "shift":
        with np.errstate(over="ignore"):  # looked for below
            values -= values.min()
    elif transform == "minmax":
        values = _minmax(values)
    elif transform == "rank":
        values = _mean_ranks(values) / values.size
    else:
        _refuse_negative(values, higher_is)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise DataError("score is too far from the lowest", argument="scores", row=row)
    return values


def _minmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = values.min(), values.max()
    if low == high:
        return np.ones_like(values)
    # Halved, since high - low may overflow where neither does.
    return (values / 2 - low / 2) / (high / 2 - low / 2)


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks 1 … n, the lowest value first; equal values share their mean rank."""
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
