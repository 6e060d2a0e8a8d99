"""The plan of ``graph``."""

from __future__ import annotations

from d2cli.commands.graph.inputs import GraphJob
from d2cli.commands.plan import (
    Plan,
    describe_search,
    matrix_of,
    read_sizes_of,
    search_notes,
    search_of,
)
from d2cli.files.sizes import graph_bytes, read_ids
from d2cli.graph.sizes import build
from d2cli.limits import check_neighbors
from d2cli.runtime.ledger import Ledger


def plan_graph(job: GraphJob) -> Plan:
    """What the run would need with everything in memory, from the layouts of its inputs."""
    layouts, emb = job.inputs.layouts, job.emb.layout()
    ids = read_sizes_of(emb, job.within)  # the graph keeps them
    check_neighbors(job.options.n_neighbors, emb.rows)
    search = search_of(
        job.options, job.threads, grouped=len(layouts) > 1, checkpoint=job.request.checkpoint
    )
    ledger = Ledger()
    read_ids(ledger, ids)
    build(ledger, matrix_of(emb), search)
    return Plan(
        "graph",
        layouts,
        describe_search(search, emb.rows),
        ledger.estimate(),
        [(job.request.out, graph_bytes(emb.rows, job.options.n_neighbors, ids))],
        job.threads,
        job.room,
        search_notes(search),
    )
