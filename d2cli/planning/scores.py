"""Scoring: :mod:`d2cli.difficulty`, each family of kinds by what it holds and does."""

from __future__ import annotations

from dataclasses import dataclass

from d2cli.planning.ledger import MIB, Ledger
from d2cli.planning.search import read_matrix
from d2cli.planning.sizes import Matrix

# -- sizes that the kernels fix; a test holds them against the kernels' own ------------------------
OUTPUT_NUMBERS, COLUMNS = 1 << 17, 7  # dynamics
CENTRE_NUMBERS = 1 << 20  # embedding
#: Bytes that some kinds keep of a row, beside their score; others keep one sum.
_KEPT = {"variability": 16, "forgetting": 6}
#: scikit-learn and SciPy, once loaded.
_LIBRARIES = 75 * MIB
#: Iterations that k-means takes before it stops by itself, usually.
_USUAL_ITERATIONS = 30

# -- seconds of one core of the reference machine, each for one of what is named -------------------
_NUMBER = 9e-9  # number of a model's outputs: an exponential, in float64
_LIST = 3e-9  # neighbour looked at


@dataclass(frozen=True)
class Outputs:
    """A model's outputs: n rows, C classes, the epochs used, and bytes of one block of the file."""

    rows: int
    classes: int
    epochs: int
    block: int


def dynamics(ledger: Ledger, outputs: Outputs, kinds: list[str], threads: int) -> None:
    """Scores of training; leaves the scores."""
    ledger.stage = "outputs"
    n = outputs.rows
    held = sum(_KEPT.get(kind, 8) for kind in kinds)
    ledger.hold("sums", n * (held + 1))
    ledger.hold("labels", 8 * n)
    with ledger.passing("outputs being read", outputs.block):
        some = max(1, OUTPUT_NUMBERS // outputs.classes)
        ledger.touch("measures", threads * some * 8 * (outputs.classes + 3 * COLUMNS))
    ledger.spend(steps=n * outputs.classes * outputs.epochs * _NUMBER, threads=threads)
    ledger.hold("scores", 8 * n * len(kinds))
    ledger.free("sums", "labels")


def prototypes(
    ledger: Ledger, matrix: Matrix, clusters: int, sample: int, as_is: bool, threads: int
) -> None:
    """Distances to centres of k-means; leaves the scores."""
    n, d, wide = matrix.rows, matrix.width, matrix.wide
    read_matrix(ledger, matrix)
    if not as_is:
        ledger.hold("vectors", n * d * wide)
    ledger.hold("scikit-learn", _LIBRARIES)
    ledger.stage = "k-means"
    with ledger.passing("sample", 3.0 * sample * d * wide):  # taken, centred, scaled or copied
        ledger.spend(2.0 * sample * clusters * d * _USUAL_ITERATIONS)
    ledger.stage = "distances"
    ledger.hold("scores", 8 * n)
    some = min(n, max(1, CENTRE_NUMBERS // max(clusters, d)))
    ledger.touch("distances", threads * some * 8 * (2 * clusters + 4 * d))
    ledger.spend(4.0 * n * clusters * d, threads=threads)  # float64 takes twice as long
    ledger.free("embeddings", "vectors")


def neighbours(ledger: Ledger, n: int, k: int, kinds: list[str]) -> None:
    """Scores from lists of neighbours; leaves the scores."""
    ledger.stage = "neighbours"
    ledger.hold("scores", 8 * n * len(kinds))
    ledger.touch("counts", (40 + k) * n)
    ledger.spend(steps=n * k * len(kinds) * _LIST)
