"""The plan of ``graph``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from d2cli.commands.budget import Arranged, Room, Spill, arranged
from d2cli.commands.graph.inputs import GraphJob
from d2cli.commands.plan import (
    Plan,
    describe_search,
    matrix_of,
    on_cluster,
    read_sizes_of,
    search_notes,
    search_of,
)
from d2cli.engine.tasks import Engine
from d2cli.files.parts.part_kinds import count_parts
from d2cli.files.sizes import graph_bytes, read_ids
from d2cli.graph.blocks.sizes import Files
from d2cli.graph.settings import Matrix, SearchSettings
from d2cli.graph.sizes import build, build_in_files, sent_bytes
from d2cli.limits import check_neighbors
from d2cli.runtime.ledger import Estimate, Ledger


def plan_graph(job: GraphJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    layouts, emb = job.inputs.layouts, job.emb.layout()
    ids = read_sizes_of(emb, job.within)  # the graph keeps them
    check_neighbors(job.options.n_neighbors, emb.rows)
    search = search_of(
        job.options, job.threads, grouped=len(layouts) > 1, checkpoint=job.request.checkpoint
    )
    found, spill = arrange_build(
        job.room, matrix_of(emb), search, lambda ledger: read_ids(ledger, ids)
    )
    parts = 1 if job.parts is None else count_parts(emb.rows)
    return Plan(
        "graph",
        layouts,
        describe_search(search, emb.rows),
        found.process,
        [(job.request.out, graph_bytes(emb.rows, job.options.n_neighbors, ids, parts))],
        job.threads,
        job.room,
        search_notes(search),
        search=spill,
        cluster=on_cluster(job.room, found.task, sent_bytes(matrix_of(emb))),
    )


def arrange_build(
    room: Room, matrix: Matrix, search: SearchSettings, before: Callable[[Ledger], None]
) -> tuple[Arranged, Spill | None]:
    """The memory of a build, and what it keeps in files if the room does not hold everything.

    `before` adds what is held already when it begins.
    """
    files: list[Files] = []
    engine = room.engine or Engine(search.threads)

    def in_memory(ledger: Ledger, most: bool) -> Estimate:
        before(ledger)
        build(ledger, matrix, replace(search, most=most))
        return ledger.estimate()

    def account(process: Ledger, tasks: Ledger, spare: int | None) -> None:
        if spare is None:
            in_memory(process, most=True)
            return
        before(process)
        of_tasks = replace(search, threads=engine.threads)
        files.append(build_in_files(process, tasks, matrix, of_tasks, spare, engine.at_once))

    # What data needs shows while they are searched, so a run keeps to its memory only if the most
    # fits.
    here = room.engine is None and room.holds(in_memory(Ledger(), most=True))
    if search.method_for(matrix.rows) != "blocks" or here:
        return Arranged(in_memory(Ledger(), most=False)), None
    found = arranged(room, account)
    if found.spare is None:
        return found, None
    return found, Spill("the search", **files[-1]._asdict(), room=found.spare)
