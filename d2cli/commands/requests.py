"""What each command is asked to do: one dataclass a command, one field an option.

A field's metadata says how the command line spells the option (:class:`Option`); ``cli/options.py``
makes the parser from it. A new option is one field here. A value is None where the user said
nothing and something else decides (:mod:`d2cli.commands.settle`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

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
    ScoreKind,
    Transform,
    WrittenAs,
    choices,
)
from d2cli.errors import UsageError

AUTO: Final[Literal["auto"]] = "auto"
MEDIAN: Final[Literal["median"]] = "median"

# -- groups of options, as help shows them --------------------------------------------------------
INPUTS, SCORES, SELECTION, ROWS = "Inputs", "Scores", "Selection", "Balance and rows"
OUTPUT, PAGE, GRAPH, MESSAGES, RUN = "Output", "Page", "Graph", "Messages", "Run"


@dataclass(frozen=True)
class Option:
    """How the command line spells one field.

    Attributes:
        flags: ``--name``, and short forms before it.
        group: the heading under which help shows it.
        help: one sentence.
        metavar: what help calls the value; None: after its type.
        parse: makes the value from ``(text, flag)``; None: as typer reads the field's type.
        key: of an input, the option that names a column or member in its files; None: there is
            none of its own.
        required: whether the command line must give it.
    """

    flags: tuple[str, ...]
    group: str
    help: str
    metavar: str | None = None
    parse: Callable[[str, str], Any] | None = None
    key: str | None = None
    key_help: str = "Column or npz member to read."
    required: bool = False


@dataclass(frozen=True)
class Input:
    """One input option: its paths, and the key that names a column or member in them."""

    paths: list[str]
    key: str | None = None


def option(default: Any, *flags: str, group: str, help: str, **more: Any) -> Any:
    """A field that is one option."""
    return dataclasses.field(
        default=default, metadata={"option": Option(flags, group, help, **more)}
    )


def repeated(*flags: str, group: str, help: str, **more: Any) -> Any:
    """A field that is one option which may repeat: a tuple of values."""
    return option((), *flags, group=group, help=help, **more)


def source(name: str, metavar: str, help: str, *, key: bool = True, group: str = INPUTS) -> Any:
    """A field that is an input: ``--name``, which may repeat, and ``--name-key``."""
    return option(
        None, f"--{name}", group=group, help=help, metavar=metavar,
        key=f"--{name}-key" if key else None,
    )  # fmt: skip


def number_or(word: str) -> Callable[[str, str], Any]:
    """A parser of a number, or of the word that may stand for one."""

    def parse(text: str, flag: str) -> Any:
        if text == word:
            return text
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"{flag} must be {word} or a number, not {text!r}") from None

    return parse


def as_ratio(text: str, flag: str) -> str:
    """A ratio as it was written, since file names may repeat it."""
    try:
        float(text)
    except ValueError:
        raise UsageError(f"{flag} must be a number, not {text!r}") from None
    return text


def checkpoint_seconds(text: str, flag: str) -> float | None:
    """Seconds between two checkpoints; None for ``off``."""
    if text == "off":
        return None
    seconds = number_or(AUTO)(text, flag)
    if seconds == AUTO:
        return defaults.CHECKPOINT
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{flag} must be auto, off or seconds of at least 0, not {text}")
    return float(seconds)


def method_names(text: str, flag: str) -> tuple[str, ...]:
    """Some methods of ``compare``, separated by commas."""
    named = tuple(name.strip() for name in text.split(","))
    for name in named:
        if name not in choices(CompareMethod):
            raise UsageError(
                f"unknown method {name!r}", f"there are {', '.join(choices(CompareMethod))}"
            )
    return named


def _by_mode(value: object) -> str:
    """How help shows a default that the mode decides."""
    return f"[default: {value}, or as --mode has it]"


# -- options that several commands share ----------------------------------------------------------
_OURS = MODES["default"]
_FILES = "A file, a folder of shards or a glob; may repeat."
EMBEDDINGS = f"Embeddings, (n, d). {_FILES}"
SCORE = f"One score a row. {_FILES}"
GRAPH_FILE = "A graph file, in place of --emb."


def _id_column() -> Any:
    return option(
        None, "--id-column", group=INPUTS, metavar="NAME",
        help="Column of ids by which inputs are joined; 'none' joins by row. "
        "[default: id, uid or _curator_dedup_id if present]",
    )  # fmt: skip


def _exclude() -> Any:
    return repeated(
        "--exclude", group=ROWS, metavar="I",
        help="Rows to leave out: row numbers, a boolean mask, or ids.",
    )  # fmt: skip


def _allow_stale() -> Any:
    return option(
        False, "--allow-stale", group=RUN,
        help="Use a graph or propagated scores although their inputs have changed since.",
    )  # fmt: skip


def _checkpoint() -> Any:
    return option(
        defaults.CHECKPOINT, "--checkpoint", group=RUN, metavar="auto|off|SECONDS",
        parse=checkpoint_seconds,
        help="Save the state of a long build beside the output, at most every so many seconds, "
        f"so that the same command resumes it. [default: auto, {defaults.CHECKPOINT:g}]",
    )  # fmt: skip


def _ratio(help: str) -> Any:
    return repeated("--ratio", group=SELECTION, metavar="R", parse=as_ratio, help=help)


def _size(help: str) -> Any:
    return repeated("--size", group=SELECTION, metavar="N", help=help)


@dataclass(frozen=True)
class RunOptions:
    """How the run goes; none of these changes a result."""

    threads: int | None = option(
        None, "--threads", group=RUN,
        help="Number of threads; results do not depend on it. [default: all cores]",
    )  # fmt: skip
    plan: bool = option(
        False, "--plan", group=RUN,
        help="Print what the run would read, write and need (memory, disk, I/O), and exit.",
    )  # fmt: skip
    pilot: bool = option(
        False,
        "--pilot",
        group=RUN,
        help="With --plan: run the real stages on samples for some seconds, and forecast the time.",
    )
    max_memory: str | None = option(
        None, "--max-memory", group=RUN, metavar="SIZE",
        help="Refuse, before the work, a run that is predicted to need more memory: 8GiB, 8GB, "
        "500MiB or bytes. [default: print a notice if the prediction exceeds what is available]",
    )  # fmt: skip
    explain: bool = option(
        False,
        "--explain",
        group=RUN,
        help="Print each automatic decision with the numbers that led to it.",
    )
    quiet: bool = option(False, "-q", "--quiet", group=RUN, help="Print no notices and no summary.")
    json: bool = option(False, "--json", group=RUN, help="Print the summary as JSON on stdout.")
    debug: bool = option(False, "--debug", group=RUN, help="Show the traceback of an error.")


@dataclass(frozen=True)
class GraphOptions:
    """How a graph is built."""

    n_neighbors: int = option(
        defaults.N_NEIGHBORS, "-k", "--n-neighbors", group=GRAPH,
        help="Number of neighbours listed for each row.",
    )  # fmt: skip
    metric: Metric = option(
        defaults.METRIC, "--metric", group=GRAPH,
        help="Distance; cosine is the Euclidean distance of unit vectors.",
    )  # fmt: skip
    method: Method = option(
        defaults.METHOD, "--method", group=GRAPH,
        help=f"Search method; auto is exact up to {defaults.EXACT_UP_TO:,} rows, then ivf.",
    )  # fmt: skip
    recall: float = option(
        defaults.RECALL, "--recall", group=GRAPH, help="Target recall@k of approximate search."
    )
    hnsw_m: int = option(
        defaults.HNSW_M, "--hnsw-m", group=GRAPH, help="HNSW: links of each node (M)."
    )
    ef_construction: int = option(
        defaults.EF_CONSTRUCTION, "--ef-construction", group=GRAPH,
        help="HNSW: search width while the index is built.",
    )  # fmt: skip
    ef: int | None = option(
        None, "--ef", group=GRAPH,
        help="HNSW: search width. [default: the smallest found to reach --recall]",
    )  # fmt: skip
    seed: int = option(
        defaults.SEED, "--seed", group=GRAPH,
        help="Seed of the index, of samples and of random choices.",
    )  # fmt: skip


@dataclass(frozen=True)
class ScoreOptions:
    """What the scores mean; None where nobody said."""

    higher_is: HigherIs | None = option(
        None, "--higher-is", group=INPUTS,
        help="Meaning of a high score: harder (EL2N, forgetting, loss), easier (AUM, confidence), "
        f"better (CLIP similarity). [default: as recorded, else {defaults.HIGHER_IS}]",
    )  # fmt: skip
    score_transform: Transform | None = option(
        None, "--score-transform", group=INPUTS,
        help="Transform that makes scores at least 0, as messages need. "
        f"[default: {defaults.TRANSFORM}]",
    )  # fmt: skip


@dataclass(frozen=True)
class MessageOptions:
    """How messages pass; None where the mode decides."""

    mode: ModeName | None = option(
        None, "--mode", group=MESSAGES,
        help="Set of rules: ours, the paper's, or the research code's. [default: default]",
    )  # fmt: skip
    edges: EdgeRule | None = option(
        None, "--edges", group=MESSAGES,
        help="Two rows are neighbours if either lists the other (union), the first lists the "
        f"second (directed), or both do (mutual). {_by_mode(_OURS.edges)}",
    )  # fmt: skip
    kernel: Kernel | None = option(
        None, "--kernel", group=MESSAGES,
        help=f"Edge weight exp(-γ (d/σ)²) or exp(-γ d/σ). {_by_mode(_OURS.kernel)}",
    )  # fmt: skip
    bandwidth: float | Literal["median"] | None = option(
        None, "--bandwidth", group=MESSAGES, metavar="median|FLOAT", parse=number_or(MEDIAN),
        help=f"σ, in units of distance. {_by_mode(_OURS.bandwidth)}",
    )  # fmt: skip
    gamma_forward: float | None = option(
        None, "--gamma-forward", group=MESSAGES, help=f"γ_f. [default: {_OURS.gamma_forward}]"
    )
    hops: int | None = option(
        None, "--hops", group=MESSAGES, help=f"Forward passes. [default: {defaults.HOPS}]"
    )


@dataclass(frozen=True)
class Budget:
    """How much to keep: a ratio, as it was written, or a size."""

    ratio: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the selection goes and in what form."""

    out: str | None = option(
        None, "--out", group=OUTPUT, metavar="O",
        help="Output file; its ending sets the format: .npy .txt .csv .parquet .arrow; - is text "
        "on stdout; {ratio} or {size} stands for the budget. [default: selected.npy]",
    )  # fmt: skip
    written_as: WrittenAs = option(
        defaults.AS, "--as", group=OUTPUT, help="Content of .npy and text outputs."
    )
    order: RowOrder = option(
        defaults.ORDER, "--order", group=OUTPUT,
        help="Ascending row numbers, or the order of selection.",
    )  # fmt: skip
    complement: bool = option(
        False, "--complement", group=OUTPUT, help="Write the rows that are dropped."
    )


