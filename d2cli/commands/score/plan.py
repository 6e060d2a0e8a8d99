"""The plan of ``score``."""

from __future__ import annotations

from pathlib import Path

from d2cli.commands.plan import Plan, describe_search, ids_of, matrix_of, search_of
from d2cli.commands.score.inputs import ScoreJob
from d2cli.difficulty import sizes
from d2cli.difficulty.kinds import KINDS
from d2cli.files.sizes import read_graph, read_ids, score_bytes, write
from d2cli.graph.sizes import build
from d2cli.runtime.ledger import Ledger


def plan_score(job: ScoreJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    layouts = job.inputs.layouts
    by_option = {layout.option: layout for layout in layouts}
    ledger, how = Ledger(), []
    if job.families["embeddings"]:
        matrix = matrix_of(by_option["emb"])
        clusters = job.request.n_clusters or sizes.default_clusters(matrix.rows)
        sizes.prototypes(ledger, matrix, clusters, job.options.metric, job.threads)
        sample = sizes.sampled_rows(matrix.rows, clusters)
        how.append(f"{clusters:,} centres by k-means on {sample:,} rows")
    if job.families["graph"]:
        if job.graph is not None:
            n, k = job.graph.n, job.graph.n_neighbors
            read_graph(ledger, n, k)
            how.append(f"the graph as it is, {job.graph.method}")
        else:
            search, n = search_of(job.options, job.threads), by_option["emb"].rows
            build(ledger, matrix_of(by_option["emb"]), search)
            k = search.n_neighbors
            how.append(describe_search(search, n))
        sizes.neighbours(ledger, n, k, len(job.families["graph"]))
    if job.outputs is not None:
        layout = by_option["logits" if job.logits else "probs"]
        used = sizes.Outputs(layout.rows, layout.width, len(job.epochs), layout.block)
        state = [KINDS[kind].state_bytes for kind in job.families["dynamics"]]
        sizes.dynamics(ledger, used, state, job.threads)
        how.append(f"{len(job.epochs)} of {job.outputs.count} epochs in blocks")
    frame = next(by_option[o] for o in ("emb", "graph", "logits", "probs") if o in by_option)
    ids, n = ids_of(frame), frame.rows
    read_ids(ledger, ids)
    for target, kinds in job.files.items():
        if (ending := Path(target).suffix.lower()) != ".npy":
            write(ledger, ending, n, len(kinds), ids)
    writes = [
        (target, score_bytes(target, n, len(kinds), ids)) for target, kinds in job.files.items()
    ]
    return Plan("score", layouts, "; ".join(how), ledger.estimate(), writes, job.threads)
