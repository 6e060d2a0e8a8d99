"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

import typer

from d2cli import defaults
from d2cli.cli.console import CONSOLE
from d2cli.commands.requests import Input
from d2cli.defaults import (
    MODES,
    EdgeRule,
    HigherIs,
    Kernel,
    Method,
    Metric,
    ModeName,
    Transform,
)
from d2cli.errors import UsageError

_OURS = MODES["default"]
AUTO: Final[Literal["auto"]] = "auto"
MEDIAN: Final[Literal["median"]] = "median"


def _remember(name: str) -> Callable[[bool], bool]:
    def callback(value: bool) -> bool:
        setattr(CONSOLE, name, value)
        return value

    return callback


def _by_mode(value: object) -> str:
    """How help shows a default that the mode decides."""
    return f"{value}, or as --mode has it"


# -- inputs --------------------------------------------------------------------------------------
_FILES = "a file, a folder of shards or a glob; may repeat"
EmbPaths = Annotated[
    list[str] | None,
    typer.Option("--emb", metavar="E", help=f"Embeddings, (n, d): {_FILES}."),
]
EmbKey = Annotated[
    str | None,
    typer.Option("--emb-key", metavar="NAME", help="Column or npz member that holds them."),
]
ScorePaths = Annotated[
    list[str] | None,
    typer.Option("--scores", metavar="S", help=f"One score a row: {_FILES}."),
]
ScoresKey = Annotated[
    str | None,
    typer.Option("--scores-key", metavar="NAME", help="Column or npz member that holds them."),
]
LabelsKey = Annotated[
    str | None,
    typer.Option("--labels-key", metavar="NAME", help="Column or npz member that holds labels."),
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        "--id-column",
        metavar="NAME",
        help="Column of the ids by which inputs are joined; 'none' joins by row. "
        "[default: id, uid or _curator_dedup_id, where there is one]",
    ),
]
Within = Annotated[
    list[str] | None,
    typer.Option("--within", metavar="L", help="Labels: look for neighbours inside each only."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="I", help="Rows that take no part: row numbers, a mask, or ids."
    ),
]

# -- the graph -----------------------------------------------------------------------------------
NNeighbors = Annotated[
    int, typer.Option("-k", "--n-neighbors", help="Neighbours that each row lists.")
]
MetricOption = Annotated[
    Metric, typer.Option("--metric", help="cosine is Euclidean distance of unit vectors.")
]
MethodOption = Annotated[
    Method, typer.Option("--method", help="How neighbours are found; auto goes by size.")
]
Recall = Annotated[
    float, typer.Option("--recall", help="recall@k to aim at where search is approximate.")
]
HnswM = Annotated[int, typer.Option("--hnsw-m", help="HNSW: links of each node (M).")]
EfConstruction = Annotated[
    int, typer.Option("--ef-construction", help="HNSW: width of the search while building.")
]
Ef = Annotated[
    int | None,
    typer.Option("--ef", help="HNSW: width of the search. [default: what reaches --recall]"),
]
CheckpointOption = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="auto|off|SECONDS",
        help="Keep the state of a long build beside the output, at most once in so many seconds "
        f"(auto: {defaults.CHECKPOINT:g}), so that the same command can resume it.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of the index and of the recall sample.")]

# -- scores and messages -------------------------------------------------------------------------
HigherIsOption = Annotated[
    HigherIs | None,
    typer.Option(
        "--higher-is",
        help="What a high score says: harder (EL2N, forgetting, loss), easier (AUM, confidence), "
        f"better (CLIP similarity). [default: {defaults.HIGHER_IS}]",
    ),
]
ScoreTransform = Annotated[
    Transform | None,
    typer.Option(
        "--score-transform",
        help=f"Brings scores to at least 0, as messages need. [default: {defaults.TRANSFORM}]",
    ),
]
ModeOption = Annotated[
    ModeName | None,
    typer.Option(
        "--mode",
        help="Which rules: ours, the paper's, or the research code's. [default: default]",
    ),
]
EdgesOption = Annotated[
    EdgeRule | None,
    typer.Option(
        "--edges",
        help="Neighbours if either lists the other, as listed, or if both do. "
        f"[default: {_by_mode(_OURS.edges)}]",
    ),
]
KernelOption = Annotated[
    Kernel | None,
    typer.Option(
        "--kernel",
        help=f"Edge weight exp(-γ (d/σ)²) or exp(-γ d/σ). [default: {_by_mode(_OURS.kernel)}]",
    ),
]
Bandwidth = Annotated[
    str | None,
    typer.Option(
        "--bandwidth",
        metavar="median|FLOAT",
        help=f"σ, in units of distance. [default: {_by_mode(_OURS.bandwidth)}]",
    ),
]
GammaForward = Annotated[
    float | None,
    typer.Option("--gamma-forward", help=f"γ_f. [default: {_OURS.gamma_forward}]"),
]
Hops = Annotated[
    int | None, typer.Option("--hops", help=f"Forward passes. [default: {defaults.HOPS}]")
]

AllowStale = Annotated[
    bool,
    typer.Option(
        "--allow-stale",
        help="Use a graph or propagated scores although what they were made from has changed.",
    ),
]

# -- the run -------------------------------------------------------------------------------------
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="Threads; results do not depend on it. [default: every core]"),
]
PlanOnly = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Say what the run would read, write and need (memory, disk, rough time), and exit. "
        "Reads headers only.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Refuse, before the work, a run that is predicted to need more: 8GiB, 8GB, 500MiB or "
        "bytes. [default: a notice where it is more than what is available]",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="No notices, no summary.", callback=_remember("quiet")),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="The summary as JSON on stdout.", callback=_remember("json")),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show the traceback of an error.",
        callback=_remember("debug"),
        is_eager=True,
    ),
]


def as_input(
    paths: list[str] | None, key: str | None, option: str, key_option: str = ""
) -> Input | None:
    """An input option and its key as one value."""
    if not paths:
        if key is not None:
            name = key_option or f"{option}-key"
            raise UsageError(f"--{name} names something in --{option}, which is not given")
        return None
    return Input(list(paths), key)


def checkpoint_seconds(text: str) -> float | None:
    """What --checkpoint says; None for off."""
    if text == "off":
        return None
    seconds = number_or(AUTO, text, "checkpoint")
    if seconds == AUTO or seconds is None:
        return defaults.CHECKPOINT
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"--checkpoint must be auto, off or seconds of at least 0, not {text}")
    return seconds


def named(context: typer.Context) -> frozenset[str]:
    """The options that were given by name, as they are written."""
    return frozenset(
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name
        and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    )


Word = TypeVar("Word", bound=str)


def number_or(word: Word, text: str | None, option: str) -> float | Word | None:
    """A number, or the word that may stand for one."""
    if text is None:
        return None
    if text == word:
        return word
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{option} must be {word} or a number, not {text!r}") from None
