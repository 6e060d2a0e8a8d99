"""``d2prune report``: data and selections of it in, one page out."""

from __future__ import annotations

from d2cli.commands.finish import Summary, Terminal, begin, finish
from d2cli.commands.pages import REPORT_NEEDS, page_output, page_provenance
from d2cli.commands.report.inputs import ReportData, ReportJob, read_report_data
from d2cli.commands.report.measures import SelectionMeasures, measure
from d2cli.commands.report.numbers import as_numbers
from d2cli.commands.report.page import map_rows, report_page
from d2cli.commands.requests import as_parameters


def run_report(job: ReportJob, terminal: Terminal) -> Summary:
    """Measure the selections, and write the page.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock, options, progress = begin(job.inputs), job.request.options, terminal.progress
    with clock.stage("read"):
        data = read_report_data(job)
    with clock.stage("measure"):
        measures = measure(data, options, job.threads, progress)
    numbers = as_numbers(data, measures)
    with clock.stage("map"):
        progress("map", 0, 1)
        row_map = map_rows(measures.vectors, options)
        progress("map", 1, 1)
    with clock.stage("page"):
        page = report_page(job, data, measures, numbers, row_map)
    settled = {"metric": data.metric, "higher_is": data.higher_is}
    provenance = page_provenance(
        "report",
        {
            **as_parameters(options),
            **job.request.emb_options.recorded,
            **settled,
            "id_column": job.request.id_column,
            "bad_rows": job.request.bad_rows,
        },
        REPORT_NEEDS,
        inputs=job.inputs.described,
        report=numbers,
        bad_rows=data.bad.section,
    )
    several = len(measures.selections) > 1
    return finish(
        job.inputs, clock, job.threads, [page_output(job.request.out, provenance, page)],
        [
            *data.bad.lines,
            *(_line(data, one, several) for one in measures.selections),
            ("written", f"{job.request.out}, {len(page.encode()) / 2**20:.1f} MiB"),
        ],
        [*data.frame.notices, *data.notices],
    )  # fmt: skip


def _line(data: ReportData, measured: SelectionMeasures, several: bool) -> tuple[str, str]:
    """One selection, for people."""
    random = sum(c.mean for c in measured.random.coverage) / len(measured.random.coverage)
    name = f"{measured.file.name}: " if several else ""
    return (
        "kept",
        f"{name}{measured.kept:,} of {data.frame.n:,} rows; mean distance to the nearest kept "
        f"{measured.coverage.mean:.4g} (random {random:.4g}), redundant "
        f"{measured.redundancy.share:.1%}, lift {measured.lift:.3f}",
    )
