"""The plan of ``propagate``."""

from __future__ import annotations

from d2cli.commands.budget import Room, Spill, arranged
from d2cli.commands.plan import Plan, on_cluster
from d2cli.commands.propagate.inputs import PropagateJob
from d2cli.commands.requests import MEDIAN
from d2cli.commands.settle import Messages
from d2cli.defaults import EdgeRule
from d2cli.files.sizes import graph_bytes, read_graph, read_ids, read_vectors
from d2cli.messages import sizes
from d2cli.runtime.ledger import Ledger

#: How often lists of neighbours are read beside their check: twice to send reverse edges to their
#: part, once to fill the parts; and for the median distance and the decision on it.
_LIST_PASSES, _MEDIAN_PASSES = 3, 5


def plan_propagate(job: PropagateJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    messages, layouts = job.messages, job.inputs.layouts
    n, k = job.graph.n, job.graph.n_neighbors
    spreads = job.request.missing_scores == "spread"
    passes = messages.hops + (sizes.SPREAD_ROUNDS if spreads else 0)

    def account(ledger: Ledger, tasks: Ledger, spare: int | None) -> None:
        read_ids(ledger, job.graph.id_sizes)
        if spare is None:
            read_graph(ledger, n, k, job.graph.mapped)
        read_ids(ledger, job.scores.layout().read_sizes, kept=False)
        read_vectors(ledger, n, 2)
        account_edges(job.room, ledger, tasks, n, k, messages.edges, spare)
        if spreads:
            sizes.spread(ledger, n)
        sizes.forward(ledger, n, messages.hops, own_scores=False)

    found = arranged(job.room, account)
    return Plan(
        "propagate",
        layouts,
        f"{messages.edges} edges, {messages.kernel} kernel",
        found.process,
        [(job.request.out, 8 * n + 128)],
        job.threads,
        job.room,
        spread_notes(spreads and job.request.run.pilot),
        edges=edges_spill(n, k, messages, passes, found.spare),
        cluster=on_cluster(job.room, found.task, sizes.sent_bytes(n)),
    )


def account_edges(
    room: Room, process: Ledger, tasks: Ledger, n: int, k: int, rule: EdgeRule, spare: int | None
) -> None:  # fmt: skip
    """Account for the edges: in memory if `spare` is None, else in files."""
    if spare is None:
        sizes.edges(process, n, k, rule)
    elif room.engine is None:
        sizes.stored(process, n, k, rule)
    else:
        process.touch("object store", sizes.sent_bytes(n))
        sizes.by_tasks(process, tasks, n, k, rule, room.engine.at_once)


def spread_notes(spreads: bool) -> list[str]:
    """What the time of a plan does not cover, if scores that are missing are spread."""
    says = f"the time is without missing scores: they take {sizes.SPREAD_ROUNDS} forward passes"
    return [says] if spreads else []


def edges_spill(n: int, k: int, messages: Messages, passes: int, room: int | None) -> Spill | None:
    """The edges of n rows with k listed neighbours, in files that are read `passes` times.

    `room` is the bytes of edges that may be in memory at one time; None: all are in memory.
    """
    if room is None:
        return None
    reverse, edges = sizes.spilled(n, k, messages.edges)
    again = _MEDIAN_PASSES if messages.bandwidth == MEDIAN else 0
    lists = (_LIST_PASSES + again) * graph_bytes(n, k, None)
    read = lists + reverse + edges * passes
    return Spill("edges", reverse + edges, reverse + edges, read, room)
