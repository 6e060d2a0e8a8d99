"""What a run is asked to do, as plain values: made from a command line, checked before any work."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from d2cli import defaults
from d2cli.defaults import (
    MODES,
    Balance,
    CompareMethod,
    EdgeRule,
    HigherIs,
    Kernel,
    MapMethod,
    Method,
    Metric,
    ModeName,
    RowOrder,
    Transform,
    WrittenAs,
)
from d2cli.difficulty.kinds import KINDS, check_kinds, of_family
from d2cli.errors import UsageError


@dataclass(frozen=True)
class Input:
    """One input option: its paths, and the key that names a column or member in them."""

    paths: list[str]
    key: str | None = None


@dataclass(frozen=True)
class GraphOptions:
    """How a graph is built."""

    n_neighbors: int = defaults.N_NEIGHBORS
    metric: Metric = defaults.METRIC
    method: Method = defaults.METHOD
    recall: float = defaults.RECALL
    hnsw_m: int = defaults.HNSW_M
    ef_construction: int = defaults.EF_CONSTRUCTION
    ef: int | None = None
    seed: int = defaults.SEED


@dataclass(frozen=True)
class ScoreOptions:
    """What the scores mean; None where nobody said."""

    higher_is: HigherIs | None = None
    score_transform: Transform | None = None

    def resolved(self) -> ScoreOptions:
        """Every value settled."""
        return ScoreOptions(
            self.higher_is or defaults.HIGHER_IS, self.score_transform or defaults.TRANSFORM
        )


@dataclass(frozen=True)
class MessageOptions:
    """How messages pass. What is None is as `mode` has it, see :meth:`resolved`."""

    mode: ModeName | None = None
    edges: EdgeRule | None = None
    kernel: Kernel | None = None
    bandwidth: float | Literal["median"] | None = None
    gamma_forward: float | None = None
    hops: int | None = None

    def resolved(self) -> Messages:
        """Every value settled: what is given by name wins over the mode."""
        name = self.mode or defaults.MODE
        mode = MODES[name]
        return Messages(
            mode=name,
            edges=self.edges or mode.edges,
            kernel=self.kernel or mode.kernel,
            bandwidth=mode.bandwidth if self.bandwidth is None else self.bandwidth,
            gamma_forward=mode.gamma_forward if self.gamma_forward is None else self.gamma_forward,
            hops=defaults.HOPS if self.hops is None else self.hops,
            floor=mode.floor,
            clamped=mode.clamped,
            exact=mode.exact,
        )


Options = TypeVar("Options", ScoreOptions, MessageOptions)

#: What a propagated file has settled: saying something else later would be believed and not done.
_SETTLED = ("mode", "gamma_forward", "hops", "higher_is", "score_transform")


def inherit(options: Options, parameters: dict[str, Any], path: str) -> Options:
    """Options with what is None taken from the parameters of the step that made `path`.

    Raises:
        UsageError: where an option says otherwise of what that step has settled.
    """
    taken = {}
    for name in (f.name for f in dataclasses.fields(options)):
        said, was = getattr(options, name), parameters.get(name)
        if said is None:
            taken[name] = was
        elif name in _SETTLED and was is not None and said != was:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{path}: was propagated with {flag} {was}, and {flag} {said} comes too late",
                f"give {flag} to propagate, or leave it out here",
            )
    return dataclasses.replace(options, **taken)


@dataclass(frozen=True)
class Messages:
    """How messages pass, settled."""

    mode: ModeName
    edges: EdgeRule
    kernel: Kernel
    bandwidth: float | Literal["median"]
    gamma_forward: float
    hops: int
    floor: float | None
    clamped: bool
    exact: bool

    def check_method(self, method: str) -> None:
        """Refuse an approximate graph where the mode promises an exact one."""
        if self.exact and method != "exact":
            raise UsageError(
                f"--mode {self.mode} is defined on an exact graph, and this one is by {method}",
                "build it with --method exact",
            )


@dataclass(frozen=True)
class Budget:
    """How much to keep: a ratio, as it was written, or a size."""

    ratio: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the selection goes and in what form."""

    out: str | None = None
    written_as: WrittenAs = defaults.AS
    order: RowOrder = defaults.ORDER
    complement: bool = False


@dataclass(frozen=True)
class GraphRequest:
    """``d2prune graph``."""

    emb: Input
    out: str
    options: GraphOptions = GraphOptions()
    within: Input | None = None
    exclude: list[str] = dataclasses.field(default_factory=list)
    id_column: str | None = None
    checkpoint: float | None = defaults.CHECKPOINT  # seconds between two; None: none
    threads: int | None = None


@dataclass(frozen=True)
class ScoreRequest:
    """``d2prune score``."""

    kinds: list[str]
    out: str
    logits: Input | None = None
    probs: Input | None = None
    labels: Input | None = None
    epochs: str | None = None
    emb: Input | None = None
    graph: str | None = None
    graph_options: GraphOptions = GraphOptions()
    n_clusters: int | None = None
    id_column: str | None = None
    threads: int | None = None
    named: frozenset[str] = frozenset()  # the options that were given by name


@dataclass(frozen=True)
class PropagateRequest:
    """``d2prune propagate``."""

    graph: str
    scores: Input
    out: str
    score_options: ScoreOptions = ScoreOptions()
    messages: MessageOptions = MessageOptions()
    id_column: str | None = None
    allow_stale: bool = False
    threads: int | None = None