# -- one dataclass a command ----------------------------------------------------------------------
@dataclass(frozen=True)
class GraphRequest:
    """``d2prune graph``."""

    emb: Input | None = source("emb", "E", EMBEDDINGS)
    id_column: str | None = _id_column()
    out: str = option(
        "", "--out", group=OUTPUT, metavar="G.arrow", help="The graph file.", required=True
    )
    within: Input | None = option(
        None, "--within", group=ROWS, metavar="L", key="--labels-key",
        help="Labels: neighbours are looked for inside the same label only.",
    )  # fmt: skip
    exclude: tuple[str, ...] = _exclude()
    options: GraphOptions = GraphOptions()
    checkpoint: float | None = _checkpoint()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PropagateRequest:
    """``d2prune propagate``."""

    graph: str = option(
        "", "--graph", group=INPUTS, metavar="G.arrow", help="The graph file.", required=True
    )
    scores: Input | None = source("scores", "S", SCORE)
    id_column: str | None = _id_column()
    score_options: ScoreOptions = ScoreOptions()
    out: str = option(
        "", "--out", group=OUTPUT, metavar="P.npy", required=True,
        help="Propagated scores: float64, one a row.",
    )  # fmt: skip
    messages: MessageOptions = MessageOptions()
    allow_stale: bool = _allow_stale()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SelectRequest:
    """``d2prune select``."""

    emb: Input | None = source("emb", "E", EMBEDDINGS)
    scores: Input | None = source("scores", "S", SCORE)
    graph: str | None = option(None, "--graph", group=INPUTS, metavar="G.arrow", help=GRAPH_FILE)
    propagated: str | None = option(
        None, "--propagated", group=INPUTS, metavar="P.npy",
        help="Propagated scores, in place of --scores.",
    )  # fmt: skip
    id_column: str | None = _id_column()
    score_options: ScoreOptions = ScoreOptions()
    ratio: tuple[str, ...] = _ratio("Fraction of all rows to keep; may repeat.")
    size: tuple[int, ...] = _size("Number of rows to keep; may repeat.")
    gamma_reverse: float | Literal["auto"] | None = option(
        None, "--gamma-reverse", group=SELECTION, metavar="auto|FLOAT", parse=number_or(AUTO),
        help="γ_r: small is strong. auto is the smallest with which messages outlast the picks. "
        "[default: auto; --mode paper and reference need a number]",
    )  # fmt: skip
    cutoff: float | Literal["auto"] | None = option(
        None, "--cutoff", group=SELECTION, metavar="auto|BETA", parse=number_or(AUTO),
        help="Fraction of hardest rows dropped first; auto depends on scores and budget. "
        "[default: auto; 0 with --higher-is better, or if γ_r is a number]",
    )  # fmt: skip
    cutoff_scores: Input | None = source(
        "cutoff-scores", "C", "Scores that --cutoff uses, if not S.", group=SELECTION
    )
    cutoff_higher_is: HigherIs | None = option(
        None, "--cutoff-higher-is", group=SELECTION,
        help="Meaning of a high score in C. [default: as recorded, else harder]",
    )  # fmt: skip
    output: OutputOptions = OutputOptions()
    labels: Input | None = source("labels", "L", "One label a row, for --balance.", group=ROWS)
    balance: Balance = option(
        defaults.BALANCE, "--balance", group=ROWS, help="Share the budget among the labels."
    )
    include: tuple[str, ...] = repeated(
        "--include", group=ROWS, metavar="I",
        help="Rows already chosen: they count as picked first.",
    )  # fmt: skip
    exclude: tuple[str, ...] = _exclude()
    within: Input | None = option(
        None, "--within", group=ROWS, metavar="L", key="--labels-key",
        help="Labels: neighbours are looked for inside the same label only.",
    )  # fmt: skip
    graph_options: GraphOptions = GraphOptions()
    messages: MessageOptions = MessageOptions()
    allow_stale: bool = _allow_stale()
    checkpoint: float | None = _checkpoint()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()

    @property
    def budgets(self) -> list[Budget]:
        """The budgets in the order of writing: ratios, then sizes."""
        return budgets_of(self.ratio, self.size)


