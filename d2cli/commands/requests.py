"""What each command is asked to do: one dataclass a command, one field an option.

A field's metadata says how the command line spells the option (:class:`Option`); ``cli/options.py``
makes the parser from it. A new option is one field here. None: not given, and something else
decides (:mod:`d2cli.commands.settle`); of ``checkpoint``: off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from d2cli import defaults
from d2cli.commands.numbers import decimal_number, not_a_number
from d2cli.defaults import (
    DIRECTIONS,
    MODES,
    BadRowsPolicy,
    Balance,
    CompareMethod,
    EdgeRule,
    EngineName,
    HigherIs,
    Kernel,
    MapMethod,
    Method,
    Metric,
    MissingScores,
    ModeName,
    RowOrder,
    ScoreKind,
    TargetReduction,
    Transform,
    WrittenAs,
    choices,
)
from d2cli.errors import UsageError
from d2cli.files.parts.part_kinds import PART_ROWS
from d2cli.limits import unknown_choice

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
        key: the option that names a column or member of this input; None: no such option.
        key_help, keys_repeat: its help, and whether it may repeat.
        required: whether the command line must give it.
    """

    flags: tuple[str, ...]
    group: str
    help: str
    metavar: str | None = None
    parse: Callable[[str, str], Any] | None = None
    key: str | None = None
    key_help: str = "Column or npz member to read."
    keys_repeat: bool = False
    required: bool = False


@dataclass(frozen=True)
class Input:
    """One input option: its paths, and the keys that name columns or members in them.

    Only embeddings have several keys, which are joined side by side.
    """

    paths: list[str]
    keys: tuple[str, ...] = ()

    @property
    def key(self) -> str | None:
        """The only key."""
        return self.keys[0] if self.keys else None


def option(group: str, flags: str, default: Any, help: str, **more: Any) -> Any:
    """A field for one option. With the default ``()`` it may repeat, and holds a tuple."""
    found = Option(tuple(flags.split()), group, help, **more)
    return dataclasses.field(default=default, metadata={"option": found})


def input_option(name: str, metavar: str, help: str, group: str = INPUTS) -> Any:
    """A field that is an input: ``--name``, which may repeat, and ``--name-key``."""
    return option(group, f"--{name}", None, help, metavar=metavar, key=f"--{name}-key")


def embeddings_option() -> Any:
    """A field for ``--emb``; its keys may repeat."""
    return option(INPUTS, "--emb", None, EMBEDDINGS, metavar="E", key="--emb-key",
        key_help="Column or npz member to read; may repeat: several are joined side by side, each "
        "scaled to unit length with --metric cosine.", keys_repeat=True)  # fmt: skip


def target_option() -> Any:
    """A field for ``--target``, embeddings of another set of rows."""
    return option(INPUTS, "--target", None,
        f"Embeddings of a target set, (m, d), for target-similarity. {_FILES}", metavar="T",
        key="--target-key", key_help="Column or npz member of the target; may repeat, as "
        "--emb-key.", keys_repeat=True)  # fmt: skip


def number_or(word: str) -> Callable[[str, str], Any]:
    """A parser of a number, or of the word that may stand for one."""

    def parse(text: str, flag: str) -> Any:
        if text == word:
            return text
        try:
            return float(text)
        except ValueError:
            raise not_a_number(text, flag, f"{word} or a number") from None

    return parse


def as_ratio(text: str, flag: str) -> str:
    """A ratio as it was written, since file names may repeat it."""
    decimal_number(text, flag)
    return text


def as_cost(text: str, flag: str) -> str:
    """A budget in cost as it was written, since file names may repeat it."""
    if not 0 < decimal_number(text, flag) < float("inf"):
        says = f"{flag} must be a number above 0, not {text}"
        raise UsageError(says, "it is what the rows that are kept may cost together")
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
    named = _names(text)
    for name in named:
        if name not in choices(CompareMethod):
            raise unknown_choice("method", name, choices(CompareMethod))
    return named


