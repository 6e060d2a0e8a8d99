"""The plan of ``score``."""

from __future__ import annotations

from pathlib import Path

from d2cli.commands.plan import Plan, describe_search, matrix_of, read_sizes_of, search_of
from d2cli.commands.score.inputs import ScoreJob
from d2cli.difficulty import sizes
from d2cli.difficulty.kinds import statistics_of
from d2cli.files.formats.fields import BLOCK_BYTES
from d2cli.files.sizes import read_graph, read_ids, score_bytes, write
from d2cli.graph.sizes import build
from d2cli.runtime.ledger import Ledger


def plan_score(job: ScoreJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    ledger, how = Ledger(), []
    emb = None if job.emb is None else job.emb.layout()
    if "prototypicality" in job.families["embeddings"]:
        assert emb is not None
        matrix = matrix_of(emb)
        clusters = job.request.n_clusters or sizes.default_clusters(matrix.rows)
        sizes.prototypes(ledger, matrix, clusters, job.options.metric, job.threads)
        sample = sizes.sampled_rows(matrix.rows, clusters)
        how.append(f"{clusters:,} centres by k-means on {sample:,} rows")
    if job.target is not None:
        assert emb is not None
        aim, reduce = matrix_of(job.target.layout()), job.request.target_reduce
        sizes.similarities(ledger, matrix_of(emb), aim, reduce, job.threads)
        how.append(f"{reduce} cosine to {aim.rows:,} rows")
    if job.families["graph"]:
        if job.graph is not None:
            n, k = job.graph.n, job.graph.n_neighbors
            read_graph(ledger, n, k, job.graph.mapped)
            how.append(f"the graph as it is, {job.graph.method}")
        else:
            assert emb is not None
            search, n = search_of(job.options, job.threads), emb.rows
            build(ledger, matrix_of(emb), search)
            k = search.n_neighbors
            how.append(describe_search(search, n))
        sizes.neighbours(ledger, n, k, len(job.families["graph"]))
    if job.outputs is not None:
        outputs = job.outputs.layout()
        block = min(BLOCK_BYTES, outputs.size) + outputs.reading
        kinds = job.families["dynamics"]
        used = sizes.Outputs(
            outputs.rows, outputs.width, len(job.epochs), outputs.dtype.itemsize,
            job.request.window, block,
        )  # fmt: skip
        kept = [statistic for statistic, _ in statistics_of(kinds)]
        sizes.dynamics(ledger, used, kept, len(kinds), job.threads)
        how.append(f"{len(job.epochs)} of {job.outputs.count} epochs in blocks")
    if job.graph is not None and emb is None:
        n, ids = job.graph.n, read_sizes_of(job.graph, job.labels, job.outputs)
    else:
        frame = outputs if emb is None else emb
        n, ids = frame.rows, read_sizes_of(frame, job.labels, job.outputs)
    read_ids(ledger, ids)
    writes = []
    for target, kinds in job.files.items():
        ending = Path(target).suffix.lower()
        writes.append((target, score_bytes(ending, n, len(kinds), ids)))
        if ending != ".npy":
            write(ledger, ending, n, len(kinds), ids)
    return Plan(
        "score", job.inputs.layouts, "; ".join(how), ledger.estimate(), writes, job.threads,
        job.room,
    )  # fmt: skip
