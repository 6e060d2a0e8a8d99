"""The plan of ``compare``."""

from __future__ import annotations

from d2cli.baselines import sizes as methods
from d2cli.commands.compare.inputs import CompareJob
from d2cli.commands.plan import Plan, describe_search, matrix_of, search_notes, search_of
from d2cli.commands.requests import AUTO
from d2cli.evaluation.sizes import measures
from d2cli.files.sizes import read_ids, read_vectors
from d2cli.graph import sizes as graph_sizes
from d2cli.messages import sizes as message_sizes
from d2cli.page import sizes as pages
from d2cli.runtime.ledger import Ledger
from d2cli.selection import sizes as selection_sizes

#: Bytes of a page by itself, and of one method at one budget.
_PAGE, _METHOD = 24_000, 3_400


def plan_compare(job: CompareJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    layouts, threads = job.inputs.layouts, job.threads
    emb, n = job.emb.layout(), job.emb.n
    names, most = job.options.methods, job.options.measured_rows
    sizes, auto = tuple(job.budgets(n)), job.options.gamma_reverse == AUTO
    search, matrix, ledger = search_of(job.graph, threads), matrix_of(emb), Ledger()
    k = search.n_neighbors
    others = [one for one in (job.labels, job.confidence) if one is not None]
    for source in (job.emb, job.scores, *others):
        read_ids(ledger, source.layout().read_sizes, kept=source is job.emb)
    read_vectors(ledger, n, len(layouts))
    graph_sizes.build(ledger, matrix, search)
    graph_sizes.read_vectors(ledger, matrix, search.metric, threads)
    message_sizes.edges(ledger, n, k, "union")
    message_sizes.forward(ledger, n, job.messages.hops, own_scores=job.needs_own_scores)
    if "d2" in names:
        selection_sizes.greedy(
            ledger, n, sizes, auto=auto, thins=auto and job.options.keep_lift is None,
            cutoff=job.cutoff == AUTO, each=True,
        )  # fmt: skip
    for name in names:
        if name != "d2":
            methods.select(ledger, n, matrix.width, k, sizes, name, threads)
    measures(ledger, matrix, sizes, most, threads)
    pages.comparison(ledger)
    return Plan(
        "compare", layouts,
        f"{describe_search(search, n)}; {len(names)} methods",
        ledger.estimate(),
        [(job.request.out, _PAGE + _METHOD * len(sizes) * len(names))],
        threads, job.room, search_notes(search),
    )  # fmt: skip