def kind_names(text: str, flag: str) -> tuple[str, ...]:
    """Some kinds of score, separated by commas; ``score`` refuses those that do not exist."""
    return _names(text)


def _names(text: str) -> tuple[str, ...]:
    """Names separated by commas, in any case and with ``_`` or ``-``, as the tables spell them."""
    return tuple(name.strip().lower().replace("_", "-") for name in text.split(","))


def _by_mode(value: object) -> str:
    """How help shows a default that the mode decides."""
    return f"[default: {value}, or as --mode has it]"


def _by_direction(name: str) -> str:
    """How help shows a default that depends on the direction of the scores; None: on the budget."""
    values = {meaning: getattr(own, name) for meaning, own in DIRECTIONS.items()}
    usual = values.pop(defaults.HIGHER_IS)
    others = [f"; {_shown(v)} with --higher-is {m}" for m, v in values.items() if v != usual]
    return _shown(usual) + "".join(others)


def _shown(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, int | float) else value or "by the budget"


# -- options that several commands share ----------------------------------------------------------
_OURS = MODES["default"]
_FILES = "A file, a folder of shards or a glob; may repeat."
EMBEDDINGS = f"Embeddings, (n, d). {_FILES}"
SCORE = f"One score a row. {_FILES}"
GRAPH_FILE = (
    "A graph: a file, a folder of parts (.d2), a glob of parts, or, repeated, its parts in order."
)


def _id_column() -> Any:
    return option(INPUTS, "--id-column", None,
        "Column of ids by which inputs are joined; 'none' joins by row. [default: id, uid or "
        "_curator_dedup_id if present]", metavar="NAME")  # fmt: skip


def _exclude() -> Any:
    return option(ROWS, "--exclude", (),
        "Rows to leave out: row numbers, a boolean mask, or ids; may repeat.",
        metavar="I")  # fmt: skip


def _bad_rows() -> Any:
    return option(ROWS, "--bad-rows", defaults.BAD_ROWS,
        "Rows with NaN, infinity, a null or, under cosine, a zero vector: refuse them, or drop "
        "them from everything.")  # fmt: skip


def _missing_scores() -> Any:
    return option(INPUTS, "--missing-scores", defaults.MISSING_SCORES,
        "Scores that are null or NaN: refuse them as bad rows, or spread the other scores along "
        "the graph to them.")  # fmt: skip


def _allow_stale() -> Any:
    return option(RUN, "--allow-stale", False,
        "Use a graph or propagated scores although their inputs have changed since.")  # fmt: skip


def _checkpoint() -> Any:
    return option(RUN, "--checkpoint", defaults.CHECKPOINT,
        "Save the state of a long build beside the output, at most once in SECONDS, so "
        f"that the same command resumes it. [default: auto, {defaults.CHECKPOINT:g}]",
        metavar="auto|off|SECONDS", parse=checkpoint_seconds)  # fmt: skip


def _keep_lift() -> Any:
    return option(SELECTION, "--keep-lift", None,
        "Share of the attainable mean score that is kept, above 0 and at most 1: γ_r is the "
        "smallest that keeps it, in place of --gamma-reverse. [default: "
        f"{_by_direction('keep_lift')}]", metavar="L", parse=decimal_number)  # fmt: skip


def _ratio(help: str) -> Any:
    return option(SELECTION, "--ratio", (), help, metavar="R", parse=as_ratio)


def _size(help: str) -> Any:
    return option(SELECTION, "--size", (), help, metavar="N")


