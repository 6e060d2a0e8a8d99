"""The plan of ``propagate``."""

from __future__ import annotations

from d2cli.commands.plan import Plan
from d2cli.commands.propagate.inputs import PropagateJob
from d2cli.files.sizes import read_graph, read_ids, read_vectors
from d2cli.messages import sizes
from d2cli.runtime.ledger import Ledger


def plan_propagate(job: PropagateJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    messages, layouts = job.messages, job.inputs.layouts
    n, k = job.graph.n, job.graph.n_neighbors
    ledger = Ledger()
    read_ids(ledger, job.graph.id_sizes)
    read_graph(ledger, n, k)
    read_ids(ledger, job.scores.layout().read_sizes, kept=False)
    read_vectors(ledger, n, 2)
    sizes.edges(ledger, n, k, messages.edges)
    sizes.forward(ledger, n, messages.hops, own_scores=False)
    return Plan(
        "propagate",
        layouts,
        f"{messages.edges} edges, {messages.kernel} kernel",
        ledger.estimate(),
        [(job.request.out, 8 * n + 128)],
        job.threads,
        job.room,
    )
