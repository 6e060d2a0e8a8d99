"""The kinds of score: one table says what each is computed from, needs, keeps and means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from d2cli.defaults import HigherIs, ScoreKind, choices
from d2cli.difficulty.sizes import AUM, CONFIDENCE, CORRECT, EL2N, ENTROPY, LOSS, MARGIN
from d2cli.errors import UsageError
from d2cli.limits import unknown_choice

Family = Literal["dynamics", "embeddings", "graph"]
#: State of a score that is a mean over epochs: its sum so far.
_SUM = {"sum": "f8"}


@dataclass(frozen=True)
class Kind:
    """One kind of score.

    Attributes:
        family: what the score is computed from: a model's outputs, embeddings, or a kNN graph.
        higher_is: what a high value means.
        labels, logits_only: whether the score needs labels; whether it needs logits.
        least_epochs: the fewest epochs that the score is defined on.
        mean_of: the column of the kernels' output whose mean over the epochs is the score, or for
            ``perplexity`` its logarithm; or None.
        state: arrays of one value per row that are kept from epoch to epoch, dtype by name.
    """

    family: Family
    higher_is: HigherIs
    labels: bool = True
    least_epochs: int = 1
    logits_only: bool = False
    mean_of: int | None = None
    state: Mapping[str, str] = field(default_factory=dict)

    @property
    def state_bytes(self) -> int:
        """Bytes of `state` per row."""
        return sum(int(dtype[1:]) for dtype in self.state.values())


#: Definitions and sources stand with the functions that compute the scores. Variability is
#: ``better``: a high value marks ambiguous rows, which its authors train on, not the hardest rows.
KINDS: dict[str, Kind] = {
    "el2n": Kind("dynamics", "harder", mean_of=EL2N, state=_SUM),
    "aum": Kind("dynamics", "easier", logits_only=True, mean_of=AUM, state=_SUM),
    "forgetting": Kind("dynamics", "harder", least_epochs=2,
                       state={"forgotten": "i4", "was_right": "b1", "ever_right": "b1"}),
    "entropy": Kind("dynamics", "harder", labels=False, mean_of=ENTROPY, state=_SUM),
    "loss": Kind("dynamics", "harder", mean_of=LOSS, state=_SUM),
    "perplexity": Kind("dynamics", "harder", mean_of=LOSS, state=_SUM),
    "confidence": Kind("dynamics", "easier", mean_of=CONFIDENCE, state=_SUM),
    "variability": Kind("dynamics", "better", least_epochs=2,
                        state={"mean": "f8", "squares": "f8"}),
    "margin": Kind("dynamics", "easier", mean_of=MARGIN, state=_SUM),
    "correctness": Kind("dynamics", "easier", mean_of=CORRECT, state=_SUM),
    "prototypicality": Kind("embeddings", "harder", labels=False),
    "knn-distance": Kind("graph", "harder", labels=False),
    "label-disagreement": Kind("graph", "harder"),
}  # fmt: skip


#: Other names of kinds, which a refusal translates.
MEANT = {
    "ce": "loss", "cross-entropy": "loss", "nll": "loss", "ppl": "perplexity",
    "uncertainty": "entropy", "area-under-the-margin": "aum", "prototypes": "prototypicality",
}  # fmt: skip


def of_family(kinds: Iterable[str], family: Family) -> list[str]:
    """The kinds among `kinds` that are computed from the same input."""
    return [kind for kind in kinds if KINDS[kind].family == family]


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise a UsageError for an empty list, an unknown kind or a kind that is given twice."""
    for at, kind in enumerate(kinds):
        if kind not in KINDS:
            raise unknown_choice("kind", kind, choices(ScoreKind), MEANT)
        if kind in kinds[:at]:
            raise UsageError(f"the kind {kind} is asked for twice")
    if not kinds:
        raise UsageError("there is no kind of score to compute")


def check_dynamics(kinds: Iterable[str], *, epochs: int, logits: bool, labels: bool) -> None:
    """Raise a UsageError for a kind that cannot be computed from these model outputs."""
    for name in kinds:
        kind = KINDS[name]
        if kind.family != "dynamics":
            raise UsageError(f"{name} is not computed from a model's outputs")
        if kind.logits_only and not logits:
            raise UsageError(
                f"{name} is defined on logits, not on probabilities",
                "give logits; or use the kind margin, which is defined on probabilities",
            )
        if kind.labels and not labels:
            raise UsageError(f"{name} needs labels")
        if epochs < kind.least_epochs:
            least = f"at least {kind.least_epochs} epochs, not {epochs}"
            raise UsageError(f"{name} compares successive epochs: it needs {least}")