@dataclass(frozen=True)
class RunOptions:
    """How the run goes; none of these changes a result."""

    threads: int | None = option(RUN, "--threads", None,
        "Number of threads; results do not depend on it. [default: all cores]")  # fmt: skip
    plan: bool = option(RUN, "--plan", False,
        "Print what the run would read, write and need (memory, disk, I/O), and "
        "exit.")  # fmt: skip
    pilot: bool = option(RUN, "--pilot", False,
        "With --plan: run the real stages on samples for some seconds, and forecast the "
        "time.")  # fmt: skip
    max_memory: str | None = option(RUN, "--max-memory", None,
        "Memory that the run keeps to, besides program and libraries (about 0.2 GiB): 8GiB, 8GB, "
        "500MiB or bytes; of a cluster, that of each node. What does not fit is kept in files in "
        "--work-dir; a run that cannot keep to it is refused. [default: a share of what is "
        "available]",
        metavar="SIZE")  # fmt: skip
    work_dir: str | None = option(RUN, "--work-dir", None,
        "Folder for files that do not fit in memory, or an address of an object store (s3://, "
        "gs://; extra remote); removed at the end. [default: beside the output]",
        metavar="DIR")  # fmt: skip
    engine: EngineName = option(RUN, "--engine", defaults.ENGINE,
        "Where graph, propagate and select run: on this machine, or as tasks of a Ray cluster, "
        "with the same result.")  # fmt: skip
    ray_address: str | None = option(RUN, "--ray-address", None,
        "The cluster of --engine ray: auto, or HOST:PORT. [default: RAY_ADDRESS, else one is "
        "started on this machine]", metavar="A")  # fmt: skip
    ray_nodes: int = option(RUN, "--ray-nodes", 1,
        "Wait until the cluster has this many nodes with cores, at most ten minutes.")  # fmt: skip
    explain: bool = option(RUN, "--explain", False,
        "Print each automatic decision with the numbers that led to it.")  # fmt: skip
    quiet: bool = option(RUN, "-q --quiet", False, "Print no notices and no summary.")
    json: bool = option(RUN, "--json", False, "Print the summary as JSON on stdout.")
    debug: bool = option(RUN, "--debug", False, "Show the traceback of an error.")


