"""``d2prune compare``."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from d2cli import defaults
from d2cli.cli import options as o
from d2cli.cli.ahead import look_ahead
from d2cli.cli.console import progress_bar, show_summary
from d2cli.cli.select import as_ratio
from d2cli.defaults import CompareMethod, choices
from d2cli.errors import UsageError

EXAMPLE = """\b
Example:
  d2prune compare --emb sample_data/emb.npy --scores sample_data/scores.npy \\
      --labels sample_data/labels.npy --ratio 0.1 --ratio 0.3 --out compare.html
"""
_METHODS = choices(CompareMethod)


def command(
    out: Annotated[str, typer.Option("--out", metavar="C.html", help="The page.")],
    emb: o.EmbPaths = None,
    emb_key: o.EmbKey = None,
    scores: o.ScorePaths = None,
    scores_key: o.ScoresKey = None,
    ratio: Annotated[
        list[str] | None,
        typer.Option("--ratio", metavar="R", help="The fraction that is kept; may repeat."),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option("--size", metavar="N", help="How many rows are kept; may repeat."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            metavar="M[,M…]",
            help=f"Which to compare, of {', '.join(_METHODS)}; may repeat. [default: all]",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="L", help="One label a row, for classes and moderate."),
    ] = None,
    labels_key: o.LabelsKey = None,
    id_column: o.IdColumn = None,
    higher_is: o.HigherIsOption = None,
    score_transform: o.ScoreTransform = None,
    gamma_reverse: Annotated[
        str, typer.Option("--gamma-reverse", metavar="auto|FLOAT", help="γ_r of d2.")
    ] = o.AUTO,
    cutoff: Annotated[
        float,
        typer.Option("--cutoff", metavar="BETA", help="The share that cutoff and ccs drop first."),
    ] = defaults.COMPARED_CUTOFF,
    strata: Annotated[
        int, typer.Option("--strata", help="Of the scores, in ccs.")
    ] = defaults.STRATA,
    n_neighbors: o.NNeighbors = defaults.N_NEIGHBORS,
    metric: o.MetricOption = defaults.METRIC,
    method: o.MethodOption = defaults.METHOD,
    recall: o.Recall = defaults.RECALL,
    measured_rows: Annotated[
        int,
        typer.Option("--measured-rows", help="Distances are measured on as many rows at most."),
    ] = defaults.MEASURED_ROWS,
    threads: o.Threads = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of random choices, the index, and rows that are drawn.")
    ] = defaults.SEED,
    plan: o.PlanOnly = False,
    max_memory: o.MaxMemory = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Set D2 beside other methods, on a web page.

    At equal budgets; it needs no network. Coverage, redundancy, difficulty, classes, and how much
    the selections have in common. --json prints the numbers. k-center takes time in proportion to
    rows times budget.
    """
    from d2cli.commands import requests as r
    from d2cli.commands.plan_pages import plan_compare

    emb_source = o.as_input(emb, emb_key, "emb")
    score_source = o.as_input(scores, scores_key, "scores")
    if emb_source is None or score_source is None:
        raise UsageError("compare needs --emb and --scores")
    request = r.CompareRequest(
        emb=emb_source,
        scores=score_source,
        budgets=[
            *(r.Budget(ratio=as_ratio(text)) for text in ratio or []),
            *(r.Budget(size=value) for value in size or []),
        ],
        out=out,
        options=r.CompareOptions(
            _named_methods(methods),
            o.number_or(o.AUTO, gamma_reverse, "gamma-reverse") or o.AUTO,
            cutoff,
            strata,
            measured_rows,
        ),
        labels=o.as_input(labels, labels_key, "labels"),
        graph_options=r.GraphOptions(n_neighbors, metric, method, recall, seed=seed),
        score_options=r.ScoreOptions(higher_is, score_transform),
        id_column=id_column,
        threads=threads,
    )
    if not look_ahead(lambda: plan_compare(request), plan, max_memory):
        return
    from d2cli.commands.compare.run import run_compare

    with progress_bar() as progress:
        summary = run_compare(request, progress)
    show_summary(summary)


def _named_methods(given: list[str] | None) -> tuple[CompareMethod, ...]:
    """The methods that are asked for, in their usual order."""
    if not given:
        return cast("tuple[CompareMethod, ...]", _METHODS)
    named = [name.strip() for text in given for name in text.split(",")]
    for name in named:
        if name not in _METHODS:
            raise UsageError(f"unknown method {name!r}", f"there are {', '.join(_METHODS)}")
    return cast("tuple[CompareMethod, ...]", tuple(m for m in _METHODS if m in named))
