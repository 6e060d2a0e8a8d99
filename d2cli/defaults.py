"""The one home of every default and of every number that names a rule.

The Python API, the command line and its help all read these names; nothing else repeats them.
"""

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
    "el2n",
    "aum",
    "forgetting",
    "entropy",
    "confidence",
    "variability",
    "margin",
    "correctness",
    "prototypicality",
    "knn-distance",
    "label-disagreement",
]
MapMethod = Literal["tsne", "pca", "none"]
CompareMethod = Literal[
    "d2",
    "random",
    "highest",
    "cutoff",
    "ccs",
    "moderate",
    "k-center",
    "facility-location",
    "near-duplicates",
]


def choices(literal: object) -> tuple[str, ...]:
    """The values that one of the literal types above allows."""
    return get_args(literal)


#: Row numbers are int32.
MAX_ROWS = 2**31 - 1

# -- the graph ---------------------------------------------------------------------------------
N_NEIGHBORS = 10
#: More are refused where there are no more rows than that.
MOST_NEIGHBORS = 10_000
METRIC: Metric = "euclidean"
METHOD: Method = "auto"
#: Up to so many rows exact search is the quicker one, and nothing needs to be measured.
EXACT_UP_TO = 20_000
RECALL = 0.95
HNSW_M = 16
EF_CONSTRUCTION = 100
SEED = 0
#: Seconds of work between two checkpoints; what is done sooner needs none.
CHECKPOINT = 30.0

# -- scores and messages -----------------------------------------------------------------------
HIGHER_IS: HigherIs = "harder"
TRANSFORM: Transform = "none"
MODE: ModeName = "default"
HOPS = 1
#: Messages have gone everywhere long before.
MAX_HOPS = 1_000

# -- selection ---------------------------------------------------------------------------------
BALANCE: Balance = "none"
ORDER: RowOrder = "index"
AS: WrittenAs = "index"

# -- the report --------------------------------------------------------------------------------
#: Rows on which distances are measured, and rows on the map: of more rows so many are drawn.
MEASURED_ROWS = 20_000
MAP: MapMethod = "tsne"
MAP_ROWS = 2_000
#: Examples of each kind.
EXAMPLES = 12

# -- the comparison ----------------------------------------------------------------------------
#: β of the methods that have a cutoff; theirs is to be tuned, and this is where to start.
COMPARED_CUTOFF = 0.1
#: Of coverage-centric selection (Zheng et al. 2023, who use 50 in all experiments).
STRATA = 50


@dataclass(frozen=True)
class Mode:
    """What one ``--mode`` stands for; an option that is given by name wins over it.

    `floor` is the least score that a neighbour sends in the forward pass (None: as it is).
    `exact` says that only an exact graph will do.
    """

    edges: EdgeRule
    kernel: Kernel
    bandwidth: float | Literal["median"]
    gamma_forward: float
    floor: float | None
    clamped: bool
    gamma_reverse: float | Literal["auto"] | None
    exact: bool = False


#: `default` is ours: its forward messages reach half as far (γ_f = 4 is a kernel of σ/2), since
#: wider ones made for worse models (evidence/README.md). `paper` follows arXiv 2310.07931;
#: `reference` the research code's dense sampler, which floors each neighbour's score at 1e-7 and
#: uses exp(-d) in both directions.
MODES: dict[str, Mode] = {
    "default": Mode("union", "gaussian", "median", 4.0, None, True, "auto"),
    "paper": Mode("union", "gaussian", 1.0, 1.0, None, False, None),
    "reference": Mode("union", "exponential", 1.0, 1.0, 1e-7, False, None, exact=True),
}
