"""``d2prune propagate``."""

from __future__ import annotations

from typing import Annotated

import typer

from d2cli.cli import options as o
from d2cli.cli.ahead import look_ahead
from d2cli.cli.console import progress_bar, show_summary
from d2cli.errors import UsageError

EXAMPLE = """\b
Example:
  d2prune graph --emb sample_data/emb.npy --out graph.arrow
  d2prune propagate --graph graph.arrow --scores sample_data/scores.npy --out propagated.npy
"""


def command(
    graph: Annotated[str, typer.Option("--graph", metavar="G.arrow", help="The graph file.")],
    out: Annotated[
        str, typer.Option("--out", metavar="P.npy", help="Propagated scores: float64, one a row.")
    ],
    scores: o.ScorePaths = None,
    scores_key: o.ScoresKey = None,
    id_column: o.IdColumn = None,
    higher_is: o.HigherIsOption = None,
    score_transform: o.ScoreTransform = None,
    mode: o.ModeOption = None,
    edges: o.EdgesOption = None,
    kernel: o.KernelOption = None,
    bandwidth: o.Bandwidth = None,
    gamma_forward: o.GammaForward = None,
    hops: o.Hops = None,
    allow_stale: o.AllowStale = False,
    threads: o.Threads = None,
    plan: o.PlanOnly = False,
    max_memory: o.MaxMemory = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Let each score take in its neighbours'.

    That is forward message passing. What is chosen here travels with P: `select` uses the same
    edges, kernel and bandwidth unless it is told otherwise.
    """
    from d2cli.commands.plans import plan_propagate
    from d2cli.commands.requests import MessageOptions, PropagateRequest, ScoreOptions

    source = o.as_input(scores, scores_key, "scores")
    if source is None:
        raise UsageError("propagate needs --scores")
    request = PropagateRequest(
        graph=graph,
        scores=source,
        out=out,
        score_options=ScoreOptions(higher_is, score_transform),
        messages=MessageOptions(
            mode, edges, kernel, o.number_or(o.MEDIAN, bandwidth, "bandwidth"), gamma_forward, hops
        ),
        id_column=id_column,
        allow_stale=allow_stale,
        threads=threads,
    )
    if not look_ahead(lambda: plan_propagate(request), plan, max_memory):
        return
    from d2cli.commands.propagate import run_propagate

    with progress_bar() as progress:
        summary = run_propagate(request, progress)
    show_summary(summary)