@dataclass(frozen=True)
class EmbeddingOptions:
    """How the files of ``--emb`` are read."""

    emb_bits: bool = option(INPUTS, "--emb-bits", False,
        "The embeddings are packed bits: each uint8 (or int8, its value minus 128) holds 8 "
        "columns of 0 or 1.")  # fmt: skip
    emb_scale: str | None = option(INPUTS, "--emb-scale", None,
        "Scale of quantised embeddings: a number, or a .npy file with one number a column (d,), "
        "or with the lowest and highest value of each column, (2, d).",
        metavar="S")  # fmt: skip

    @property
    def recorded(self) -> dict[str, Any]:
        """For provenance: the options that were given."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}


@dataclass(frozen=True)
class GraphOptions:
    """How a graph is built."""

    n_neighbors: int = option(GRAPH, "-k --n-neighbors", defaults.N_NEIGHBORS,
        "Number of neighbours listed for each row.")  # fmt: skip
    metric: Metric = option(GRAPH, "--metric", defaults.METRIC,
        "Distance; cosine is the Euclidean distance of unit vectors.")  # fmt: skip
    method: Method = option(GRAPH, "--method", defaults.METHOD,
        f"Search method; auto is exact up to {defaults.EXACT_UP_TO:,} rows, then "
        "blocks.")  # fmt: skip
    recall: float = option(GRAPH, "--recall", defaults.RECALL,
        "Target recall@k of approximate search.")  # fmt: skip
    hnsw_m: int = option(GRAPH, "--hnsw-m", defaults.HNSW_M, "HNSW: links of each node (M).")
    ef_construction: int = option(GRAPH, "--ef-construction", defaults.EF_CONSTRUCTION,
        "HNSW: search width while the index is built.")  # fmt: skip
    ef: int | None = option(GRAPH, "--ef", None,
        "HNSW: search width. [default: the smallest found to reach --recall]")  # fmt: skip
    seed: int = option(GRAPH, "--seed", defaults.SEED,
        "Seed of the index, of samples and of random choices.")  # fmt: skip


@dataclass(frozen=True)
class ScoreOptions:
    """What the scores mean; None: not given."""

    higher_is: HigherIs | None = option(INPUTS, "--higher-is", None,
        "Meaning of a high score: harder (EL2N, forgetting, loss), easier (AUM, confidence), "
        "better (CLIP similarity). [default: as recorded, else "
        f"{defaults.HIGHER_IS}]")  # fmt: skip
    score_transform: Transform | None = option(INPUTS, "--score-transform", None,
        "Transform of scores before messages; center subtracts their mean. [default: shift if "
        "scores are recorded as easier, center if they are better and some are negative, else "
        f"{defaults.TRANSFORM}]")  # fmt: skip


@dataclass(frozen=True)
class MessageOptions:
    """How messages pass; None where the mode decides."""

    mode: ModeName | None = option(MESSAGES, "--mode", None,
        "Set of rules: ours, the paper's, or the research code's. [default: "
        "default]")  # fmt: skip
    edges: EdgeRule | None = option(MESSAGES, "--edges", None,
        "Two rows are neighbours if either lists the other (union), the first lists the second "
        f"(directed), or both do (mutual). {_by_mode(_OURS.edges)}")  # fmt: skip
    kernel: Kernel | None = option(MESSAGES, "--kernel", None,
        f"Edge weight exp(-γ (d/σ)²) or exp(-γ d/σ). {_by_mode(_OURS.kernel)}")  # fmt: skip
    bandwidth: float | Literal["median"] | None = option(MESSAGES, "--bandwidth", None,
        f"σ, in units of distance. {_by_mode(_OURS.bandwidth)}",
        metavar="median|FLOAT", parse=number_or(MEDIAN))  # fmt: skip
    gamma_forward: float | None = option(MESSAGES, "--gamma-forward", None,
        f"γ_f. {_by_mode(f'{_OURS.gamma_forward:g}')}")  # fmt: skip
    hops: int | None = option(MESSAGES, "--hops", None,
        f"Forward passes. [default: {_by_direction('hops')}]")  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """How much to keep: a ratio, as it was written, or a size, or a cost, as it was written."""

    ratio: str | None = None
    size: int | None = None
    cost: str | None = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the selection goes and in what form."""

    out: str | None = option(OUTPUT, "--out", None,
        "Output; its ending sets the format: .npy .txt .csv .parquet .arrow, or .d2 for a folder "
        f"of parquet files of {PART_ROWS:,} rows each; - is text on stdout; "
        "{ratio}, {size} or {cost} stands for the budget. [default: selected.npy; of several "
        "budgets selected_{ratio}.npy, or selected_{size}.npy if a --size is given, or "
        "selected_{cost}.npy]",
        metavar="O")  # fmt: skip
    written_as: WrittenAs = option(OUTPUT, "--as", defaults.AS, "Content of .npy and text outputs.")
    order: RowOrder = option(OUTPUT, "--order", defaults.ORDER,
        "Ascending row numbers, or the order of selection.")  # fmt: skip
    complement: bool = option(OUTPUT, "--complement", False, "Write the rows that are dropped.")


