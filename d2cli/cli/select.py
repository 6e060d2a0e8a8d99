"""``d2prune select``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from d2cli import defaults
from d2cli.cli import options as o
from d2cli.cli.ahead import look_ahead
from d2cli.cli.console import CONSOLE, progress_bar, show_notice, show_summary
from d2cli.defaults import Balance, HigherIs, RowOrder, WrittenAs
from d2cli.errors import UsageError

EXAMPLE = """\b
Examples:
  d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy --ratio 0.3
  d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy \\
      --ratio 0.1 --ratio 0.3 --out 'kept_{ratio}.parquet'
"""


def command(
    context: typer.Context,
    emb: o.EmbPaths = None,
    emb_key: o.EmbKey = None,
    graph: Annotated[
        str | None,
        typer.Option("--graph", metavar="G.arrow", help="A graph file, in place of --emb."),
    ] = None,
    scores: o.ScorePaths = None,
    scores_key: o.ScoresKey = None,
    propagated: Annotated[
        str | None,
        typer.Option("--propagated", metavar="P.npy", help="From propagate, in place of --scores."),
    ] = None,
    ratio: Annotated[
        list[str] | None,
        typer.Option("--ratio", metavar="R", help="Fraction kept, of all rows; may repeat."),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option("--size", metavar="N", help="How many are kept; may repeat."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="O",
            help="Output; its ending says the form: .npy .txt .csv .parquet .arrow; - is text on "
            "stdout; {ratio} or {size} stands for the budget. [default: selected.npy]",
        ),
    ] = None,
    written_as: Annotated[
        WrittenAs, typer.Option("--as", help="What is written into .npy and text.")
    ] = defaults.AS,
    order: Annotated[
        RowOrder, typer.Option("--order", help="Ascending row numbers, or the order of selection.")
    ] = defaults.ORDER,
    complement: Annotated[
        bool, typer.Option("--complement", help="Write what is dropped instead.")
    ] = False,
    id_column: o.IdColumn = None,
    gamma_reverse: Annotated[
        str | None,
        typer.Option(
            "--gamma-reverse",
            metavar="auto|FLOAT",
            help="γ_r: small is strong. auto is the strongest whose messages outlast the budget. "
            "[default: auto; --mode paper and reference need a number]",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="L", help="One label a row, for --balance."),
    ] = None,
    labels_key: o.LabelsKey = None,
    balance: Annotated[
        Balance, typer.Option("--balance", help="Share the budget among the labels.")
    ] = defaults.BALANCE,
    cutoff: Annotated[
        str | None,
        typer.Option(
            "--cutoff",
            metavar="auto|BETA",
            help="Fraction of hardest rows dropped first. auto goes by the scores and the budget. "
            "[default: auto; 0 with --higher-is better, or where γ_r is a number]",
        ),
    ] = None,
    cutoff_scores: Annotated[
        list[str] | None,
        typer.Option("--cutoff-scores", metavar="C", help="What --cutoff goes by, if not S."),
    ] = None,
    cutoff_scores_key: Annotated[
        str | None,
        typer.Option("--cutoff-scores-key", metavar="NAME", help="Column that holds them."),
    ] = None,
    cutoff_higher_is: Annotated[
        HigherIs | None,
        typer.Option("--cutoff-higher-is", help="Direction of C. [default: harder]"),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include", metavar="I", help="Rows already chosen: they count as picked first."
        ),
    ] = None,
    exclude: o.Exclude = None,
    higher_is: o.HigherIsOption = None,
    score_transform: o.ScoreTransform = None,
    mode: o.ModeOption = None,
    edges: o.EdgesOption = None,
    kernel: o.KernelOption = None,
    bandwidth: o.Bandwidth = None,
    gamma_forward: o.GammaForward = None,
    hops: o.Hops = None,
    n_neighbors: o.NNeighbors = defaults.N_NEIGHBORS,
    metric: o.MetricOption = defaults.METRIC,
    method: o.MethodOption = defaults.METHOD,
    recall: o.Recall = defaults.RECALL,
    hnsw_m: o.HnswM = defaults.HNSW_M,
    ef_construction: o.EfConstruction = defaults.EF_CONSTRUCTION,
    ef: o.Ef = None,
    within: o.Within = None,
    allow_stale: o.AllowStale = False,
    checkpoint: o.CheckpointOption = "auto",
    threads: o.Threads = None,
    seed: o.Seed = defaults.SEED,
    plan: o.PlanOnly = False,
    max_memory: o.MaxMemory = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Choose what to keep, by greedy picks.

    Each lowers its neighbours' scores. From embeddings and scores in one step, or from a graph file
    and scores that were propagated on it. --ratio is the fraction that is kept.
    """
    from d2cli.commands import requests as r
    from d2cli.commands.plans import plan_select

    if CONSOLE.json and out == "-":
        raise UsageError("--json and --out - both want standard output")
    label_source = o.as_input(labels or within, labels_key, "labels")
    request = r.SelectRequest(
        budgets=[
            *(r.Budget(ratio=as_ratio(text)) for text in ratio or []),
            *(r.Budget(size=value) for value in size or []),
        ],
        emb=o.as_input(emb, emb_key, "emb"),
        graph=graph,
        scores=o.as_input(scores, scores_key, "scores"),
        propagated=propagated,
        graph_options=r.GraphOptions(
            n_neighbors, metric, method, recall, hnsw_m, ef_construction, ef, seed
        ),
        within=o.as_input(within, labels_key if within else None, "within"),
        score_options=r.ScoreOptions(higher_is, score_transform),
        messages=r.MessageOptions(
            mode, edges, kernel, o.number_or(o.MEDIAN, bandwidth, "bandwidth"), gamma_forward, hops
        ),
        gamma_reverse=o.number_or(o.AUTO, gamma_reverse, "gamma-reverse"),
        labels=label_source if labels else None,
        balance=balance,
        cutoff=o.number_or(o.AUTO, cutoff, "cutoff"),
        cutoff_scores=o.as_input(cutoff_scores, cutoff_scores_key, "cutoff-scores"),
        cutoff_higher_is=cutoff_higher_is,
        include=list(include or []),
        exclude=list(exclude or []),
        output=r.OutputOptions(out, written_as, order, complement),
        id_column=id_column,
        allow_stale=allow_stale,
        checkpoint=o.checkpoint_seconds(checkpoint),
        threads=threads,
        named=o.named(context),
    )
    if not look_ahead(lambda: plan_select(request), plan, max_memory):
        return
    from d2cli.commands.select.run import run_select

    with progress_bar() as progress:
        summary = run_select(request, progress, sys.stdout, show_notice)
    show_summary(summary)


def as_ratio(text: str) -> str:
    """A ratio as it was written, since file names may repeat it."""
    try:
        float(text)
    except ValueError:
        raise UsageError(f"--ratio must be a number, not {text!r}") from None
    return text
