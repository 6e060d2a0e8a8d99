"""The lift that an automatic γ_r keeps, if the user names none."""

from __future__ import annotations

from fractions import Fraction

from d2cli.runtime.decisions import Decision

_GROUPED = (
    "L = 1 − (1 − r)²/2, and no forward messages, because the scores form two groups; "
    "r = picks / eligible rows"
)
_PLAIN = (
    "L = r/2, of the propagated scores, because the scores do not form two groups; "
    "r = picks / eligible rows"
)


def least_lift(picks: int, rows: int, two_groups: bool) -> Fraction:
    """L for `picks` of `rows` eligible rows.

    A small selection gains more from rows that differ than from the hardest ones, and the more rows
    are kept the less is left to choose. Scores in two groups (most rows are learnt, some are not)
    tell more about a row than others. They are used without forward messages, and L =
    ``1 − (1 − r)²/2`` with r = picks / rows: from a half to all that can be attained. For others,
    L = ``r/2`` of the propagated scores. Measurements: evidence/README.md.
    """
    share = Fraction(picks, max(rows, 1))
    return 1 - (1 - share) ** 2 / 2 if two_groups else share / 2


def least_lift_decision(least: Fraction, picks: int, rows: int, two_groups: bool) -> Decision:
    """How :func:`least_lift` came to its value."""
    rule = _GROUPED if two_groups else _PLAIN
    numbers = {"picks": picks, "rows": rows, "two_groups": two_groups}
    return Decision("keep_lift", float(least), rule, numbers)