# -- one dataclass a command ----------------------------------------------------------------------
@dataclass(frozen=True)
class GraphRequest:
    """``d2prune graph``."""

    emb: Input | None = embeddings_option()
    emb_options: EmbeddingOptions = EmbeddingOptions()
    id_column: str | None = _id_column()
    out: str = option(OUTPUT, "--out", "",
        "The graph: a file, or a folder of parts if the name ends in .d2.",
        metavar="G.arrow|G.d2", required=True)  # fmt: skip
    within: Input | None = option(ROWS, "--within", None,
        "Labels: neighbours are looked for inside the same label only; --labels-key names their "
        "column.", metavar="L", key="--labels-key")  # fmt: skip
    exclude: tuple[str, ...] = _exclude()
    bad_rows: BadRowsPolicy = _bad_rows()
    options: GraphOptions = GraphOptions()
    checkpoint: float | None = _checkpoint()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PropagateRequest:
    """``d2prune propagate``."""

    graph: tuple[str, ...] = option(INPUTS, "--graph", (), GRAPH_FILE,
        metavar="G.arrow|G.d2", required=True)  # fmt: skip
    scores: Input | None = input_option("scores", "S", SCORE)
    id_column: str | None = _id_column()
    score_options: ScoreOptions = ScoreOptions()
    missing_scores: MissingScores = _missing_scores()
    out: str = option(OUTPUT, "--out", "",
        "Propagated scores: float64, one a row.", metavar="P.npy", required=True)  # fmt: skip
    bad_rows: BadRowsPolicy = _bad_rows()
    messages: MessageOptions = MessageOptions()
    allow_stale: bool = _allow_stale()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SelectRequest:
    """``d2prune select``."""

    emb: Input | None = embeddings_option()
    emb_options: EmbeddingOptions = EmbeddingOptions()
    scores: Input | None = input_option("scores", "S", SCORE)
    graph: tuple[str, ...] = option(INPUTS, "--graph", (),
        f"In place of --emb. {GRAPH_FILE}", metavar="G.arrow|G.d2")  # fmt: skip
    propagated: str | None = option(INPUTS, "--propagated", None,
        "Propagated scores, in place of --scores.", metavar="P.npy")  # fmt: skip
    id_column: str | None = _id_column()
    score_options: ScoreOptions = ScoreOptions()
    missing_scores: MissingScores = _missing_scores()
    ratio: tuple[str, ...] = _ratio("Fraction of all rows to keep; may repeat.")
    size: tuple[int, ...] = _size("Number of rows to keep; may repeat.")
    cost_budget: tuple[str, ...] = option(SELECTION, "--cost-budget", (),
        "Cost of the rows to keep, in place of --ratio and --size: the selection ends before the "
        "first pick that would exceed it; may repeat.", metavar="X", parse=as_cost)  # fmt: skip
    cost: Input | None = input_option("cost", "C",
        f"The cost of each row, such as its tokens, for --cost-budget. {_FILES}",
        group=SELECTION)  # fmt: skip
    gamma_reverse: float | Literal["auto"] | None = option(SELECTION, "--gamma-reverse", None,
        "γ_r: small is strong. auto is the smallest that keeps the lift of --keep-lift. "
        "[default: auto; --mode paper and reference need a number]",
        metavar="auto|FLOAT", parse=number_or(AUTO))  # fmt: skip
    keep_lift: float | None = _keep_lift()
    cutoff: float | Literal["auto"] | None = option(SELECTION, "--cutoff", None,
        "Fraction of hardest rows dropped first; auto depends on scores and budget. [default: "
        f"{_by_direction('cutoff')}; 0 if γ_r is a number]",
        metavar="auto|BETA", parse=number_or(AUTO))  # fmt: skip
    cutoff_scores: Input | None = input_option(
        "cutoff-scores", "C", "Scores that --cutoff uses, if not S.", group=SELECTION
    )
    cutoff_higher_is: HigherIs | None = option(SELECTION, "--cutoff-higher-is", None,
        "Meaning of a high score in C. [default: as recorded, else harder]")  # fmt: skip
    output: OutputOptions = OutputOptions()
    labels: Input | None = input_option("labels", "L", "One label a row, for --balance.", ROWS)
    balance: Balance = option(ROWS, "--balance", defaults.BALANCE,
        "Share the budget among the labels.")  # fmt: skip
    include: tuple[str, ...] = option(ROWS, "--include", (),
        "Rows that count as picked first: row numbers, a boolean mask, or ids; may "
        "repeat.", metavar="I")  # fmt: skip
    exclude: tuple[str, ...] = _exclude()
    bad_rows: BadRowsPolicy = _bad_rows()
    within: Input | None = option(ROWS, "--within", None,
        "Labels: neighbours are looked for inside the same label only; --labels-key names their "
        "column too.", metavar="L", key="--labels-key")  # fmt: skip
    graph_options: GraphOptions = GraphOptions()
    messages: MessageOptions = MessageOptions()
    allow_stale: bool = _allow_stale()
    checkpoint: float | None = _checkpoint()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()

    @property
    def budgets(self) -> list[Budget]:
        """The budgets in the order of writing: ratios, then sizes, then costs."""
        return [*budgets_of(self.ratio, self.size), *(Budget(cost=c) for c in self.cost_budget)]


