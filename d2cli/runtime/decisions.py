"""Automatic choices and the numbers that led to them."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Decision:
    """One automatic choice, printed by ``--explain`` and recorded in provenance.

    Attributes:
        name: what is decided, by the name of its option: ``method``, ``bandwidth``, ``cutoff``, ….
        value: the choice, as a JSON value.
        rule: the rule as one short sentence or formula.
        numbers: the numbers that the rule was applied to, by name, as JSON values.
    """

    name: str
    value: Any
    rule: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The entry in provenance."""
        return {"name": self.name, "value": self.value, "rule": self.rule, "numbers": self.numbers}
