"""``d2prune report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d2cli.cli.drive import drive
from d2cli.commands.requests import ReportRequest

if TYPE_CHECKING:
    from d2cli.commands.finish import Summary, Terminal
    from d2cli.commands.report.inputs import ReportJob

REQUEST = ReportRequest
HELP = """\
Show what was kept, as a web page.

The page covers one or several selections and needs no network: coverage and redundancy beside
random selections, scores, classes, the order of the picks, a map, and examples. --json prints the
numbers.
"""
EXAMPLE = """\b
Example:
  d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy --ratio 0.3 \\
      --out kept.parquet
  d2prune report --emb sample_data/emb.npy --scores sample_data/scores.npy \\
      --selected kept.parquet --out report.html
"""


def run(request: ReportRequest) -> None:
    """Open the inputs, then plan or work."""
    from d2cli.commands.report.inputs import open_report_job
    from d2cli.commands.report.plan import plan_report

    drive(request, request.run, open_report_job, plan_report, _work)


def _work(job: ReportJob, terminal: Terminal) -> Summary:
    from d2cli.commands.report.run import run_report  # loads the compiler

    return run_report(job, terminal)
