"""``d2prune report``: data and selections of it in, one page out."""

from __future__ import annotations

from importlib.metadata import version

from d2cli.commands.pages import REPORT_NEEDS, check_report
from d2cli.commands.report.inputs import ReportInputs, read_report_inputs
from d2cli.commands.report.measures import Measured, measure
from d2cli.commands.report.numbers import as_numbers
from d2cli.commands.requests import ReportRequest, given
from d2cli.commands.summary import Clock, Summary, last_line
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.files.output.atomic import Outputs, check_target
from d2cli.files.provenance.sidecar import new_provenance, sidecar_path, write_sidecar


def run_report(request: ReportRequest, progress: Progress = silent) -> Summary:
    """Measure the selections, and write the page.

    Raises:
        D2Error: where anything is wrong, or the extra is not installed; then no output has changed.
    """
    check_report(request)
    threads = thread_count(request.threads)
    clock = Clock()
    with clock.stage("read"):
        inputs = read_report_inputs(request)
        check_target(request.out, inputs.paths)
    with clock.stage("measure"):
        measures = measure(inputs, request.options, threads, progress)
    numbers = as_numbers(inputs, measures)
    # These need the extra.
    from d2cli.commands.report.map import map_rows  # noqa: PLC0415
    from d2cli.commands.report.sections import Viewer  # noqa: PLC0415
    from d2cli.page.page import render  # noqa: PLC0415

    with clock.stage("map"):
        progress("map", 0, 1)
        mapped = map_rows(measures.vectors, request.options)
        progress("map", 1, 1)
    with clock.stage("page"):
        page = render(Viewer(inputs, measures, request.options, mapped).page())
    entry = new_provenance(
        "report",
        {
            **given(request.options),
            "metric": inputs.metric,
            "higher_is": inputs.higher_is,
            "id_column": request.id_column,
        },
        inputs=inputs.described,
        report=numbers,
    )
    entry["versions"].update({name: version(name) for name in REPORT_NEEDS.values()})
    with Outputs() as outputs:
        note = outputs.place(sidecar_path(request.out))
        data = outputs.place(request.out)
        with clock.stage("write"):
            data.write_text(page, encoding="utf-8", newline="\n")
        run = clock.run(threads)
        write_sidecar(note, data, entry, run)
    size = len(page.encode()) / 2**20
    return Summary(
        [request.out],
        entry,
        run,
        [
            *(_line(inputs, m, len(measures.selections) > 1) for m in measures.selections),
            ("written", f"{request.out}, {size:.1f} MiB"),
            last_line(run),
        ],
        [*inputs.frame.notices, *inputs.notices],
    )


def _line(inputs: ReportInputs, m: Measured, several: bool) -> tuple[str, str]:
    """One selection, for people."""
    chance = sum(c.mean for c in m.chance.coverage) / len(m.chance.coverage)
    name = f"{m.selection.path}: " if several else ""
    return (
        "kept",
        f"{name}{m.kept:,} of {inputs.frame.n:,} rows; mean distance to the nearest kept "
        f"{m.coverage.mean:.4g} (random {chance:.4g}), redundant {m.redundancy.share:.1%}",
    )
