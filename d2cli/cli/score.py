"""``d2prune score``."""

from __future__ import annotations

from typing import Annotated

import typer

from d2cli import defaults
from d2cli.cli import options as o
from d2cli.cli.ahead import look_ahead
from d2cli.cli.console import progress_bar, show_summary
from d2cli.defaults import ScoreKind, choices

_KINDS = choices(ScoreKind)

EXAMPLE = """\b
Examples:
  d2prune score --kind el2n --epochs 1:5 --logits sample_data/logits.npy \\
      --labels sample_data/labels.npy --out el2n.npy
  d2prune score --kind aum --kind forgetting --logits sample_data/logits.npy \\
      --labels sample_data/labels.npy --out scores.parquet
  d2prune score --kind knn-distance --emb sample_data/emb.npy --out sparse.npy
"""


def command(
    context: typer.Context,
    kind: Annotated[
        list[str],
        typer.Option(
            "--kind", metavar="KIND", help=f"Which score; may repeat: {', '.join(_KINDS)}."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="S",
            help="Scores, float64; the ending says the form: .npy .csv .parquet .arrow; {kind} "
            "stands for the kind.",
        ),
    ],
    logits: Annotated[
        list[str] | None,
        typer.Option(
            "--logits",
            metavar="Z",
            help="A model's logits, (epochs, n, classes), or (n, classes) of one epoch: a file, or "
            "a folder, glob or repeated option with a file an epoch.",
        ),
    ] = None,
    logits_key: Annotated[
        str | None,
        typer.Option("--logits-key", metavar="NAME", help="Column or npz member that holds them."),
    ] = None,
    probs: Annotated[
        list[str] | None,
        typer.Option(
            "--probs", metavar="P", help="Probabilities in the same form, in their place."
        ),
    ] = None,
    probs_key: Annotated[
        str | None,
        typer.Option("--probs-key", metavar="NAME", help="Column or npz member that holds them."),
    ] = None,
    epochs: Annotated[
        str | None,
        typer.Option(
            "--epochs",
            metavar="A:B",
            help="Epochs used, counted from 1, both ends included: 1:10, 5:, 3. [default: all]",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="L", help="One label a row: the number of its class."),
    ] = None,
    labels_key: o.LabelsKey = None,
    emb: o.EmbPaths = None,
    emb_key: o.EmbKey = None,
    graph: Annotated[
        str | None,
        typer.Option(
            "--graph",
            metavar="G.arrow",
            help="A graph file, for knn-distance and label-disagreement; else one is built.",
        ),
    ] = None,
    n_clusters: Annotated[
        int | None,
        typer.Option(
            "--n-clusters", metavar="K", help="Centres for prototypicality. [default: √n]"
        ),
    ] = None,
    id_column: o.IdColumn = None,
    n_neighbors: o.NNeighbors = defaults.N_NEIGHBORS,
    metric: o.MetricOption = defaults.METRIC,
    method: o.MethodOption = defaults.METHOD,
    recall: o.Recall = defaults.RECALL,
    hnsw_m: o.HnswM = defaults.HNSW_M,
    ef_construction: o.EfConstruction = defaults.EF_CONSTRUCTION,
    ef: o.Ef = None,
    threads: o.Threads = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of k-means; of a graph that is built.")
    ] = defaults.SEED,
    plan: o.PlanOnly = False,
    max_memory: o.MaxMemory = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Score each example's difficulty.

    From a model's outputs over epochs: el2n, forgetting, entropy, variability (high: hard, or
    ambiguous), aum, confidence, margin, correctness (high: easy). From embeddings alone:
    prototypicality, knn-distance. From labels and neighbours: label-disagreement. What a high
    score says travels with the output, and `select` and `propagate` go by it.
    """
    from d2cli.commands.plan_score import plan_score
    from d2cli.commands.requests import GraphOptions, ScoreRequest

    request = ScoreRequest(
        kinds=list(kind),
        out=out,
        logits=o.as_input(logits, logits_key, "logits"),
        probs=o.as_input(probs, probs_key, "probs"),
        labels=o.as_input(labels, labels_key, "labels"),
        epochs=epochs,
        emb=o.as_input(emb, emb_key, "emb"),
        graph=graph,
        graph_options=GraphOptions(
            n_neighbors, metric, method, recall, hnsw_m, ef_construction, ef, seed
        ),
        n_clusters=n_clusters,
        id_column=id_column,
        threads=threads,
        named=o.named(context),
    )
    if not look_ahead(lambda: plan_score(request), plan, max_memory):
        return
    from d2cli.commands.score.run import run_score

    with progress_bar() as progress:
        summary = run_score(request, progress)
    show_summary(summary)
