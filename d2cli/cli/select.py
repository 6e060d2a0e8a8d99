"""``d2prune select``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d2cli.cli.drive import drive
from d2cli.commands.requests import SelectRequest
from d2cli.errors import UsageError

if TYPE_CHECKING:
    from d2cli.commands.finish import Summary, Terminal
    from d2cli.commands.select.inputs import SelectJob

REQUEST = SelectRequest
HELP = """\
Choose the rows to keep, by greedy picks.

Each pick lowers the scores of its neighbours. The inputs are embeddings and scores, or a graph file
and scores that were propagated on it. --ratio is the fraction that is kept.
"""
EXAMPLE = """\b
Examples:
  d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy --ratio 0.3
  d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy \\
      --ratio 0.1 --ratio 0.3 --out 'kept_{ratio}.parquet'
"""


def run(request: SelectRequest) -> None:
    """Open the inputs, then plan or work.

    Raises:
        UsageError: if both the summary and the selection would go to standard output.
    """
    if request.run.json and request.output.out == "-":
        raise UsageError("--json and --out - both want standard output")
    from d2cli.commands.select.inputs import open_select_job
    from d2cli.commands.select.plan import plan_select

    drive(request, request.run, open_select_job, plan_select, _work)


def _work(job: SelectJob, terminal: Terminal) -> Summary:
    from d2cli.commands.select.run import run_select  # loads the compiler

    return run_select(job, terminal)