@dataclass(frozen=True)
class ScoreRequest:
    """``d2prune score``."""

    kinds: tuple[str, ...] = option(SCORES, "--kind", (),
        f"Kind of score, in any case; may repeat: {', '.join(choices(ScoreKind))}.",
        metavar="KIND[,KIND…]", parse=kind_names, required=True)  # fmt: skip
    logits: Input | None = input_option(
        "logits", "Z",
        "A model's logits, (epochs, n, classes), or (n, classes) of one epoch: a file, or a "
        "folder, glob or repeated option with one file an epoch.",
    )  # fmt: skip
    probs: Input | None = input_option("probs", "P", "Probabilities in the same form, not logits.")
    labels: Input | None = input_option("labels", "L", "One label a row: the number of its class.")
    emb: Input | None = embeddings_option()
    emb_options: EmbeddingOptions = EmbeddingOptions()
    target: Input | None = target_option()
    graph: tuple[str, ...] = option(INPUTS, "--graph", (),
        f"For knn-distance and label-disagreement. {GRAPH_FILE} [default: one is built]",
        metavar="G.arrow|G.d2")  # fmt: skip
    id_column: str | None = _id_column()
    epoch_rows: tuple[str, ...] = option(INPUTS, "--epoch-rows", (),
        "Row numbers of the outputs of each file of --logits or --probs, for outputs in the order "
        "of a shuffling loader; may repeat.", metavar="I")  # fmt: skip
    epochs: str | None = option(SCORES, "--epochs", None,
        "Epochs used, counted from 1, both ends included: 1:10, 5:, 3. [default: "
        "all]", metavar="A:B")  # fmt: skip
    window: int = option(SCORES, "--window", defaults.WINDOW,
        "Epochs in a window of dual, dyn-unc and tdds.", metavar="J")  # fmt: skip
    n_clusters: int | None = option(SCORES, "--n-clusters", None,
        "Number of centres for prototypicality. [default: √n]", metavar="K")  # fmt: skip
    target_reduce: TargetReduction = option(SCORES, "--target-reduce", defaults.TARGET_REDUCE,
        "Similarity to the nearest row of the target, or the mean over its rows.")  # fmt: skip
    out: str = option(OUTPUT, "--out", "",
        "Scores, float64; the ending sets the format: .npy .csv .parquet .arrow; {kind} stands "
        "for the kind.", metavar="S", required=True)  # fmt: skip
    bad_rows: BadRowsPolicy = _bad_rows()
    graph_options: GraphOptions = GraphOptions()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made; None where the selections' provenance decides."""

    metric: Metric | None = option(PAGE, "--metric", None,
        "Distance. [default: as in the selections' graphs, else euclidean]")  # fmt: skip
    higher_is: HigherIs | None = option(INPUTS, "--higher-is", None,
        "Meaning of a high score. [default: as the selections record it, else "
        "harder]")  # fmt: skip
    measured_rows: int = option(PAGE, "--measured-rows", defaults.MEASURED_ROWS,
        "Maximum number of rows on which distances are measured.")  # fmt: skip
    map: MapMethod = option(PAGE, "--map", defaults.MAP, "Projection that places rows on the map.")
    map_rows: int = option(PAGE, "--map-rows", defaults.MAP_ROWS,
        "Maximum number of rows on the map.")  # fmt: skip
    examples: int = option(PAGE, "--examples", defaults.EXAMPLES,
        "Maximum number of examples of each kind.")  # fmt: skip
    seed: int = option(PAGE, "--seed", defaults.SEED,
        "Seed of the rows that are drawn and of the map.")  # fmt: skip


