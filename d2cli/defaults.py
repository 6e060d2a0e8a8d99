"""Option types and defaults, shared by the Python API, the command line and its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Metric = Literal["euclidean", "cosine"]
Method = Literal["auto", "ivf", "hnsw", "exact"]
EdgeRule = Literal["union", "directed", "mutual"]
Kernel = Literal["gaussian", "exponential"]
HigherIs = Literal["harder", "easier", "better"]
Transform = Literal["none", "shift", "minmax", "rank"]
Balance = Literal["none", "proportional", "uniform"]
ModeName = Literal["default", "paper", "reference"]
RowOrder = Literal["index", "rank"]
WrittenAs = Literal["index", "id", "mask", "datacomp-uid"]
ScoreKind = Literal[
    "el2n", "aum", "forgetting", "entropy", "confidence", "variability", "margin", "correctness",
    "prototypicality", "knn-distance", "label-disagreement",
]  # fmt: skip
MapMethod = Literal["tsne", "pca", "none"]
CompareMethod = Literal[
    "d2", "random", "highest", "cutoff", "ccs", "moderate", "k-center", "facility-location",
    "near-duplicates",
]  # fmt: skip


def choices(literal: object) -> tuple[str, ...]:
    """The values of one of the literal types above."""
    return get_args(literal)


#: Most rows: row numbers are int32.
MAX_ROWS = 2**31 - 1

# -- the graph ---------------------------------------------------------------------------------
N_NEIGHBORS = 10
#: Lists longer than this are allowed only if there are more rows than that.
MOST_NEIGHBORS = 10_000
METRIC: Metric = "euclidean"
METHOD: Method = "auto"
#: ``--method auto`` searches exactly up to this many rows.
EXACT_UP_TO = 20_000
#: Target recall@k of an approximate search.
RECALL = 0.95
#: Links per row of the HNSW index.
HNSW_M = 16
#: Candidates per insertion into the HNSW index.
EF_CONSTRUCTION = 100
SEED = 0
#: Seconds of work between two checkpoints. A shorter build writes none.
CHECKPOINT = 30.0

# -- scores and messages -----------------------------------------------------------------------
HIGHER_IS: HigherIs = "harder"
TRANSFORM: Transform = "none"
MODE: ModeName = "default"
#: Forward passes.
HOPS = 1
#: Most forward passes: far more than any graph needs to spread a message everywhere.
MAX_HOPS = 1_000

# -- selection ---------------------------------------------------------------------------------
BALANCE: Balance = "none"
ORDER: RowOrder = "index"
AS: WrittenAs = "index"

# -- the report --------------------------------------------------------------------------------
#: Distances are measured on all rows up to this many, else on a sample of this size.
MEASURED_ROWS = 20_000
MAP: MapMethod = "tsne"
#: The map shows all rows up to this many, else a sample of this size.
MAP_ROWS = 2_000
#: Examples of each kind.
EXAMPLES = 12

# -- the comparison ----------------------------------------------------------------------------
#: β of the baselines with a cutoff: a starting point, to be tuned.
COMPARED_CUTOFF = 0.1
#: Strata of coverage-centric selection; Zheng et al. 2023 use 50 in all experiments.
STRATA = 50


@dataclass(frozen=True)
class Mode:
    """The settings of one ``--mode``; an explicit option overrides them.

    Attributes:
        edges, kernel, bandwidth, gamma_forward, clamped: see :mod:`d2cli.api`.
        floor: a neighbour sends max(s_j, floor) in the forward pass; None: s_j.
        gamma_reverse: γ_r; None: the user must give it.
        exact: whether the mode requires an exact graph.
    """

    edges: EdgeRule
    kernel: Kernel
    bandwidth: float | Literal["median"]
    gamma_forward: float
    floor: float | None
    clamped: bool
    gamma_reverse: float | Literal["auto"] | None
    exact: bool = False


#: `default`: γ_f = 4, a kernel of bandwidth σ/2; wider kernels trained worse models
#: (evidence/README.md). `paper`: arXiv 2310.07931. `reference`: the dense sampler of the research
#: code, which uses exp(-d) in both directions and floors each neighbour's score at 1e-7.
MODES: dict[str, Mode] = {
    "default": Mode("union", "gaussian", "median", 4.0, None, True, "auto"),
    "paper": Mode("union", "gaussian", 1.0, 1.0, None, False, None),
    "reference": Mode("union", "exponential", 1.0, 1.0, 1e-7, False, None, exact=True),
}