@dataclass(frozen=True)
class ScoreRequest:
    """``d2prune score``."""

    kinds: tuple[str, ...] = repeated(
        "--kind", group=SCORES, metavar="KIND", required=True,
        help=f"Kind of score; may repeat: {', '.join(choices(ScoreKind))}.",
    )  # fmt: skip
    logits: Input | None = source(
        "logits", "Z",
        "A model's logits, (epochs, n, classes), or (n, classes) of one epoch: a file, or a "
        "folder, glob or repeated option with one file an epoch.",
    )  # fmt: skip
    probs: Input | None = source("probs", "P", "Probabilities in the same form, not logits.")
    labels: Input | None = source("labels", "L", "One label a row: the number of its class.")
    emb: Input | None = source("emb", "E", EMBEDDINGS)
    graph: str | None = option(
        None, "--graph", group=INPUTS, metavar="G.arrow",
        help="A graph file, for knn-distance and label-disagreement. [default: one is built]",
    )  # fmt: skip
    id_column: str | None = _id_column()
    epochs: str | None = option(
        None, "--epochs", group=SCORES, metavar="A:B",
        help="Epochs used, counted from 1, both ends included: 1:10, 5:, 3. [default: all]",
    )  # fmt: skip
    n_clusters: int | None = option(
        None, "--n-clusters", group=SCORES, metavar="K",
        help="Number of centres for prototypicality. [default: √n]",
    )  # fmt: skip
    out: str = option(
        "", "--out", group=OUTPUT, metavar="S", required=True,
        help="Scores, float64; the ending sets the format: .npy .csv .parquet .arrow; {kind} "
        "stands for the kind.",
    )  # fmt: skip
    graph_options: GraphOptions = GraphOptions()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made; None where the selections' provenance decides."""

    metric: Metric | None = option(
        None, "--metric", group=PAGE,
        help="Distance. [default: as in the selections' graphs, else euclidean]",
    )  # fmt: skip
    higher_is: HigherIs | None = option(
        None, "--higher-is", group=INPUTS,
        help="Meaning of a high score. [default: as the selections record it, else harder]",
    )  # fmt: skip
    measured_rows: int = option(
        defaults.MEASURED_ROWS, "--measured-rows", group=PAGE,
        help="Maximum number of rows on which distances are measured.",
    )  # fmt: skip
    map: MapMethod = option(
        defaults.MAP, "--map", group=PAGE, help="Projection that places rows on the map."
    )
    map_rows: int = option(
        defaults.MAP_ROWS, "--map-rows", group=PAGE, help="Maximum number of rows on the map."
    )
    examples: int = option(
        defaults.EXAMPLES, "--examples", group=PAGE, help="Maximum number of examples of each kind."
    )
    seed: int = option(
        defaults.SEED, "--seed", group=PAGE, help="Seed of the rows that are drawn and of the map."
    )


