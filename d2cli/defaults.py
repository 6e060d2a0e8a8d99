"""Option types and defaults, shared by the Python API, the command line and its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Metric = Literal["euclidean", "cosine"]
Method = Literal["auto", "blocks", "hnsw", "exact"]
EdgeRule = Literal["union", "directed", "mutual"]
Kernel = Literal["gaussian", "exponential"]
HigherIs = Literal["harder", "easier", "better"]
Transform = Literal["none", "center", "shift", "minmax", "rank"]
Balance = Literal["none", "proportional", "uniform"]
Bandwidth = float | Literal["median"]
ModeName = Literal["default", "paper", "reference"]
RowOrder = Literal["index", "rank"]
WrittenAs = Literal["index", "id", "mask", "datacomp-uid"]
ScoreKind = Literal[
    "el2n", "aum", "forgetting", "entropy", "loss", "perplexity", "confidence", "variability",
    "margin", "correctness", "dual", "dyn-unc", "tdds", "loss-drop", "prototypicality",
    "target-similarity", "knn-distance", "label-disagreement",
]  # fmt: skip
TargetReduction = Literal["max", "mean"]
EngineName = Literal["local", "ray"]
BadRowsPolicy = Literal["refuse", "drop"]
MissingScores = Literal["refuse", "spread"]
MapMethod = Literal["tsne", "pca", "none"]
CompareMethod = Literal[
    "d2", "d2-paper", "random", "highest", "cutoff", "ccs", "moderate", "k-center",
    "facility-location", "near-duplicates", "semdedup-then-score", "graph-cut", "infomax", "zcore",
    "dual-sampling",
]  # fmt: skip


def choices(literal: object) -> tuple[str, ...]:
    """The values of one of the literal types above."""
    return get_args(literal)


MAX_ROWS = 2**31 - 1  #: row numbers are int32

# -- the graph ---------------------------------------------------------------------------------
N_NEIGHBORS = 10
MOST_NEIGHBORS = 10_000  #: longer lists are allowed only if there are more rows than that
METRIC: Metric = "euclidean"
METHOD: Method = "auto"
EXACT_UP_TO = 20_000  #: ``--method auto`` searches exactly up to this many rows
RECALL = 0.95  #: target recall@k of an approximate search
HNSW_M = 16  #: links per row of the HNSW index
EF_CONSTRUCTION = 100  #: candidates per insertion into the HNSW index
SEED = 0
ENGINE: EngineName = "local"
CHECKPOINT = 30.0  #: seconds of work between two checkpoints; a shorter build writes none

# -- scores and messages -----------------------------------------------------------------------
HIGHER_IS: HigherIs = "harder"
TRANSFORM: Transform = "none"
MISSING_SCORES: MissingScores = "refuse"
MODE: ModeName = "default"
MAX_HOPS = 1_000  #: far more than any graph needs to spread a message everywhere
WINDOW = 10  #: epochs in a window of dyn-unc, dual and tdds: J of their authors
TARGET_REDUCE: TargetReduction = "max"

# -- selection ---------------------------------------------------------------------------------
BALANCE: Balance = "none"
ORDER: RowOrder = "index"
AS: WrittenAs = "index"
BAD_ROWS: BadRowsPolicy = "refuse"

# -- the report --------------------------------------------------------------------------------
MEASURED_ROWS = 20_000  #: more rows than this are measured on a sample of this size
MAP: MapMethod = "tsne"
MAP_ROWS = 2_000  #: of more rows than this, the map shows a sample of this size
EXAMPLES = 12  #: examples of each kind

# -- the comparison ----------------------------------------------------------------------------
COMPARED_CUTOFF = 0.1  #: β of the baselines with a cutoff: a starting point, to be tuned
STRATA = 50  #: of coverage-centric selection; Zheng et al. 2023 use 50 in all experiments
#: γ_r of d2-paper: that of the authors' commands for CIFAR and ImageNet (README of
#: adymaharana/d2pruning). The paper tunes it for each data set and rate.
PAPER_GAMMA_REVERSE = 0.1
ALPHA = 0.1  #: α of graph-cut and infomax: a starting point, to be tuned
LIFT = 0.95  #: the lift that semdedup-then-score keeps: a starting point, to be tuned
INFOMAX_ITERATIONS = 20  #: on the sample data, more change nothing at this α
ZCORE_DRAWS = 1_000_000  #: the most draws of zcore, as in both programs of its authors
DUAL_SHAPE = 4.0  #: c of dual-sampling, as its authors use it on CIFAR; on ImageNet they use 11


@dataclass(frozen=True)
class DirectionDefaults:
    """What is used for scores of one direction; an explicit option overrides it.

    Attributes:
        keep_lift: the lift that an automatic γ_r keeps; None: it depends on the budget
            (:mod:`d2cli.selection.gamma.least`).
        hops: forward passes, unless the mode has its own number.
        cutoff: β if γ_r is automatic.
        negative: the transform if a utility would be negative; None: such scores are refused.
    """

    keep_lift: float | None
    hops: int
    cutoff: float | Literal["auto"]
    negative: Transform | None


#: Negative difficulties are mostly scores of the other direction. Similarities may be negative.
#: With ``better``, a high score is no reason to cut.
DIRECTIONS: dict[HigherIs, DirectionDefaults] = {
    "harder": DirectionDefaults(keep_lift=None, hops=1, cutoff="auto", negative=None),
    "easier": DirectionDefaults(keep_lift=None, hops=1, cutoff="auto", negative=None),
    "better": DirectionDefaults(keep_lift=0.95, hops=0, cutoff=0.0, negative="center"),
}
HOPS = DIRECTIONS[HIGHER_IS].hops  #: of functions on arrays, which know no direction


@dataclass(frozen=True)
class Mode:
    """The settings of one ``--mode``, see :mod:`d2cli.api`; an explicit option overrides them."""

    edges: EdgeRule
    kernel: Kernel
    bandwidth: Bandwidth
    gamma_forward: float
    floor: float | None
    clamped: bool
    gamma_reverse: float | Literal["auto"] | None  #: None: the user must give it
    hops: int | None = None  #: None: as DIRECTIONS has it
    exact: bool = False  #: whether the mode requires an exact graph


#: `default`: γ_f = 4, a kernel of bandwidth σ/2; wider kernels trained worse models
#: (evidence/README.md). `paper`: arXiv 2310.07931. `reference`: the dense sampler of the research
#: code, which uses exp(-d) in both directions and floors each neighbour's score at 1e-7.
MODES: dict[str, Mode] = {
    "default": Mode("union", "gaussian", "median", 4.0, None, True, "auto"),
    "paper": Mode("union", "gaussian", 1.0, 1.0, None, False, None, hops=1),
    "reference": Mode("union", "exponential", 1.0, 1.0, 1e-7, False, None, hops=1, exact=True),
}
