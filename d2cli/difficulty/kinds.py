"""The kinds of score: what each needs, and what a high value says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from d2cli.defaults import HigherIs, ScoreKind, choices
from d2cli.errors import UsageError

Family = Literal["dynamics", "embeddings", "graph"]
#: Rows a centre that k-means looks at; FAISS takes as many (its max_points_per_centroid).
ROWS_PER_CENTRE = 256


@dataclass(frozen=True)
class Kind:
    """One kind of score.

    Attributes:
        higher_is: what a high value says.
        family: what it is made from: a model's outputs, embeddings, or a graph.
        labels: whether it needs labels.
        least_epochs: how many epochs it needs.
        logits_only: whether probabilities will not do.
    """

    higher_is: HigherIs
    family: Family
    labels: bool
    least_epochs: int = 1
    logits_only: bool = False


#: Definitions and sources stand with the functions that compute them. Variability is not of the
#: hardest examples but of the ambiguous ones, those that its authors train on: hence ``better``.
KINDS: dict[str, Kind] = {
    "el2n": Kind("harder", "dynamics", labels=True),
    "aum": Kind("easier", "dynamics", labels=True, logits_only=True),
    "forgetting": Kind("harder", "dynamics", labels=True, least_epochs=2),
    "entropy": Kind("harder", "dynamics", labels=False),
    "confidence": Kind("easier", "dynamics", labels=True),
    "variability": Kind("better", "dynamics", labels=True, least_epochs=2),
    "margin": Kind("easier", "dynamics", labels=True),
    "correctness": Kind("easier", "dynamics", labels=True),
    "prototypicality": Kind("harder", "embeddings", labels=False),
    "knn-distance": Kind("harder", "graph", labels=False),
    "label-disagreement": Kind("harder", "graph", labels=True),
}


def of_family(kinds: Iterable[str], family: Family) -> list[str]:
    """Those of `kinds` that are made from the same thing."""
    return [kind for kind in kinds if KINDS[kind].family == family]


def check_kinds(kinds: Iterable[str]) -> None:
    """Refuse none at all, what is no kind of score, and what stands twice."""
    seen: set[str] = set()
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"kind must be one of {', '.join(choices(ScoreKind))}, not {kind!r}")
        if kind in seen:
            raise UsageError(f"the kind {kind} is asked for twice")
        seen.add(kind)
    if not seen:
        raise UsageError("there is no kind of score to compute")


def check_dynamics(kinds: Iterable[str], *, epochs: int, logits: bool, labels: bool) -> None:
    """Refuse kinds that a model's outputs cannot give.

    Raises:
        UsageError: for AUM without logits, labels that are missing, too few epochs.
    """
    for name in kinds:
        kind = KINDS[name]
        if kind.family != "dynamics":
            raise UsageError(f"{name} is not made from a model's outputs")
        if kind.logits_only and not logits:
            raise UsageError(
                f"{name} is defined on logits: from probabilities it would be another number",
                "give logits; or take the kind margin, which is the margin of probabilities",
            )
        if kind.labels and not labels:
            raise UsageError(f"{name} needs labels")
        if epochs < kind.least_epochs:
            raise UsageError(
                f"{name} looks at changes between epochs: it needs at least "
                f"{kind.least_epochs}, and {epochs} is used"
            )


def default_clusters(n: int) -> int:
    """√n centres, rounded; for ImageNet's 1,281,167 rows 1,132, near the number of its classes."""
    return max(1, round(n**0.5))
