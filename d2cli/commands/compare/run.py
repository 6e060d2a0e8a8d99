"""``d2prune compare``: D2 beside other methods at equal budgets, as numbers and as a page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.compare.methods import Chooser, Data
from d2cli.commands.directions import settle_direction
from d2cli.commands.graph import describe_graph, graph_notices, graph_of, open_labels
from d2cli.commands.pages import COMPARE_NEEDS, check_compare, compared_size
from d2cli.commands.propagate import read_wanted
from d2cli.commands.requests import Budget, CompareRequest, ScoreOptions, given
from d2cli.commands.summary import Clock, Summary, last_line
from d2cli.defaults import CompareMethod
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.evaluation.balance import BinCounts, class_balance
from d2cli.evaluation.coverage import Coverage, nearest_selected
from d2cli.evaluation.redundancy import Redundancy, nearest_other, redundancy_threshold
from d2cli.evaluation.selections import sample_rows, shared_rows
from d2cli.files.frame import Frame
from d2cli.files.output.atomic import Outputs, check_target
from d2cli.files.provenance.fingerprint import describe
from d2cli.files.provenance.sidecar import new_provenance, sidecar_path, write_sidecar
from d2cli.files.sources import Source, blame, open_source
from d2cli.graph.vectors import prepare
from d2cli.messages.utility import utility


@dataclass(frozen=True)
class Measured:
    """One method at one budget.

    Attributes:
        difficulty: the mean over the kept rows of the share of rows that are no harder, 0 … 1.
        classes: counts by class, where there are labels.
    """

    method: CompareMethod
    rows: NDArray[np.int64]
    coverage: Coverage
    redundancy: Redundancy
    difficulty: float
    classes: BinCounts | None


@dataclass(frozen=True)
class Compared:
    """All methods at one budget; `shared` (m, m) counts the rows that each two have in common."""

    size: int
    methods: list[Measured]
    shared: NDArray[np.int64]


@dataclass
class CompareInputs:
    """What was read. `ranks` (n,) are the scores as the share of rows that are no harder."""

    frame: Frame
    emb: Source
    scores: NDArray[np.float64]
    ranks: NDArray[np.float64]
    score_options: ScoreOptions
    codes: NDArray[np.int64] | None
    described: dict[str, Any]
    paths: list[Path]
    notices: list[str]


def run_compare(request: CompareRequest, progress: Progress = silent) -> Summary:
    """Select by every method, measure, and write the page.

    Raises:
        D2Error: where anything is wrong, or the extra is not installed; then no output has changed.
    """
    check_compare(request)
    threads = thread_count(request.threads)
    clock = Clock()
    with clock.stage("read"):
        inputs = _read(request)
        check_target(request.out, inputs.paths)
        budgets = {compared_size(b, request, inputs.frame.n): b for b in reversed(request.budgets)}
        sizes = [*reversed(budgets)]  # a size that two budgets come to is compared once
    options = request.graph_options
    with clock.stage("graph"):
        graph = graph_of(inputs.emb, options, None, None, None, threads, progress)
        with blame(embeddings=inputs.emb):
            vectors = prepare(inputs.emb.matrix(), options.metric, threads=threads)
    better = inputs.score_options.higher_is == "better"
    data = Data(vectors, inputs.scores, inputs.codes, graph, better)
    chooser = Chooser(data, request.options, options.seed, threads, progress)
    chosen: dict[int, dict[CompareMethod, NDArray[np.int64]]] = {size: {} for size in sizes}
    for method in request.options.methods:
        with clock.stage(method):
            for size, by_method in chosen.items():
                by_method[method] = chooser.select(method, size, max(sizes))
    with clock.stage("measure"):
        compared = _measure(request, inputs, vectors, chosen, threads, progress)
    entry = new_provenance(
        "compare",
        {
            **given(options),
            **given(inputs.score_options),
            **given(request.options),
            "id_column": request.id_column,
        },
        inputs=inputs.described,
        comparison=[as_numbers(c, budgets[c.size], chooser) for c in compared],
    )
    entry["versions"].update({name: version(name) for name in COMPARE_NEEDS.values()})
    # These need the extra.
    from d2cli.commands.compare.sections import page_of  # noqa: PLC0415
    from d2cli.page.page import render  # noqa: PLC0415

    notices = [*inputs.frame.notices, *inputs.notices, *graph_notices(graph)]
    with clock.stage("page"):
        page = render(page_of(request, inputs, compared, entry, notices))
    with Outputs() as outputs:
        note = outputs.place(sidecar_path(request.out))
        target = outputs.place(request.out)
        with clock.stage("write"):
            target.write_text(page, encoding="utf-8", newline="\n")
        run = clock.run(threads)
        write_sidecar(note, target, entry, run)
    return Summary(
        [request.out],
        entry,
        run,
        [
            ("graph", describe_graph(graph)),
            *(line for c in compared for line in _lines(c, inputs.frame.n)),
            ("written", request.out),
            last_line(run),
        ],
        notices,
    )


def _read(request: CompareRequest) -> CompareInputs:
    ids = request.id_column
    emb = open_source(request.emb.paths, "embeddings", "emb", request.emb.key, ids)
    frame = Frame.of(emb)
    source = open_source(request.scores.paths, "scores", "scores", request.scores.key, ids)
    score_options, said = settle_direction(source, request.score_options)
    _, values, _ = read_wanted(source, frame, score_options)
    labels, codes = open_labels(request.labels, "labels", ids, frame)
    frame.check_id_column(ids)
    described = {"emb": describe(emb), "scores": describe(source)}
    if labels is not None:
        described["labels"] = describe(labels)
    paths = [*emb.paths, *source.paths, *(labels.paths if labels else [])]
    return CompareInputs(
        frame, emb, values, utility(values, transform="rank"), score_options, codes, described,
        paths, said,
    )  # fmt: skip


def _measure(
    request: CompareRequest,
    inputs: CompareInputs,
    vectors: NDArray[np.floating],
    chosen: dict[int, dict[CompareMethod, NDArray[np.int64]]],
    threads: int,
    progress: Progress,
) -> list[Compared]:
    """Measure every selection; distances on a sample where there are more rows than asked for."""
    n, most, seed = inputs.frame.n, request.options.measured_rows, request.graph_options.seed
    sample = sample_rows(n, most, seed)
    total = 1 + len(chosen) * len(request.options.methods)
    progress("measure", 0, total)
    threshold = redundancy_threshold(vectors, metric="euclidean", rows=sample, threads=threads)
    compared: list[Compared] = []
    for size, by_method in chosen.items():
        measured: list[Measured] = []
        for method, rows in by_method.items():
            progress("measure", 1 + len(compared) * len(by_method) + len(measured), total)
            far, _ = nearest_selected(
                vectors, rows, metric="euclidean", rows=sample, threads=threads
            )
            some = rows[sample_rows(size, most, seed)]
            near = nearest_other(vectors, rows, metric="euclidean", rows=some, threads=threads)
            codes = inputs.codes
            measured.append(
                Measured(
                    method,
                    rows,
                    Coverage.of(far),
                    Redundancy.of(near, threshold),
                    float(inputs.ranks[rows].mean()),
                    None if codes is None else class_balance(codes, rows),
                )
            )
        shared = shared_rows([m.rows for m in measured], n)
        compared.append(Compared(size, measured, shared))
    progress("measure", total, total)
    return compared


def as_numbers(compared: Compared, budget: Budget, chooser: Chooser) -> dict[str, Any]:
    """One budget of the comparison, for JSON."""
    methods = []
    for m in compared.methods:
        median = m.redundancy.median
        entry: dict[str, Any] = {
            "method": m.method,
            "coverage": {"mean": m.coverage.mean, "p95": m.coverage.p95, "max": m.coverage.max},
            "redundancy": {
                "share": m.redundancy.share,
                "median": median if math.isfinite(median) else None,
            },
            "difficulty": m.difficulty,
        }
        if m.classes is not None:
            entry["classes"] = {
                "full": m.classes.full.tolist(),
                "kept": m.classes.kept.tolist(),
                "shift": m.classes.shift,
                "lost": m.classes.lost,
            }
        if m.method == "d2":
            run = chooser.d2_runs[compared.size]
            entry["gamma_reverse"] = run.gamma_reverse
            entry["messages_ran_out_at"] = run.ran_out_at
            entry["cut_off"] = run.cut
            entry["thinned_from"] = run.thinned_from
        methods.append(entry)
    return {
        **given(budget),
        "kept": compared.size,
        "methods": methods,
        "shared": compared.shared.tolist(),
    }


def _lines(compared: Compared, n: int) -> list[tuple[str, str]]:
    """One budget, for people."""
    return [
        ("kept", f"{compared.size:,} of {n:,} rows ({compared.size / n:.1%})"),
        *(
            (
                f"  {m.method}",
                f"mean distance {m.coverage.mean:.4g}, 95 % within {m.coverage.p95:.4g}, "
                f"redundant {m.redundancy.share:.1%}",
            )
            for m in compared.methods
        ),
    ]
