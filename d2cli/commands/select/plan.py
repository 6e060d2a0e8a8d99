"""The plan of ``select``."""

from __future__ import annotations

from d2cli.commands.budget import arranged
from d2cli.commands.graph.plan import arrange_build
from d2cli.commands.plan import (
    Plan,
    describe_search,
    ids_of,
    matrix_of,
    on_cluster,
    read_sizes_of,
    search_notes,
    search_of,
)
from d2cli.commands.propagate.plan import account_edges, edges_spill, spread_notes
from d2cli.commands.requests import AUTO
from d2cli.commands.select.inputs import SelectJob, name_targets
from d2cli.commands.settle import settle_size
from d2cli.files import sizes as file_sizes
from d2cli.graph import sizes as graph_sizes
from d2cli.limits import check_neighbors
from d2cli.messages import sizes as message_sizes
from d2cli.runtime.ledger import Ledger
from d2cli.selection import sizes as selection_sizes
from d2cli.selection.sizes import ShardSizes


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

    all_edges = message_sizes.edges_bytes(n, k, messages.edges)

    def band(spare: int | None) -> int | None:
        if spare is None:
            return None
        engine = job.room.engine
        if engine is not None and engine.nodes == 1:  # rows are picked here, while no tasks run
            spare *= engine.at_once
        return selection_sizes.band_bytes(spare, all_edges)

    def read(ledger: Ledger) -> None:
        frame = job.graph if emb is None else emb
        assert frame is not None
        file_sizes.read_ids(ledger, read_sizes_of(frame, *joined))
        for source in (*vectors, *labels):
            file_sizes.read_ids(ledger, source.layout().read_sizes, kept=False)
        turned = (job.propagated is None) + (beta == AUTO and job.cutoff_scores is not None)
        file_sizes.read_vectors(ledger, n, len(vectors) + turned + len(labels))

    building = search_spill = None
    if emb is not None:
        building, search_spill = arrange_build(job.room, matrix_of(emb), search, read)
    classes, auto = job.request.balance != "none", settings.gamma_reverse == AUTO
    shards = _shards(job, n, k, classes)
    sent = message_sizes.sent_bytes(n)
    if shards is not None:
        most = n if job.automatic_lift else max(sizes)  # that of a selection that is thinned
        sent = selection_sizes.sent_bytes(n, most, auto=auto, classes=classes)
    store = max(sent, 0 if emb is None else graph_sizes.sent_bytes(matrix_of(emb)))

    def account(ledger: Ledger, tasks: Ledger, spare: int | None) -> None:
        read(ledger)
        # A graph that was searched in files is read from there, unless it has several groups.
        if spare is None or (emb is not None and search.grouped):
            file_sizes.read_graph(ledger, n, k, job.graph is None or job.graph.mapped)
        account_edges(job.room, ledger, tasks, n, k, messages.edges, spare)
        if spreads:
            message_sizes.spread(ledger, n)
        message_sizes.forward(ledger, n, hops, own_scores=job.needs_own_scores)
        if ledger is not tasks:
            ledger.free("answers of tasks")
        banded = band(spare) if shards is None or job.cost is not None else None
        if shards is not None:
            ledger.hold("object store", sent)
        elif ledger is not tasks and banded == all_edges:  # one node: they are read whole
            ledger.hold("edges", all_edges)
            banded = None
        selection_sizes.greedy(
            ledger, n, sizes, auto=auto, thins=job.automatic_lift,
            cutoff=beta == AUTO, each=not job.nested, shards=shards is not None, band=banded,
        )  # fmt: skip
        for target, size in zip(targets, written, strict=True):
            rows = n - size if out.complement else size
            file_sizes.write(ledger, target.ending, rows, 5, ids)

    found = arranged(job.room, account, files=messages.clamped)
    both = [found] if building is None else [found, building]
    estimate = max((one.process for one in both), key=lambda one: one.peak)
    tasks = [one.task for one in both if one.task is not None]
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
        search=search_spill,
        edges=edges_spill(n, k, messages, passes, band(found.spare)),
        cluster=on_cluster(
            job.room, max(tasks, key=lambda one: one.peak, default=None), store, shards
        ),
    )


def _shards(job: SelectJob, n: int, k: int, classes: bool) -> ShardSizes | None:
    """What holds the edges of n rows with k listed neighbours, at most, while rows are picked.

    None: the nodes of a cluster do not, because there is none, or one node only.
    """
    engine, messages = job.room.engine, job.settings.messages
    if engine is None or engine.nodes == 1 or not messages.clamped:
        return None
    edges, parts = message_sizes.most_edges(n, k, messages.edges)
    return selection_sizes.shards_for(engine, n, edges, parts, classes)
