"""``d2prune propagate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d2cli.cli.drive import drive
from d2cli.commands.requests import PropagateRequest

if TYPE_CHECKING:
    from d2cli.commands.finish import Summary, Terminal
    from d2cli.commands.propagate.inputs import PropagateJob

REQUEST = PropagateRequest
HELP = """\
Add to each score what its neighbours send.

This is forward message passing. The options given here are recorded with P: `select` uses the same
edges, kernel and bandwidth unless it is given others.
"""
EXAMPLE = """\b
Example:
  d2prune graph --emb sample_data/emb.npy --out graph.arrow
  d2prune propagate --graph graph.arrow --scores sample_data/scores.npy --out propagated.npy
"""


def run(request: PropagateRequest) -> None:
    """Open the inputs, then plan or work."""
    from d2cli.commands.propagate.inputs import open_propagate_job
    from d2cli.commands.propagate.plan import plan_propagate

    drive(request, request.run, open_propagate_job, plan_propagate, _work)


def _work(job: PropagateJob, terminal: Terminal) -> Summary:
    from d2cli.commands.propagate.run import run_propagate  # loads the compiler

    return run_propagate(job, terminal)
