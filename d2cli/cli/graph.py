"""``d2prune graph``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d2cli.cli.drive import drive
from d2cli.commands.requests import GraphRequest
from d2cli.files.parts.part_kinds import PART_ROWS

if TYPE_CHECKING:
    from d2cli.commands.finish import Summary, Terminal
    from d2cli.commands.graph.inputs import GraphJob

REQUEST = GraphRequest
HELP = f"""\
Find the nearest neighbours of every row.

The graph is written as an Arrow file, or as a folder of Arrow files of {PART_ROWS:,} rows each if
the name of --out ends in .d2. The recall@k of an approximate search is measured on a sample,
reported and recorded.
"""
EXAMPLE = """\b
Example:
  d2prune graph --emb sample_data/emb.npy --out graph.arrow
"""


def run(request: GraphRequest) -> None:
    """Open the inputs, then plan or work."""
    from d2cli.commands.graph.inputs import open_graph_job
    from d2cli.commands.graph.plan import plan_graph

    drive(request, request.run, open_graph_job, plan_graph, _work)


def _work(job: GraphJob, terminal: Terminal) -> Summary:
    from d2cli.commands.graph.run import run_graph  # loads the compiler

    return run_graph(job, terminal)
