"""Block sizes and memory of the difficulty scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from d2cli.defaults import Metric
from d2cli.graph.settings import Matrix
from d2cli.graph.sizes import read_vectors
from d2cli.runtime.ledger import MIB, Ledger

#: Columns of what the kernels of :mod:`d2cli.difficulty._kernels` write for each row.
EL2N, ENTROPY, MARGIN, AUM, CONFIDENCE, CORRECT, LOSS, LIKE_PROBS = range(8)
COLUMNS = 8
#: Model outputs in the working block of one thread, float64: 1 MiB.
OUTPUT_NUMBERS = 1 << 17
#: Distances to centres in the working block of one thread, float64: 8 MiB.
CENTRE_NUMBERS = 1 << 20
#: Listed neighbours that are compared at a time.
LISTED_NEIGHBORS = 1 << 20
#: Rows per centre in the sample for k-means. FAISS uses the same max_points_per_centroid.
ROWS_PER_CENTRE = 256
#: Memory of scikit-learn and SciPy, once loaded.
SCIKIT_LEARN = 75 * MIB


def output_rows(classes: int) -> int:
    """Rows of one block of model outputs."""
    return max(1, OUTPUT_NUMBERS // classes)


def centre_rows(clusters: int, d: int) -> int:
    """Rows whose distances to all centres are computed at a time."""
    return max(1, CENTRE_NUMBERS // max(clusters, d))


def default_clusters(n: int) -> int:
    """K = √n, rounded. For ImageNet's 1,281,167 rows K = 1,132, near its number of classes."""
    return max(1, round(n**0.5))


def sampled_rows(n: int, clusters: int) -> int:
    """Rows in the sample for k-means."""
    return min(n, clusters * ROWS_PER_CENTRE)


class Outputs(NamedTuple):
    """The model outputs that a run reads; `block`: bytes of one block of the file."""

    rows: int
    classes: int
    block: int


def dynamics(ledger: Ledger, outputs: Outputs, state: Sequence[int], threads: int) -> None:
    """Scores from training dynamics; ends with the scores held.

    `state` is :attr:`d2cli.difficulty.kinds.Kind.state_bytes` of each kind.
    """
    n = outputs.rows
    ledger.stage = "outputs"
    ledger.hold("sums", n * (sum(state) + 1))
    ledger.hold("labels", 8 * n)
    with ledger.passing("outputs being read", outputs.block):
        numbers = outputs.classes + 3 * COLUMNS
        ledger.touch("measures", threads * output_rows(outputs.classes) * 8 * numbers)
    ledger.hold("scores", 8 * n * len(state))
    ledger.free("sums", "labels")


def prototypes(ledger: Ledger, matrix: Matrix, clusters: int, metric: Metric, threads: int) -> None:
    """Distances to the centres of k-means; ends with the scores held."""
    n, d = matrix.rows, matrix.width
    read_vectors(ledger, matrix, metric, threads)
    ledger.hold("scikit-learn", SCIKIT_LEARN)
    ledger.stage = "k-means"
    # The sample is drawn, centred, and scaled or copied.
    ledger.touch("sample", 3.0 * sampled_rows(n, clusters) * d * matrix.wide)
    ledger.stage = "distances"
    ledger.hold("scores", 8 * n)
    rows = min(n, centre_rows(clusters, d))
    ledger.touch("distances", threads * rows * 8 * (2 * clusters + 4 * d))
    ledger.free("embeddings", "vectors")


def neighbours(ledger: Ledger, n: int, k: int, kinds: int) -> None:
    """`kinds` scores from a kNN graph; ends with the scores held."""
    ledger.stage = "neighbours"
    ledger.hold("scores", 8 * n * kinds)
    ledger.touch("counts", (40 + k) * n)
