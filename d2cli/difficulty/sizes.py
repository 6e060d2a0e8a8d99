"""Block sizes and memory of the difficulty scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from d2cli.defaults import Metric, TargetReduction
from d2cli.graph.settings import Matrix
from d2cli.graph.sizes import read_embeddings, read_vectors
from d2cli.runtime.ledger import MIB, Ledger

#: Columns of what the kernels of :mod:`d2cli.difficulty._kernels` write for each row.
EL2N, ENTROPY, MARGIN, AUM, CONFIDENCE, CORRECT, LOSS, LIKE_PROBS = range(8)
COLUMNS = 8
#: Model outputs in the working block of one thread, float64: 1 MiB.
OUTPUT_NUMBERS = 1 << 17
#: Distances to centres in the working block of one thread, float64: 8 MiB.
CENTRE_NUMBERS = 1 << 20
#: Similarities, and numbers of embeddings, in the working block of one thread.
SIMILARITIES = 1 << 19
#: Rows of a target set that a block of rows is compared with at a time.
TARGET_ROWS = 4096
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


def decay_rows(epochs: int) -> int:
    """Rows to whose losses a decay is fitted at a time."""
    return max(1, OUTPUT_NUMBERS // epochs)


def compared_rows(target_rows: int, d: int) -> int:
    """Rows that are compared with a block of target rows at a time."""
    return max(1, SIMILARITIES // max(min(target_rows, TARGET_ROWS), d))


class Outputs(NamedTuple):
    """The model outputs that a run uses, and the epochs of a window.

    `itemsize`: bytes of one number as stored; `block`: bytes of one block of the file.
    """

    rows: int
    classes: int
    epochs: int
    itemsize: int
    window: int
    block: int = 0


Statistic = Literal["mean", "spread", "forgetting", "windows", "divergences", "losses"]


class Kept(NamedTuple):
    """An array of a statistic: one value per row, or one per row and each of `per`.

    `dtype` None stands for the dtype of the outputs as stored.
    """

    dtype: str | None = "f8"
    per: Literal["", "class", "epoch", "epoch of a window", "step of a window"] = ""

    def columns(self, outputs: Outputs) -> int:
        """Values per row."""
        return {
            "": 1, "class": outputs.classes, "epoch": outputs.epochs,
            "epoch of a window": outputs.window, "step of a window": outputs.window - 1,
        }[self.per]  # fmt: skip

    def row_bytes(self, outputs: Outputs) -> int:
        """Bytes per row."""
        itemsize = outputs.itemsize if self.dtype is None else int(self.dtype[1:])
        return itemsize * self.columns(outputs)


#: The arrays of each statistic of :mod:`d2cli.difficulty.running`.
KEPT: dict[Statistic, Mapping[str, Kept]] = {
    "mean": {"sum": Kept()},
    "spread": {"mean": Kept(), "squares": Kept()},
    "forgetting": {"forgotten": Kept("i4"), "was_right": Kept("b1"), "ever_right": Kept("b1")},
    "windows": {"recent": Kept(per="epoch of a window"), "dyn-unc": Kept(), "dual": Kept()},
    "divergences": {"before": Kept(None, "class"), "steps": Kept(per="step of a window"),
                    "average": Kept()},
    "losses": {"losses": Kept(per="epoch")},
}  # fmt: skip


def dynamics(
    ledger: Ledger, outputs: Outputs, statistics: Iterable[Statistic], kinds: int, threads: int
) -> None:
    """`kinds` scores from training dynamics; ends with the scores held."""
    n, arrays = outputs.rows, [KEPT[one] for one in statistics]
    ledger.stage = "outputs"
    for one in arrays:
        for name, kept in one.items():
            named = {"before": "outputs of the epoch before", "recent": "window"}.get(name, "sums")
            ledger.hold(named if name != "losses" else name, n * kept.row_bytes(outputs))
    ledger.hold("sums", n)
    ledger.hold("labels", 8 * n)
    rows = min(n, output_rows(outputs.classes))
    numbers = outputs.classes + 3 * COLUMNS
    if any("before" in one for one in arrays):
        numbers += 2 * outputs.classes
    if any(one.keys() & {"recent", "steps"} for one in arrays):
        numbers += 3 * outputs.window
    with ledger.passing("outputs being read", outputs.block):
        ledger.touch("measures", threads * rows * 8 * numbers)
    ledger.hold("scores", 8 * n * kinds)
    ledger.free("sums", "labels", "window", "losses", "outputs of the epoch before")


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


def similarities(
    ledger: Ledger, matrix: Matrix, target: Matrix, reduce: TargetReduction, threads: int
) -> None:
    """Similarities to a target set; ends with the scores held."""
    read_vectors(ledger, target, "cosine", threads)
    columns = target.rows if reduce == "max" else 1
    ledger.free("embeddings", "reading", "vectors")
    ledger.hold("target", columns * target.width * target.wide)
    read_embeddings(ledger, matrix)
    ledger.stage = "similarities"
    ledger.hold("scores", 8 * matrix.rows)
    rows, wide = min(matrix.rows, compared_rows(columns, matrix.width)), matrix.wide
    # A block of rows as read, as float64 for its lengths, and scaled; its similarities.
    numbers = matrix.width * (8 + 3 * wide) + min(columns, TARGET_ROWS) * wide
    ledger.touch("blocks", threads * rows * numbers)
    ledger.free("embeddings", "reading", "target")


def neighbours(ledger: Ledger, n: int, k: int, kinds: int) -> None:
    """`kinds` scores from a kNN graph; ends with the scores held."""
    ledger.stage = "neighbours"
    ledger.hold("scores", 8 * n * kinds)
    ledger.touch("counts", (40 + k) * n)
