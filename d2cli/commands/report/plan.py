"""The plan of ``report``."""

from __future__ import annotations

from d2cli.commands.plan import Plan, matrix_of
from d2cli.commands.report.inputs import ReportJob
from d2cli.evaluation.sizes import measures
from d2cli.files.formats.fields import BLOCK_BYTES
from d2cli.files.sizes import read_ids, read_vectors
from d2cli.files.sources import Layout
from d2cli.graph import sizes as search
from d2cli.page import sizes as pages
from d2cli.runtime.ledger import Ledger

#: Bytes of a page by itself, of each selection, of a row on the map, and of an example.
_PAGE, _SELECTION, _PLACE, _EXAMPLE = 24_000, 30_000, 16, 500
#: Bytes of an example's picture, at most.
_PICTURE = 6_000

_MASKS = "a mask does not say how many rows it keeps: taken to be half of them"


def plan_report(job: ReportJob) -> Plan:
    """What the run would need, from the layouts of its inputs."""
    layouts, options, threads = job.inputs.layouts, job.request.options, job.threads
    inputs = [one for one in layouts if isinstance(one, Layout) and one.option != "selected"]
    emb, n = inputs[0], inputs[0].rows
    matrix, most = matrix_of(emb), options.measured_rows
    kept = [min(n, max(1, n // 2 if one.kept is None else one.kept)) for one in job.selections]
    shown = [layout for layout in inputs if layout.option in ("images", "texts")]
    vectors = [layout for layout in inputs if layout.option in ("scores", "labels")]
    ledger = Ledger()
    for layout in inputs:
        read_ids(ledger, layout.read_sizes, kept=layout is emb)
    # Scores, ranks and classes; while ranks are computed, the rows in their order.
    read_vectors(ledger, n, 1 + len(vectors))
    ledger.touch("order", 24 * n)
    read_vectors(ledger, max(kept), 2 * len(kept))
    search.read_vectors(ledger, matrix, job.metric, threads)
    measures(ledger, matrix, kept, most, threads)
    mapped = min(n, options.map_rows)
    block = max((min(one.size, BLOCK_BYTES) for one in shown), default=0)
    pages.report(ledger, mapped, matrix.width, options.map, block)
    pictures = [layout.width for layout in shown if layout.option == "images"]
    picture = max((min(_PICTURE, 4 * width // 3) for width in pictures), default=0)
    size = _PAGE + _SELECTION * len(kept) + (_PLACE * mapped if options.map != "none" else 0)
    size += len(kept) * 4 * min(n, options.examples) * (_EXAMPLE + picture)
    return Plan(
        "report", layouts,
        f"exact distances of {min(n, most):,} rows, map: {options.map}",
        ledger.estimate(), [(job.request.out, size)], threads, job.room,
        [_MASKS] if any(one.kept is None for one in job.selections) else [],
    )  # fmt: skip
