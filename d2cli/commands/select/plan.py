"""The plan of ``select``."""

from __future__ import annotations

from d2cli.commands.budget import arranged
from d2cli.commands.graph.plan import arrange_build
from d2cli.commands.plan import (
    Plan,
    describe_search,
    ids_of,
    matrix_of,
    read_sizes_of,
    search_notes,
    search_of,
)
from d2cli.commands.propagate.plan import edges_spill, spread_notes
from d2cli.commands.requests import AUTO
from d2cli.commands.select.inputs import SelectJob, name_targets
from d2cli.commands.settle import settle_size
from d2cli.files import sizes as file_sizes
from d2cli.limits import check_neighbors
from d2cli.messages import sizes as message_sizes
from d2cli.runtime.ledger import Estimate, Ledger
from d2cli.selection import sizes as selection_sizes


def plan_select(job: SelectJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    request, settings, layouts = job.request, job.settings, job.inputs.layouts
    messages = settings.messages
    hops = None if job.propagated is not None else messages.hops
    spreads = job.propagated is None and request.missing_scores == "spread"
    emb = None if job.emb is None or job.graph is not None else job.emb.layout()
    joined = (job.propagated, job.scores, job.cutoff_scores, job.cost, job.labels, job.within)
    if job.graph is not None:
        n, ids = job.graph.n, ids_of(job.graph, *joined)
    else:
        assert emb is not None
        n, ids = emb.rows, ids_of(emb, *joined)
    out = request.output
    targets = name_targets(out, [(one, settle_size(one, n)) for one in request.budgets])
    sizes = tuple(target.size for target in targets)
    # A budget in cost may keep any number of rows, and drop any.
    written = [0 if out.complement and one.budget.cost else one.size for one in targets]
    beta = settings.cutoff
    vectors = [
        one for one in (job.scores, job.propagated, job.cutoff_scores, job.cost) if one is not None
    ]
    labels = [one for one in (job.labels, job.within) if one is not None]
    k = settings.graph.n_neighbors if job.graph is None else job.graph.n_neighbors
    check_neighbors(settings.graph.n_neighbors, n)
    search = search_of(
        settings.graph,
        settings.threads,
        grouped=bool(job.within or job.excluded or beta not in (0, AUTO)),
        taking_part=1.0 if beta == AUTO else 1 - beta,
        checkpoint=request.checkpoint,
    )

    def band(spare: int | None) -> int | None:
        if spare is None:
            return None
        return selection_sizes.band_bytes(spare, message_sizes.edges_bytes(n, k, messages.edges))

    def read(ledger: Ledger) -> None:
        frame = job.graph if emb is None else emb
        assert frame is not None
        file_sizes.read_ids(ledger, read_sizes_of(frame, *joined))
        for source in (*vectors, *labels):
            file_sizes.read_ids(ledger, source.layout().read_sizes, kept=False)
        turned = (job.propagated is None) + (beta == AUTO and job.cutoff_scores is not None)
        file_sizes.read_vectors(ledger, n, len(vectors) + turned + len(labels))

    building = found = None
    if emb is not None:
        building, found = arrange_build(job.room, matrix_of(emb), search, read)

    def account(spare: int | None) -> Estimate:
        ledger = Ledger()
        read(ledger)
        # A graph that was searched in files is read from there, unless it has several groups.
        if spare is None or (emb is not None and search.grouped):
            file_sizes.read_graph(ledger, n, k, job.graph is None or job.graph.mapped)
        if spare is None:
            message_sizes.edges(ledger, n, k, messages.edges)
        else:
            message_sizes.stored(ledger, n, k, messages.edges)
        if spreads:
            message_sizes.spread(ledger, n)
        message_sizes.forward(ledger, n, hops, own_scores=job.needs_own_scores)
        selection_sizes.greedy(
            ledger, n, sizes, auto=settings.gamma_reverse == AUTO, thins=job.automatic_lift,
            cutoff=beta == AUTO, each=not job.nested, band=band(spare),
        )  # fmt: skip
        for target, size in zip(targets, written, strict=True):
            rows = n - size if out.complement else size
            file_sizes.write(ledger, target.ending, rows, 5, ids)
        return ledger.estimate()

    estimate, spare = arranged(job.room, account, files=messages.clamped)
    estimate = max(estimate, building or estimate, key=lambda one: one.peak)
    passes = (hops or 0) + len(sizes) + (message_sizes.SPREAD_ROUNDS if spreads else 0)
    return Plan(
        "select",
        layouts,
        describe_search(search, n)
        if job.graph is None
        else f"the graph as it is, {job.graph.method}",
        estimate,
        [
            (
                target.path,
                file_sizes.selection_bytes(
                    target.ending, out.written_as, out.complement, size, n, ids
                ),
            )
            for target, size in zip(targets, written, strict=True)
        ],
        settings.threads,
        job.room,
        [
            *([] if emb is None else search_notes(search)),
            *spread_notes(spreads and request.run.pilot),
        ],
        search=found,
        edges=edges_spill(n, k, messages, passes, band(spare)),
    )
