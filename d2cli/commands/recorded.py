"""Parameters that an earlier step recorded, held against what they may be before they are used."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from d2cli.defaults import MAX_HOPS, EdgeRule, HigherIs, Kernel, ModeName, Transform, choices
from d2cli.errors import DataError


def _one_of(literal: object) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices(literal)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


_USABLE: dict[str, Callable[[Any], bool]] = {
    "higher_is": _one_of(HigherIs),
    "score_transform": _one_of(Transform),
    "mode": _one_of(ModeName),
    "edges": _one_of(EdgeRule),
    "kernel": _one_of(Kernel),
    "bandwidth": lambda value: value == "median" or (_is_number(value) and value > 0),
    "gamma_forward": lambda value: _is_number(value) and value >= 0,
    "hops": lambda value: type(value) is int and 0 <= value <= MAX_HOPS,
}


def check_recorded(parameters: dict[str, Any], path: str) -> None:
    """Refuse a parameter, recorded beside `path`, that no option would take.

    Raises:
        DataError: naming it.
    """
    for name, usable in _USABLE.items():
        value = parameters.get(name)
        if value is not None and not usable(value):
            raise DataError(
                f"{path}: the provenance beside it records {name} as {str(value)[:40]!r}",
                "run propagate again",
            )
