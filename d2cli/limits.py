"""Allowed values of options that both the plan and the run check; each raises UsageError."""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from d2cli.defaults import MAX_HOPS, MAX_ROWS, MOST_NEIGHBORS, Method, choices
from d2cli.errors import UsageError


def check_choice(name: str, value: object, literal: object) -> None:
    """Refuse a `value` of the option `name` that is not one of a literal type's values."""
    if value not in choices(literal):
        raise UsageError(f"{name} must be one of {', '.join(choices(literal))}, not {value!r}")


def near_choice(value: str, among: Sequence[str], meant: Mapping[str, str]) -> str | None:
    """The value of `among` that `value` most likely stands for, or None; `meant` as below."""
    word = value.lower().replace("_", "-").strip()
    if meant.get(word) in among:
        return meant[word]
    return next(iter(get_close_matches(word, among, n=1)), None)


def unknown_choice(
    what: str, value: str, among: Sequence[str], meant: Mapping[str, str] | None = None
) -> UsageError:
    """The error for a value that is none of `among`: it suggests the nearest and lists all.

    `meant` translates names that are spelled quite differently.
    """
    near = near_choice(value, among, meant or {})
    suggestion = f"; did you mean {near}?" if near else ""
    return UsageError(f"unknown {what} {value!r}{suggestion}", f"there are {', '.join(among)}")


def check_search(
    n_neighbors: int, method: str, recall: float, hnsw_m: int, ef_construction: int,
    ef: int | None, seed: int,
) -> None:  # fmt: skip
    """Check the options of :func:`d2cli.graph.build.build_graph`."""
    check_choice("method", method, Method)
    for name, value, least in (
        ("n_neighbors", n_neighbors, 1),
        ("hnsw_m", hnsw_m, 2),
        ("ef_construction", ef_construction, 1),
        ("ef", 1 if ef is None else ef, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, not {value}")
    if n_neighbors > MAX_ROWS:
        raise UsageError(f"n_neighbors must be at most {MAX_ROWS:,}, not {n_neighbors}")
    if not 0 < recall <= 1:
        raise UsageError(f"recall must be above 0 and at most 1, not {recall:g}")


def check_neighbors(n_neighbors: int, n: int) -> None:
    """Check that k is at most n - 1, or at most 10,000 for fewer rows."""
    most = max(MOST_NEIGHBORS, n - 1)
    if n_neighbors > most:
        given = f"{n_neighbors:,}: there are {n:,} rows"
        raise UsageError(f"n_neighbors must be at most {most:,}, not {given}")


def check_hops(hops: int) -> None:
    """Check the number of forward passes."""
    if not 0 <= hops <= MAX_HOPS:
        raise UsageError(f"hops must be at least 0 and at most {MAX_HOPS:,}, not {hops}")


def check_not_negative(name: str, value: float) -> None:
    """Refuse a `value` of the option `name` that is negative or not finite."""
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{name} must be a number of at least 0, not {value}")


def check_lift(name: str, lift: float) -> None:
    """Check a lift, the share of the attainable score that a selection keeps."""
    if not 0 < lift <= 1:
        raise UsageError(f"{name} must be above 0 and at most 1, not {lift:g}")