@dataclass(frozen=True)
class ReportRequest:
    """``d2prune report``."""

    emb: Input | None = source("emb", "E", EMBEDDINGS)
    scores: Input | None = source("scores", "S", SCORE)
    selected: tuple[str, ...] = repeated(
        "--selected", group=INPUTS, metavar="O",
        help="A selection that select wrote, in any format; may repeat.",
    )  # fmt: skip
    labels: Input | None = source("labels", "L", "One label a row, for counts by class.")
    images: Input | None = source("images", "X", "One image a row, as examples: (n, h, w[, 3]).")
    texts: Input | None = source(
        "texts", "T", "One text a row, as examples: lines of a .txt, or a column of text."
    )
    id_column: str | None = _id_column()
    out: str = option("", "--out", group=OUTPUT, metavar="R.html", help="The page.", required=True)
    options: ReportOptions = ReportOptions()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CompareOptions:
    """How methods are compared."""

    methods: tuple[CompareMethod, ...] = repeated(
        "--methods", group=SELECTION, metavar="M[,M…]", parse=method_names,
        help=f"Methods to compare, of {', '.join(choices(CompareMethod))}; may repeat. "
        "[default: all]",
    )  # fmt: skip
    gamma_reverse: float | Literal["auto"] = option(
        AUTO, "--gamma-reverse", group=SELECTION, metavar="auto|FLOAT", parse=number_or(AUTO),
        help="γ_r of d2.",
    )  # fmt: skip
    cutoff: float = option(
        defaults.COMPARED_CUTOFF, "--cutoff", group=SELECTION, metavar="BETA",
        help="Fraction of hardest rows that cutoff and ccs drop first.",
    )  # fmt: skip
    strata: int = option(
        defaults.STRATA, "--strata", group=SELECTION, help="Number of score strata of ccs."
    )
    measured_rows: int = option(
        defaults.MEASURED_ROWS, "--measured-rows", group=PAGE,
        help="Maximum number of rows on which distances are measured.",
    )  # fmt: skip


