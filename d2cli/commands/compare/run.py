"""``d2prune compare``: D2 beside other methods at equal budgets, as numbers and as a page."""

from __future__ import annotations

from typing import Any

from d2cli.commands.compare.inputs import CompareJob, read_compare_data
from d2cli.commands.compare.measures import Chosen, measure
from d2cli.commands.compare.methods import Chooser
from d2cli.commands.compare.page import compare_page
from d2cli.commands.finish import Summary, Terminal, begin, finish
from d2cli.commands.graph.run import describe_graph, graph_notices, graph_of
from d2cli.commands.measure import Ruler, vectors_of
from d2cli.commands.pages import COMPARE_NEEDS, page_output, page_provenance
from d2cli.commands.requests import as_parameters


def run_compare(job: CompareJob, terminal: Terminal) -> Summary:
    """Select by every method, measure, and write the page.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock, options, progress = begin(job.inputs), job.options, terminal.progress
    with clock.stage("read"):
        data = read_compare_data(job)
        budgets = job.budgets(data.frame.n)
    with clock.stage("graph"):
        graph = graph_of(job.emb, job.graph, job.threads, progress, rows=data.rows, bad=data.bad)
        vectors = vectors_of(job.emb, job.graph.metric, job.threads, progress, data.rows)
    chooser = Chooser(job, data, vectors, graph, progress)
    chosen: Chosen = {size: {} for size in budgets}
    for method in options.methods:
        with clock.stage(method):
            for size, by_method in chosen.items():
                by_method[method] = chooser.select(method, size, max(budgets))
    with clock.stage("measure"):
        progress("measure", 0, 1)
        ruler = Ruler(vectors, options.measured_rows, job.graph.seed, job.threads)
        comparison = measure(data, ruler, budgets, chosen, chooser.d2_runs, progress)
    read_as = job.request.emb_options.recorded
    settled = {
        **as_parameters(job.graph),
        **read_as,
        **data.scores.direction.recorded,
        **as_parameters(options),
    }
    provenance = page_provenance(
        "compare",
        {**settled, "id_column": job.request.id_column, "bad_rows": job.request.bad_rows},
        COMPARE_NEEDS,
        inputs=job.inputs.described,
        comparison=comparison,
        bad_rows=data.bad.section,
    )
    notices = [*data.frame.notices, *job.direction.notices, *graph_notices(graph)]
    notices += chooser.notices
    with clock.stage("page"):
        page = compare_page(job, data.frame.n, ruler.threshold, provenance, notices)
    return finish(
        job.inputs, clock, job.threads, [page_output(job.request.out, provenance, page)],
        [
            *data.bad.lines,
            ("graph", describe_graph(graph)),
            *(line for budget in comparison for line in _lines(budget, data.frame.n)),
            ("written", job.request.out),
        ],
        notices,
        decisions=(
            *graph.info.decisions,
            *data.scores.direction.decisions,
            *(decision for run in chooser.d2_runs.values() for decision in run.decisions),
        ),
    )  # fmt: skip


def _lines(budget: dict[str, Any], n: int) -> list[tuple[str, str]]:
    """One budget, for people."""
    lines = [("kept", f"{budget['kept']:,} of {n:,} rows ({budget['kept'] / n:.1%})")]
    for m in budget["methods"]:
        mean, p95 = m["coverage"]["mean"], m["coverage"]["p95"]
        text = f"mean distance {mean:.4g}, 95 % within {p95:.4g}"
        text += f", redundant {m['redundancy']['share']:.1%}, lift {m['lift']:.3f}"
        lines.append((f"  {m['method']}", text))
    return lines
