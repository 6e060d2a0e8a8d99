"""``d2prune compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d2cli.cli.drive import drive
from d2cli.commands.requests import CompareRequest

if TYPE_CHECKING:
    from d2cli.commands.compare.inputs import CompareJob
    from d2cli.commands.finish import Summary, Terminal

REQUEST = CompareRequest
HELP = """\
Compare D2 with other methods, as a web page.

Every method keeps the same number of rows. The page needs no network: coverage, redundancy,
difficulty, classes, and how many rows the selections share. --json prints the numbers. The time of
k-center grows with rows × budget, and that of zcore with rows × draws: 10 draws a row, at most
1,000,000.
"""
EXAMPLE = """\b
Example:
  d2prune compare --emb sample_data/emb.npy --scores sample_data/scores.npy \\
      --labels sample_data/labels.npy --ratio 0.1 --ratio 0.3 --out compare.html
"""


def run(request: CompareRequest) -> None:
    """Open the inputs, then plan or work."""
    from d2cli.commands.compare.inputs import open_compare_job
    from d2cli.commands.compare.plan import plan_compare

    drive(request, request.run, open_compare_job, plan_compare, _work)


def _work(job: CompareJob, terminal: Terminal) -> Summary:
    from d2cli.commands.compare.run import run_compare  # loads the compiler

    return run_compare(job, terminal)
