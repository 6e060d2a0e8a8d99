"""``d2prune graph``."""

from __future__ import annotations

from typing import Annotated

import typer

from d2cli import defaults
from d2cli.cli import options as o
from d2cli.cli.ahead import look_ahead
from d2cli.cli.console import progress_bar, show_notice, show_summary
from d2cli.errors import UsageError

EXAMPLE = """\b
Example:
  d2prune graph --emb sample_data/emb.npy --out graph.arrow
"""


def command(
    out: Annotated[str, typer.Option("--out", metavar="G.arrow", help="The graph file.")],
    emb: o.EmbPaths = None,
    emb_key: o.EmbKey = None,
    id_column: o.IdColumn = None,
    n_neighbors: o.NNeighbors = defaults.N_NEIGHBORS,
    metric: o.MetricOption = defaults.METRIC,
    method: o.MethodOption = defaults.METHOD,
    recall: o.Recall = defaults.RECALL,
    hnsw_m: o.HnswM = defaults.HNSW_M,
    ef_construction: o.EfConstruction = defaults.EF_CONSTRUCTION,
    ef: o.Ef = None,
    within: o.Within = None,
    labels_key: o.LabelsKey = None,
    exclude: o.Exclude = None,
    checkpoint: o.CheckpointOption = "auto",
    threads: o.Threads = None,
    seed: o.Seed = defaults.SEED,
    plan: o.PlanOnly = False,
    max_memory: o.MaxMemory = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Find every example's nearest neighbours.

    They are written as an Arrow file. The recall@k that an approximate search reached is measured
    on a sample, reported and recorded.
    """
    from d2cli.commands.plans import plan_graph
    from d2cli.commands.requests import GraphOptions, GraphRequest

    source = o.as_input(emb, emb_key, "emb")
    if source is None:
        raise UsageError("graph needs --emb")
    request = GraphRequest(
        emb=source,
        out=out,
        options=GraphOptions(
            n_neighbors, metric, method, recall, hnsw_m, ef_construction, ef, seed
        ),
        within=o.as_input(within, labels_key, "within", "labels-key"),
        exclude=list(exclude or []),
        id_column=id_column,
        checkpoint=o.checkpoint_seconds(checkpoint),
        threads=threads,
    )
    if not look_ahead(lambda: plan_graph(request), plan, max_memory):
        return
    from d2cli.commands.graph import run_graph

    with progress_bar() as progress:
        summary = run_graph(request, progress, show_notice)
    show_summary(summary)
