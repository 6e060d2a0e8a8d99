"""The kinds of score: one table says what each is computed from, needs, keeps and means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from d2cli.defaults import HigherIs, ScoreKind, choices
from d2cli.difficulty.sizes import AUM, CONFIDENCE, CORRECT, EL2N, ENTROPY, LOSS, MARGIN, Statistic
from d2cli.errors import UsageError
from d2cli.limits import unknown_choice

Family = Literal["dynamics", "embeddings", "graph"]


@dataclass(frozen=True)
class Kind:
    """One kind of score.

    Attributes:
        family: what the score is computed from: a model's outputs, embeddings, or a kNN graph.
        higher_is: what a high value means.
        labels, logits_only, target: whether the score needs labels; logits; a target set.
        statistic: what is updated epoch by epoch (:mod:`d2cli.difficulty.running`).
        mean_of: the column of the kernels' output whose mean over the epochs is the score, or for
            ``perplexity`` its logarithm; or None.
        least_epochs: the fewest epochs that the score is defined on.
        windowed: whether the score compares the epochs of a window. Then ``least_epochs`` is the
            shortest window.
        early: the number of first epochs that the authors use; None: no early epochs.
    """

    family: Family
    higher_is: HigherIs
    labels: bool = True
    least_epochs: int = 1
    logits_only: bool = False
    target: bool = False
    mean_of: int | None = None
    statistic: Statistic = "mean"
    windowed: bool = False
    early: int | None = None


#: Definitions and sources stand with the functions that compute the scores. `better` marks scores
#: whose highest rows their authors keep, and which are not the hardest: variability, dyn-unc, dual
#: and tdds are high for rows whose predictions change, loss-drop for rows that are learned. A
#: mislabelled row, which is never learned, scores low.
KINDS: dict[str, Kind] = {
    "el2n": Kind("dynamics", "harder", mean_of=EL2N),
    "aum": Kind("dynamics", "easier", logits_only=True, mean_of=AUM),
    "forgetting": Kind("dynamics", "harder", least_epochs=2, statistic="forgetting"),
    "entropy": Kind("dynamics", "harder", labels=False, mean_of=ENTROPY),
    "loss": Kind("dynamics", "harder", mean_of=LOSS),
    "perplexity": Kind("dynamics", "harder", mean_of=LOSS),
    "confidence": Kind("dynamics", "easier", mean_of=CONFIDENCE),
    "variability": Kind("dynamics", "better", least_epochs=2, statistic="spread"),
    "margin": Kind("dynamics", "easier", mean_of=MARGIN),
    "correctness": Kind("dynamics", "easier", mean_of=CORRECT),
    "dual": Kind("dynamics", "better", least_epochs=2, statistic="windows", windowed=True,
                 early=30),
    "dyn-unc": Kind("dynamics", "better", least_epochs=2, statistic="windows", windowed=True),
    "tdds": Kind("dynamics", "better", labels=False, least_epochs=3, statistic="divergences",
                 windowed=True),
    "loss-drop": Kind("dynamics", "better", least_epochs=2, statistic="losses", early=20),
    "prototypicality": Kind("embeddings", "harder", labels=False),
    "target-similarity": Kind("embeddings", "better", labels=False, target=True),
    "knn-distance": Kind("graph", "harder", labels=False),
    "label-disagreement": Kind("graph", "harder"),
}  # fmt: skip


#: Other names of kinds, which a refusal translates.
MEANT = {
    "ce": "loss", "cross-entropy": "loss", "nll": "loss", "ppl": "perplexity",
    "uncertainty": "entropy", "area-under-the-margin": "aum", "prototypes": "prototypicality",
    "dynunc": "dyn-unc", "dynamic-uncertainty": "dyn-unc", "mrmc": "loss-drop",
    "loss-reduction": "loss-drop", "normsim": "target-similarity",
    "norm-sim": "target-similarity", "similarity": "target-similarity",
}  # fmt: skip


def of_family(kinds: Iterable[str], family: Family) -> list[str]:
    """The kinds among `kinds` that are computed from the same input."""
    return [kind for kind in kinds if KINDS[kind].family == family]


def statistics_of(kinds: Iterable[str]) -> list[tuple[Statistic, int | None]]:
    """What is kept for kinds of the family `dynamics`: statistics and columns, each once."""
    return list(dict.fromkeys((KINDS[kind].statistic, KINDS[kind].mean_of) for kind in kinds))


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise a UsageError for an empty list, an unknown kind or a kind that is given twice."""
    for at, kind in enumerate(kinds):
        if kind not in KINDS:
            raise unknown_choice("kind", kind, choices(ScoreKind), MEANT)
        if kind in kinds[:at]:
            raise UsageError(f"the kind {kind} is asked for twice")
    if not kinds:
        raise UsageError("there is no kind of score to compute")


def check_dynamics(
    kinds: Iterable[str], *, epochs: int, logits: bool, labels: bool, window: int
) -> None:
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
        if kind.windowed and window < kind.least_epochs:
            least = f"at least {kind.least_epochs} for {name}"
            raise UsageError(f"window must be {least}, not {window}")
        if epochs < kind.least_epochs:
            least = f"at least {kind.least_epochs} epochs, not {epochs}"
            raise UsageError(
                f"{name} compares successive epochs: it needs {least}",
                "outputs of several epochs are (epochs, n, classes)" if epochs == 1 else None,
            )
        if kind.windowed and epochs < window:
            raise UsageError(
                f"{name} compares the epochs of a window of {window}, and {epochs} are used",
                f"use more epochs, or a shorter window: --window {epochs}",
            )