@dataclass(frozen=True)
class ReportRequest:
    """``d2prune report``."""

    emb: Input | None = embeddings_option()
    emb_options: EmbeddingOptions = EmbeddingOptions()
    scores: Input | None = input_option("scores", "S", SCORE)
    selected: tuple[str, ...] = option(INPUTS, "--selected", (),
        "A selection that select wrote, in any format; may repeat.", metavar="O")  # fmt: skip
    labels: Input | None = input_option("labels", "L", "One label a row, for counts by class.")
    images: Input | None = input_option(
        "images", "X", "One image a row, as examples: (n, h, w[, 3])."
    )
    texts: Input | None = input_option(
        "texts", "T", "One text a row, as examples: lines of a .txt, or a column of text."
    )
    id_column: str | None = _id_column()
    out: str = option(OUTPUT, "--out", "", "The page.", metavar="R.html", required=True)
    bad_rows: BadRowsPolicy = _bad_rows()
    options: ReportOptions = ReportOptions()
    run: RunOptions = RunOptions()
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CompareOptions:
    """How methods are compared."""

    methods: tuple[CompareMethod, ...] = option(SELECTION, "--methods", (),
        f"Methods to compare, of {', '.join(choices(CompareMethod))}; may repeat. [default: "
        "all, dual-sampling only with --confidence]", metavar="M[,M…]",
        parse=method_names)  # fmt: skip
    gamma_reverse: float | Literal["auto"] = option(SELECTION, "--gamma-reverse", AUTO,
        "γ_r of d2. [default: auto]", metavar="auto|FLOAT", parse=number_or(AUTO))  # fmt: skip
    keep_lift: float | None = _keep_lift()
    hops: int | None = option(MESSAGES, "--hops", None,
        f"Forward passes of d2. [default: {_by_direction('hops')}]")  # fmt: skip
    cutoff: float = option(SELECTION, "--cutoff", defaults.COMPARED_CUTOFF,
        "Fraction of hardest rows that cutoff and ccs drop first.", metavar="BETA")  # fmt: skip
    strata: int = option(SELECTION, "--strata", defaults.STRATA, "Number of score strata of ccs.")
    alpha: float = option(SELECTION, "--alpha", defaults.ALPHA,
        "α of graph-cut and infomax: the weight of similarity against score.")  # fmt: skip
    dedup_lift: float = option(SELECTION, "--dedup-lift", defaults.LIFT,
        "Lift that semdedup-then-score keeps: it drops near-duplicates until (mean score kept − "
        "mean of all) / (mean of the N highest − mean of all) would be less.",
        metavar="L")  # fmt: skip
    paper_gamma_reverse: float = option(SELECTION, "--paper-gamma-reverse",
        defaults.PAPER_GAMMA_REVERSE, "γ_r of d2-paper.")  # fmt: skip
    measured_rows: int = option(PAGE, "--measured-rows", defaults.MEASURED_ROWS,
        "Maximum number of rows on which distances are measured.")  # fmt: skip


@dataclass(frozen=True)
class CompareRequest:
    """``d2prune compare``."""

    emb: Input | None = embeddings_option()
    emb_options: EmbeddingOptions = EmbeddingOptions()
    scores: Input | None = input_option("scores", "S", SCORE)
    labels: Input | None = input_option("labels", "L", "One label a row, for classes and moderate.")
    confidence: Input | None = input_option("confidence", "C",
        "Mean probability of the label over the epochs, as score --kind confidence writes it, for "
        "dual-sampling.")  # fmt: skip
    id_column: str | None = _id_column()
    score_options: ScoreOptions = ScoreOptions()
    ratio: tuple[str, ...] = _ratio("Fraction of all rows that each method keeps; may repeat.")
    size: tuple[int, ...] = _size("Number of rows that each method keeps; may repeat.")
    options: CompareOptions = CompareOptions()
    out: str = option(OUTPUT, "--out", "", "The page.", metavar="C.html", required=True)
    bad_rows: BadRowsPolicy = _bad_rows()
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


def as_parameters(options: Any) -> dict[str, Any]:
    """The fields of a dataclass of options as a dictionary, for provenance."""
    return dataclasses.asdict(options)
