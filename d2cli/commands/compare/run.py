"""``d2prune compare``: D2 beside other methods at equal budgets, as numbers and as a page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.compare.inputs import CompareData, CompareJob, read_compare_data
from d2cli.commands.compare.measures import Compared, MethodMeasures
from d2cli.commands.compare.methods import Chooser
from d2cli.commands.compare.sections import page_of
from d2cli.commands.finish import Clock, Output, Summary, Terminal, finish
from d2cli.commands.graph.run import describe_graph, graph_notices, graph_of
from d2cli.commands.measure import Ruler, vectors_of
from d2cli.commands.pages import COMPARE_NEEDS, package_versions
from d2cli.commands.requests import Budget, recorded
from d2cli.defaults import CompareMethod
from d2cli.engine.threads import Progress
from d2cli.evaluation.balance import class_balance
from d2cli.evaluation.selections import shared_rows
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.messages.utility import utility
from d2cli.page.page import render

Chosen = dict[int, dict[CompareMethod, NDArray[np.int64]]]


def run_compare(job: CompareJob, terminal: Terminal) -> Summary:
    """Select by every method, measure, and write the page.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock, options, progress = Clock(), job.options, terminal.progress
    described = job.inputs.described
    with clock.stage("read"):
        data = read_compare_data(job)
        budgets = job.budgets(data.frame.n)
    with clock.stage("graph"):
        graph = graph_of(job.emb, job.graph, job.threads, progress)
        vectors = vectors_of(job.emb, job.graph.metric, job.threads, progress)
    chooser = Chooser(job, data, vectors, graph, progress)
    chosen: Chosen = {size: {} for size in budgets}
    for method in options.methods:
        with clock.stage(method):
            for size, by_method in chosen.items():
                by_method[method] = chooser.select(method, size, max(budgets))
    with clock.stage("measure"):
        compared = _measure(job, data, vectors, chosen, progress)
    provenance = new_provenance(
        "compare",
        {
            **recorded(job.graph),
            **job.direction.recorded,
            **recorded(options),
            "id_column": job.request.id_column,
        },
        inputs=described,
        comparison=[as_numbers(one, budgets[one.size], chooser) for one in compared],
    )
    provenance["versions"].update(package_versions(COMPARE_NEEDS))
    notices = [*data.frame.notices, *job.direction.notices, *graph_notices(graph)]
    with clock.stage("page"):
        page = render(page_of(job, data.frame.n, compared, provenance, notices))

    def store(path: Path) -> None:
        path.write_text(page, encoding="utf-8", newline="\n")

    return finish(
        job.inputs,
        clock,
        job.threads,
        [Output(job.request.out, provenance, store)],
        [
            ("graph", describe_graph(graph)),
            *(line for one in compared for line in _lines(one, data.frame.n)),
            ("written", job.request.out),
        ],
        notices,
        decisions=(
            *graph.info.decisions,
            *job.direction.decisions,
            *(decision for run in chooser.d2_runs.values() for decision in run.decisions),
        ),
    )


def _measure(
    job: CompareJob,
    data: CompareData,
    vectors: NDArray[np.floating],
    chosen: Chosen,
    progress: Progress,
) -> list[Compared]:
    """Measure every selection; distances on a sample if there are more rows than asked for."""
    total = 1 + len(chosen) * len(job.options.methods)
    progress("measure", 0, total)
    ruler = Ruler(vectors, job.options.measured_rows, job.graph.seed, job.threads)
    ranks = utility(data.scores.utility, transform="rank")
    compared: list[Compared] = []
    for size, by_method in chosen.items():
        measured: list[MethodMeasures] = []
        for method, rows in by_method.items():
            progress("measure", 1 + len(compared) * len(by_method) + len(measured), total)
            spread, codes = ruler.measure(rows), data.codes
            measured.append(
                MethodMeasures(
                    method,
                    rows,
                    spread.coverage,
                    spread.redundancy,
                    float(ranks[rows].mean()),
                    None if codes is None else class_balance(codes, rows),
                )
            )
        shared = shared_rows([one.rows for one in measured], data.frame.n)
        compared.append(Compared(size, measured, shared))
    progress("measure", total, total)
    return compared


def as_numbers(compared: Compared, budget: Budget, chooser: Chooser) -> dict[str, Any]:
    """One budget of the comparison, for JSON."""
    methods = []
    for one in compared.methods:
        median, numbers = one.redundancy.median, one.coverage
        entry: dict[str, Any] = {
            "method": one.method,
            "coverage": {"mean": numbers.mean, "p95": numbers.p95, "max": numbers.max},
            "redundancy": {
                "share": one.redundancy.share,
                "median": median if math.isfinite(median) else None,
            },
            "difficulty": one.difficulty,
        }
        if one.classes is not None:
            entry["classes"] = {
                "full": one.classes.full.tolist(),
                "kept": one.classes.kept.tolist(),
                "shift": one.classes.shift,
                "lost": one.classes.lost,
            }
        if one.method == "d2":
            run = chooser.d2_runs[compared.size]
            entry["gamma_reverse"] = run.gamma_reverse
            entry["messages_ran_out_at"] = run.ran_out_at
            entry["cut_off"] = run.cut
            entry["thinned_from"] = run.thinned_from
            entry["decisions"] = [decision.as_json() for decision in run.decisions]
        methods.append(entry)
    return {
        **recorded(budget),
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
                f"  {one.method}",
                f"mean distance {one.coverage.mean:.4g}, 95 % within {one.coverage.p95:.4g}, "
                f"redundant {one.redundancy.share:.1%}",
            )
            for one in compared.methods
        ),
    ]