@dataclass(frozen=True)
class CompareRequest:
    """``d2prune compare``."""

    emb: Input | None = source("emb", "E", EMBEDDINGS)
    scores: Input | None = source("scores", "S", SCORE)
    labels: Input | None = source("labels", "L", "One label a row, for classes and moderate.")
    id_column: str | None = _id_column()
    score_options: ScoreOptions = ScoreOptions()
    ratio: tuple[str, ...] = _ratio("Fraction of all rows that each method keeps; may repeat.")
    size: tuple[int, ...] = _size("Number of rows that each method keeps; may repeat.")
    options: CompareOptions = CompareOptions()
    out: str = option("", "--out", group=OUTPUT, metavar="C.html", help="The page.", required=True)
    graph_options: GraphOptions = GraphOptions()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()

    @property
    def budgets(self) -> list[Budget]:
        """The budgets in the order of the page: ratios, then sizes."""
        return budgets_of(self.ratio, self.size)


def budgets_of(ratios: tuple[str, ...], sizes: tuple[int, ...]) -> list[Budget]:
    """Budgets from the two options that name them."""
    return [*(Budget(ratio=r) for r in ratios), *(Budget(size=s) for s in sizes)]


def recorded(options: Any) -> dict[str, Any]:
    """The fields of a dataclass of options as a dictionary, for provenance."""
    return dataclasses.asdict(options)