@dataclass(frozen=True)
class SelectRequest:
    """``d2prune select``."""

    budgets: list[Budget]
    emb: Input | None = None
    graph: str | None = None
    scores: Input | None = None
    propagated: str | None = None
    graph_options: GraphOptions = GraphOptions()
    within: Input | None = None
    score_options: ScoreOptions = ScoreOptions()
    messages: MessageOptions = MessageOptions()
    gamma_reverse: float | Literal["auto"] | None = None
    labels: Input | None = None
    balance: Balance = defaults.BALANCE
    cutoff: float | Literal["auto"] | None = None  # None: auto where gamma_reverse is
    cutoff_scores: Input | None = None
    cutoff_higher_is: HigherIs | None = None
    include: list[str] = dataclasses.field(default_factory=list)
    exclude: list[str] = dataclasses.field(default_factory=list)
    output: OutputOptions = OutputOptions()
    id_column: str | None = None
    allow_stale: bool = False
    checkpoint: float | None = defaults.CHECKPOINT
    threads: int | None = None
    named: frozenset[str] = frozenset()  # the options that were given by name

    @property
    def early_cutoff(self) -> float:
        """The β that is cut before the graph is built: one that is given as a number."""
        return 0.0 if self.cutoff is None or self.cutoff == "auto" else self.cutoff


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made. What is None is as the selections record it."""

    metric: Metric | None = None
    higher_is: HigherIs | None = None
    measured_rows: int = defaults.MEASURED_ROWS
    map: MapMethod = defaults.MAP
    map_rows: int = defaults.MAP_ROWS
    examples: int = defaults.EXAMPLES
    seed: int = defaults.SEED


@dataclass(frozen=True)
class ReportRequest:
    """``d2prune report``."""

    emb: Input
    scores: Input
    selected: list[str]
    out: str
    labels: Input | None = None
    images: Input | None = None
    texts: Input | None = None
    options: ReportOptions = ReportOptions()
    id_column: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class CompareOptions:
    """How methods are compared. `methods` are in the order of the page."""

    methods: tuple[CompareMethod, ...]
    gamma_reverse: float | Literal["auto"] = "auto"
    cutoff: float = defaults.COMPARED_CUTOFF
    strata: int = defaults.STRATA
    measured_rows: int = defaults.MEASURED_ROWS


@dataclass(frozen=True)
class CompareRequest:
    """``d2prune compare``."""

    emb: Input
    scores: Input
    budgets: list[Budget]
    out: str
    options: CompareOptions
    labels: Input | None = None
    graph_options: GraphOptions = GraphOptions()
    score_options: ScoreOptions = ScoreOptions()
    id_column: str | None = None
    threads: int | None = None


def check_graph(request: GraphRequest) -> None:
    """Refuse a graph that is to be no Arrow file."""
    if not request.out.endswith((".arrow", ".feather")):
        raise UsageError(f"{request.out}: a graph is an Arrow file", "end its name in .arrow")


def check_propagate(request: PropagateRequest) -> None:
    """Refuse propagated scores that are to be no ``.npy`` file."""
    if not request.out.endswith(".npy"):
        raise UsageError(f"{request.out}: propagated scores are a .npy file")


def families_of(request: ScoreRequest) -> dict[str, list[str]]:
    """The kinds that were asked for, by what they are made from."""
    return {name: of_family(request.kinds, name) for name in ("dynamics", "embeddings", "graph")}


def check_score(request: ScoreRequest) -> None:
    """Refuse kinds that stand twice or lack their input."""
    check_kinds(request.kinds)
    families = families_of(request)
    if families["dynamics"]:
        first = families["dynamics"][0]
        if request.logits is None and request.probs is None:
            raise UsageError(f"--kind {first} needs --logits or --probs")
        if request.logits is not None and request.probs is not None:
            raise UsageError(
                "--logits and --probs are two forms of the same thing: give one",
                "from logits the probabilities are computed",
            )
    if families["embeddings"] and request.emb is None:
        raise UsageError(f"--kind {families['embeddings'][0]} needs --emb")
    if families["graph"] and request.emb is None and request.graph is None:
        raise UsageError(f"--kind {families['graph'][0]} needs --graph or --emb")
    for kind in request.kinds:
        if KINDS[kind].labels and request.labels is None:
            raise UsageError(f"--kind {kind} needs --labels")
        if KINDS[kind].logits_only and request.logits is None:
            raise UsageError(
                f"--kind {kind} is defined on logits: from --probs it would be another number",
                "give --logits; or take --kind margin, which is the margin of probabilities",
            )


def check_select(request: SelectRequest) -> None:
    """Refuse what makes no sense whatever the data."""
    if request.emb is None and request.graph is None:
        raise UsageError("select needs --emb or --graph", "d2prune select --help has examples")
    if request.scores is None and request.propagated is None:
        raise UsageError("select needs --scores or --propagated")
    if request.propagated is not None and request.graph is None:
        raise UsageError("--propagated belongs to a graph: give --graph too")
    if request.within is not None and request.graph is not None:
        raise UsageError("--within is for building a graph, and --graph has one already")
    if not request.budgets:
        raise UsageError("select needs --ratio or --size")
    if not 0 <= request.early_cutoff < 1:  # a plan goes by it before any row is looked at
        raise UsageError(f"cutoff must be at least 0 and below 1, not {request.early_cutoff:g}")
    if request.balance != "none" and request.labels is None:
        raise UsageError(f"--balance {request.balance} needs --labels")
    if request.output.complement and request.output.order == "rank":
        raise UsageError("--complement has no rank: what is dropped was never picked")


def given(options: Any) -> dict[str, Any]:
    """The fields of one of the dataclasses above as a dictionary, for provenance."""
    return dataclasses.asdict(options)
