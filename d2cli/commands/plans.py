"""The plan of each command: which headers it reads, and which stages it runs on those sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2cli.commands.plan import Plan, Variant
from d2cli.commands.recorded import check_recorded
from d2cli.commands.requests import (
    GraphOptions,
    GraphRequest,
    Input,
    OutputOptions,
    PropagateRequest,
    SelectRequest,
    check_graph,
    check_propagate,
    check_select,
    inherit,
)
from d2cli.commands.select.targets import name_targets
from d2cli.defaults import EXACT_UP_TO, MODES
from d2cli.engine.threads import thread_count
from d2cli.files.formats.choice import Role
from d2cli.files.graph_file import GraphFile, open_graph
from d2cli.files.provenance.sidecar import read_sidecar
from d2cli.files.sources import Layout, open_source
from d2cli.limits import check_hops, check_neighbors, check_search
from d2cli.planning import messages, search
from d2cli.planning.ledger import Estimate, Ledger
from d2cli.planning.sizes import Ids, Matrix, Picks, Search
from d2cli.selection.budgets import budget_of, check_size

#: Loading the program and its compiled kernels, seconds of one core of the reference machine.
_START = 2.0
#: Bytes of a row in tables, without its id: of picks, and of what is dropped, which has no rank and
#: no gain.
_TABLE_ROWS = {".arrow": (40, 24), ".parquet": (27, 19), ".csv": (68, 44)}

_GROUPS = "memory and time as if all rows were one group: which label is where no header says"


def plan_graph(request: GraphRequest) -> Plan:
    """The plan of ``d2prune graph``."""
    check_graph(request)
    threads = thread_count(request.threads)
    emb = header_of(request.emb, "embeddings", "emb", request.id_column)
    reads = [emb]
    if request.within:
        reads.append(header_of(request.within, "labels", "within", request.id_column))
    reads += _rows(request.exclude, "exclude", request.id_column)
    grouped = bool(request.within or request.exclude)
    options = search_of(request.options, threads, emb.rows, grouped, request.checkpoint)

    def run(matrix: Matrix, options: Search) -> Estimate:
        ledger = started()
        messages.read_ids(ledger, ids_of(emb))
        search.build(ledger, matrix, options)
        ledger.stage = "write"
        ledger.spend(steps=emb.rows * options.n_neighbors * 4e-9)
        return ledger.estimate()

    matrix = matrix_of(emb)
    size = emb.rows * (8 * options.n_neighbors + id_bytes(emb)) + 4096
    return Plan(
        "graph",
        list(reads),
        describe_method(options, emb.rows),
        run(matrix, options),
        [(request.out, round(size))],
        threads,
        build_notes(options),
        lambda: lighter_ways(matrix, options, run),
    )


def plan_propagate(request: PropagateRequest) -> Plan:
    """The plan of ``d2prune propagate``."""
    check_propagate(request)
    threads = thread_count(request.threads)
    graph = open_graph(request.graph)
    scores = header_of(request.scores, "scores", "scores", request.id_column)
    settled = request.messages.resolved()
    check_hops(settled.hops)
    n, k = graph.n, graph.n_neighbors
    picks = Picks((), settled.edges, hops=settled.hops, threads=threads)
    ledger = started()
    _read_graph(ledger, graph)
    messages.read_ids(ledger, ids_of(scores))
    messages.read_vectors(ledger, n, 2)
    messages.edges(ledger, n, k, picks)
    messages.forward(ledger, n, k, picks)
    return Plan(
        "propagate",
        [graph, scores],
        f"{settled.edges} edges, {settled.kernel} kernel",
        ledger.estimate(),
        [(request.out, 8 * n + 128)],
        threads,
    )


def plan_select(request: SelectRequest) -> Plan:
    """The plan of ``d2prune select``."""
    check_select(request)
    threads = thread_count(request.threads)
    ids = request.id_column
    graph = open_graph(request.graph) if request.graph is not None else None
    emb = header_of(request.emb, "embeddings", "emb", ids) if request.emb else None
    vectors = [
        header_of(given, "scores", name, ids)
        for given, name in (
            (request.scores, "scores"),
            (Input([request.propagated]) if request.propagated else None, "propagated"),
            (request.cutoff_scores, "cutoff-scores"),
        )
        if given is not None
    ]
    labels = [
        header_of(given, "labels", name, ids)
        for given, name in ((request.labels, "labels"), (request.within, "within"))
        if given is not None
    ]
    rows = [*_rows(request.include, "include", ids), *_rows(request.exclude, "exclude", ids)]
    first = graph or emb
    assert first is not None, "check_select saw to it"
    n = rows_of(first)
    picks, exact = _picks(request, n, threads)
    options = search_of(
        replace(request.graph_options, method="exact") if exact else request.graph_options,
        threads,
        n,
        bool(request.within or request.exclude or request.early_cutoff),
        request.checkpoint,
        1 - request.early_cutoff,
    )

    targets = name_targets(request.output, list(zip(request.budgets, picks.sizes, strict=True)))

    def run(matrix: Matrix | None, options: Search, from_file: GraphFile | None) -> Estimate:
        ledger = started()
        messages.read_ids(ledger, ids_of(first))
        for header in (*vectors, *labels):
            messages.read_ids(ledger, ids_of(header), kept=False)
        messages.read_vectors(ledger, n, len(vectors) + (not request.propagated))
        messages.read_vectors(ledger, n, len(labels))
        if from_file is not None:
            _read_graph(ledger, from_file, with_ids=False)
        elif matrix is not None:
            search.build(ledger, matrix, options)
        k = from_file.n_neighbors if from_file else options.n_neighbors
        messages.edges(ledger, n, k, picks)
        messages.forward(ledger, n, k, picks)
        messages.greedy(ledger, n, k, picks)
        for target, size in zip(targets, picks.sizes, strict=True):
            rows = n - size if request.output.complement else size
            messages.write(ledger, Path(target).suffix.lower(), rows, 5, id_bytes(first))
        return ledger.estimate()

    matrix = matrix_of(emb) if emb is not None and graph is None else None
    notes = build_notes(options) if matrix else []

    def lighter() -> list[Variant]:
        return [] if matrix is None else lighter_ways(matrix, options, lambda m, o: run(m, o, None))

    return Plan(
        "select",
        [*([graph] if graph else []), *([emb] if emb else []), *vectors, *labels, *rows],
        describe_method(options, n) if graph is None else f"the graph as it is, {graph.method}",
        run(matrix, options, graph),
        [
            (target, _output_bytes(target, size, n, first, request.output))
            for target, size in zip(targets, picks.sizes, strict=True)
        ],
        threads,
        notes,
        lighter,
    )


def _picks(request: SelectRequest, n: int, threads: int) -> tuple[Picks, bool]:
    """How rows would be picked, and whether the mode asks for an exact graph."""
    inherited = _recorded(request.propagated) if request.propagated else {}
    settled = inherit(request.messages, inherited, request.propagated or "").resolved()
    check_hops(settled.hops)
    gamma = request.gamma_reverse
    auto = (MODES[settled.mode].gamma_reverse if gamma is None else gamma) == "auto"
    sizes = [budget_of(b.ratio or "nan", n) if b.size is None else b.size for b in request.budgets]
    for size in sizes:
        check_size(size, 0, n)
    by = request.cutoff_scores is not None or request.score_options.higher_is != "better"
    cutoff = request.cutoff == "auto" or (request.cutoff is None and auto and by)
    picks = Picks(
        tuple(sizes),
        settled.edges,
        messages.GAMMA_SEARCHES if auto else 0,
        None if request.propagated else settled.hops,
        auto or cutoff or request.balance != "none",
        cutoff,
        threads,
    )
    return picks, settled.exact


# -- inputs ----------------------------------------------------------------------------------------
def header_of(given: Input, role: Role, option: str, id_column: str | None) -> Layout:
    """The header of what an option gives; errors name the option that says which key."""
    names = {"within": "labels-key", "propagated": None}
    return open_source(
        given.paths, role, option, given.key, id_column, key_option=names.get(option, ""), skim=True
    ).layout()


def _rows(arguments: list[str], option: str, id_column: str | None) -> list[Layout]:
    return [
        open_source(
            [argument], "rows", option, None, id_column, key_option=None, skim=True
        ).layout()
        for argument in arguments
    ]


def matrix_of(emb: Layout) -> Matrix:
    return Matrix(
        emb.rows, emb.width, emb.dtype.itemsize, emb.mapped, emb.largest_mapped, emb.reading,
        emb.plain,
    )  # fmt: skip


def ids_of(header: Layout | GraphFile) -> Ids | None:
    ids = header.id_sizes
    return None if ids is None else Ids(ids.rows, ids.length, ids.text)


def id_bytes(header: Layout | GraphFile) -> float:
    """Bytes of an id in an Arrow column."""
    return 0.0 if header.ids is None else header.ids + (8 if header.text_ids else 0)


def rows_of(header: Layout | GraphFile) -> int:
    return header.n if isinstance(header, GraphFile) else header.rows


def _read_graph(ledger: Ledger, graph: GraphFile, with_ids: bool = True) -> None:
    if with_ids:
        messages.read_ids(ledger, ids_of(graph))
    messages.read_graph(ledger, graph.n, graph.n_neighbors)


def _recorded(propagated: str) -> dict[str, Any]:
    """The parameters that a propagated file was made with."""
    beside = read_sidecar(Path(propagated))
    if beside is None or beside.get("command") != "propagate":
        return {}
    parameters: dict[str, Any] = beside["parameters"]
    check_recorded(parameters, propagated)
    return parameters


# -- the search ------------------------------------------------------------------------------------
def search_of(
    options: GraphOptions,
    threads: int,
    n: int,
    grouped: bool,
    checkpoint: float | None,
    share: float = 1.0,
) -> Search:
    """The options of a search among n rows, as the arithmetic takes them."""
    check_search(
        options.n_neighbors, options.method, options.recall, options.hnsw_m,
        options.ef_construction, options.ef, options.seed,
    )  # fmt: skip
    check_neighbors(options.n_neighbors, n)
    return Search(
        options.n_neighbors, options.metric, options.method, options.recall, options.hnsw_m,
        options.ef_construction, options.ef, threads, grouped, share, checkpoint,
    )  # fmt: skip


def describe_method(options: Search, n: int) -> str:
    method = options.method_for(n)
    why = ""
    if options.method == "auto":
        bound = f"{EXACT_UP_TO:,} rows"
        why = f" (auto: {'up to' if method == 'exact' else 'above'} {bound})"
    return f"{method}{why}, {options.metric}, k = {options.n_neighbors}"


def build_notes(options: Search) -> list[str]:
    return [_GROUPS] if options.grouped else []


def lighter_ways(
    matrix: Matrix, options: Search, run: Callable[[Matrix, Search], Estimate]
) -> list[Variant]:
    """Other ways to build, those that change the least first."""
    return [Variant(text, run(m, o).peak) for text, m, o in _ways(matrix, options)]


def _ways(matrix: Matrix, options: Search) -> Iterator[tuple[str, Matrix, Search]]:
    if options.threads > 1:
        yield "--threads 1", matrix, replace(options, threads=1)
    if not (matrix.mapped and matrix.plain and matrix.itemsize >= 4):
        mapped = replace(matrix, itemsize=4, mapped=True, plain=True, largest_file=0, reading=0)
        yield "one float32 .npy file, which is memory-mapped,", mapped, options
    for method in ("ivf", "exact"):
        if method != options.method_for(matrix.rows):
            yield f"--method {method}", matrix, replace(options, method=method)
    if options.n_neighbors > 5:
        yield "-k 5", matrix, replace(options, n_neighbors=5)


def started() -> Ledger:
    ledger = Ledger()
    ledger.spend(steps=_START)
    return ledger


def _output_bytes(
    target: str, size: int, n: int, first: Layout | GraphFile, options: OutputOptions
) -> int:
    """Bytes of a selection of `size` rows in the form that its name says."""
    ending, an_id = Path(target).suffix.lower(), id_bytes(first)
    rows = n - size if options.complement else size
    if ending in _TABLE_ROWS:
        return round(rows * (_TABLE_ROWS[ending][options.complement] + an_id)) + 4096
    if options.written_as == "mask":
        return n + 128 if ending == ".npy" else 2 * n
    if ending == ".npy":  # text ids take four bytes a letter
        ids = 4 * (first.ids or 2) if first.text_ids else 8.0
        return round(rows * {"index": 8.0, "id": ids}.get(options.written_as, 16.0)) + 128
    return round(rows * (len(str(n)) + 1 if options.written_as == "index" else an_id + 1))


__all__ = ["plan_graph", "plan_propagate", "plan_select"]
