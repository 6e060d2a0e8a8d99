"""The plans of ``d2prune report`` and ``d2prune compare``."""

from __future__ import annotations

from d2cli import defaults
from d2cli.commands.pages import check_compare, check_count, check_report, compared_size
from d2cli.commands.plan import Plan
from d2cli.commands.plans import (
    build_notes,
    describe_method,
    header_of,
    ids_of,
    lighter_ways,
    matrix_of,
    search_of,
    started,
)
from d2cli.commands.requests import CompareRequest, Input, ReportRequest
from d2cli.engine.threads import thread_count
from d2cli.files.examples import open_texts
from d2cli.files.formats.fields import BLOCK_BYTES
from d2cli.files.paths import expand
from d2cli.files.selection_file import open_selection
from d2cli.files.sources import Layout
from d2cli.planning import messages, pages, search
from d2cli.planning.ledger import Estimate
from d2cli.planning.sizes import Matrix, Picks, Search

#: Bytes of a page by itself, of each part about a selection, or about one method at one budget, of
#: a row on the map, of an example, and at most of its picture.
_PAGE, _SELECTION, _METHOD, _PLACE, _EXAMPLE, _PICTURE = 24_000, 30_000, 3_400, 16, 500, 6_000

_MASKS = "a mask does not say how many rows it keeps: taken to be half of them"


def plan_report(request: ReportRequest) -> Plan:
    """The plan of ``d2prune report``."""
    check_report(request)
    threads = thread_count(request.threads)
    ids, options = request.id_column, request.options
    emb = header_of(request.emb, "embeddings", "emb", ids)
    vectors = [header_of(request.scores, "scores", "scores", ids)]
    if request.labels is not None:
        vectors.append(header_of(request.labels, "labels", "labels", ids))
    shown = [*_images(request.images, ids), *_texts(request.texts, ids)]
    files = expand(request.selected, "selected")
    check_count(len(files))
    n, matrix = emb.rows, matrix_of(emb)
    selected: list[Layout] = []
    notes: list[str] = []
    kept: list[int] = []
    for path in files:
        file = open_selection(path, skim=True)
        header, size = file.layout(), file.kept
        notes += [_MASKS] if size is None and not notes else []
        selected.append(header)
        kept.append(min(n, max(1, n // 2 if size is None else size)))
    picture = max((min(_PICTURE, 4 * h.width // 3) for h in shown if h.role == "images"), default=0)
    page = pages.Page(
        tuple(kept), options.measured_rows, options.map, options.map_rows, options.examples,
        sum(header.size for header in shown if not header.mapped),
        max((min(header.size, BLOCK_BYTES) for header in shown), default=0),
    )  # fmt: skip
    ledger = started()
    for header in (emb, *vectors, *shown):
        messages.read_ids(ledger, ids_of(header), kept=header is emb)
    # Scores, ranks and classes; and while ranks are made, rows in their order.
    messages.read_vectors(ledger, n, 1 + len(vectors))
    ledger.touch("order", 24 * n)
    messages.read_vectors(ledger, max(kept), 2 * len(kept))
    search.read_vectors(ledger, matrix, options.metric or defaults.METRIC, threads)
    pages.report(ledger, matrix, page, threads)
    size = _PAGE + _SELECTION * len(kept)
    size += _PLACE * (min(n, options.map_rows) if options.map != "none" else 0)
    size += len(kept) * 4 * min(n, options.examples) * (_EXAMPLE + picture)
    return Plan(
        "report",
        [emb, *vectors, *shown, *selected],
        f"exact distances of {min(n, options.measured_rows):,} rows, map: {options.map}",
        ledger.estimate(),
        [(request.out, size)],
        threads,
        notes,
    )


def plan_compare(request: CompareRequest) -> Plan:
    """The plan of ``d2prune compare``."""
    check_compare(request)
    threads = thread_count(request.threads)
    ids = request.id_column
    emb = header_of(request.emb, "embeddings", "emb", ids)
    vectors = [header_of(request.scores, "scores", "scores", ids)]
    if request.labels is not None:
        vectors.append(header_of(request.labels, "labels", "labels", ids))
    n = emb.rows
    names, most = request.options.methods, request.options.measured_rows
    sizes = tuple(dict.fromkeys(compared_size(b, request, n) for b in request.budgets))
    auto = request.options.gamma_reverse == "auto"
    options = search_of(request.graph_options, threads, n, grouped=False, checkpoint=None)

    def run(matrix: Matrix, options: Search) -> Estimate:
        k = options.n_neighbors
        searches = messages.GAMMA_SEARCHES if auto else 0
        picks = Picks(sizes, searches=searches, cutoff=auto, threads=threads)
        ledger = started()
        for header in (emb, *vectors):
            messages.read_ids(ledger, ids_of(header), kept=header is emb)
        messages.read_vectors(ledger, n, 1 + len(vectors))
        search.build(ledger, matrix, options)
        search.read_vectors(ledger, matrix, options.metric, threads)
        messages.edges(ledger, n, k, picks)
        messages.forward(ledger, n, k, picks)
        pages.methods(ledger, matrix, k, picks, names)
        pages.compared(ledger, matrix, sizes, len(names), most, threads)
        return ledger.estimate()

    matrix = matrix_of(emb)
    count = len(sizes) * len(names)
    return Plan(
        "compare",
        [emb, *vectors],
        f"{describe_method(options, n)}; {len(names)} methods",
        run(matrix, options),
        [(request.out, _PAGE + _METHOD * count)],
        threads,
        build_notes(options),
        lambda: lighter_ways(matrix, options, run),
    )


def _images(given: Input | None, id_column: str | None) -> list[Layout]:
    return [] if given is None else [header_of(given, "images", "images", id_column)]


def _texts(given: Input | None, id_column: str | None) -> list[Layout]:
    if given is None:
        return []
    return [open_texts(given.paths, given.key, id_column, skim=True).layout()]
