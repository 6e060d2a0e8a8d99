"""``d2prune report``: data and selections of it in, one page out."""

from __future__ import annotations

from pathlib import Path

from d2cli.commands.finish import Clock, Output, Summary, Terminal, finish
from d2cli.commands.pages import REPORT_NEEDS, package_versions
from d2cli.commands.report.inputs import ReportData, ReportJob, read_report_data
from d2cli.commands.report.map import map_rows
from d2cli.commands.report.measures import SelectionMeasures, measure
from d2cli.commands.report.numbers import as_numbers
from d2cli.commands.report.sections import Viewer
from d2cli.commands.requests import recorded
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.page.page import render


def run_report(job: ReportJob, terminal: Terminal) -> Summary:
    """Measure the selections, and write the page.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock, options, progress = Clock(), job.request.options, terminal.progress
    described = job.inputs.described
    with clock.stage("read"):
        data = read_report_data(job)
    with clock.stage("measure"):
        measures = measure(data, options, job.threads, progress)
    numbers = as_numbers(data, measures)
    with clock.stage("map"):
        progress("map", 0, 1)
        mapped = map_rows(measures.vectors, options)
        progress("map", 1, 1)
    with clock.stage("page"):
        page = render(Viewer(data, measures, options, mapped, described).page())
    provenance = new_provenance(
        "report",
        {
            **recorded(options),
            "metric": data.metric,
            "higher_is": data.higher_is,
            "id_column": job.request.id_column,
        },
        inputs=described,
        report=numbers,
    )
    provenance["versions"].update(package_versions(REPORT_NEEDS))

    def store(path: Path) -> None:
        path.write_text(page, encoding="utf-8", newline="\n")

    size = len(page.encode()) / 2**20
    several = len(measures.selections) > 1
    return finish(
        job.inputs,
        clock,
        job.threads,
        [Output(job.request.out, provenance, store)],
        [
            *(_line(data, one, several) for one in measures.selections),
            ("written", f"{job.request.out}, {size:.1f} MiB"),
        ],
        [*data.frame.notices, *data.notices],
    )


def _line(data: ReportData, measured: SelectionMeasures, several: bool) -> tuple[str, str]:
    """One selection, for people."""
    random = sum(c.mean for c in measured.random.coverage) / len(measured.random.coverage)
    name = f"{measured.file.path}: " if several else ""
    return (
        "kept",
        f"{name}{measured.kept:,} of {data.frame.n:,} rows; mean distance to the nearest kept "
        f"{measured.coverage.mean:.4g} (random {random:.4g}), redundant "
        f"{measured.redundancy.share:.1%}",
    )
