"""``d2prune score``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d2cli.cli.drive import drive
from d2cli.commands.requests import ScoreRequest

if TYPE_CHECKING:
    from d2cli.commands.finish import Summary, Terminal
    from d2cli.commands.score.inputs import ScoreJob

REQUEST = ScoreRequest
HELP = """\
Score the difficulty of each row.

From a model's outputs over epochs: el2n, forgetting, entropy, loss, perplexity, variability (high:
hard, or ambiguous), aum, confidence, margin, correctness (high: easy), dual, dyn-unc, tdds,
loss-drop (high: predictions change, wanted). From embeddings alone: prototypicality, knn-distance.
From embeddings and those of a target set: target-similarity. From labels and neighbours:
label-disagreement. The meaning of a high score is recorded with the output; `select` and
`propagate` read it.
"""
EXAMPLE = """\b
Examples:
  d2prune score --kind el2n --epochs 1:5 --logits sample_data/logits.npy \\
      --labels sample_data/labels.npy --out el2n.npy
  d2prune score --kind aum,forgetting --logits sample_data/logits.npy \\
      --labels sample_data/labels.npy --out scores.parquet
  d2prune score --kind dual --window 5 --logits sample_data/logits.npy \\
      --labels sample_data/labels.npy --out dual.npy
  d2prune score --kind knn-distance --emb sample_data/emb.npy --out sparse.npy
"""


def run(request: ScoreRequest) -> None:
    """Open the inputs, then plan or work."""
    from d2cli.commands.score.inputs import open_score_job
    from d2cli.commands.score.plan import plan_score

    drive(request, request.run, open_score_job, plan_score, _work)


def _work(job: ScoreJob, terminal: Terminal) -> Summary:
    from d2cli.commands.score.run import run_score  # loads the compiler

    return run_score(job, terminal)
