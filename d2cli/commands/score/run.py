"""``d2prune score``: a model's outputs, embeddings or a graph in, scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.finish import Output, Summary, Terminal, begin, finish
from d2cli.commands.requests import as_parameters
from d2cli.commands.score.compute import Scored, compute
from d2cli.commands.score.inputs import ScoreData, ScoreJob, read_score_data, unused_options
from d2cli.difficulty.kinds import KINDS
from d2cli.files.graph_file import graph_section
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.files.score_file import store_scores


def run_score(job: ScoreJob, terminal: Terminal) -> Summary:
    """Compute scores and write them with what they mean.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock = begin(job.inputs)
    with clock.stage("read"):
        data = read_score_data(job)
    with clock.stage("score"):
        scored = compute(job, data, terminal.progress)
    job.inputs.note_rows(data.frame, data.bad.found)  # only now are those of each epoch known
    notices = [*data.frame.notices, *scored.notices, *unused_options(job)]
    for kind, values in scored.scores.items():
        if np.nanmin(values) == np.nanmax(values) and values.size > 1:
            notices.append(f"{kind}: every row has the same score ({np.nanmin(values):g})")
    return finish(
        job.inputs,
        clock,
        job.threads,
        [_output(job, data, scored, target, kinds) for target, kinds in job.files.items()],
        [
            *((kind, _describe(kind, values)) for kind, values in scored.scores.items()),
            *scored.lines,
            *data.bad.lines,
            ("written", ", ".join(job.files)),
        ],
        notices,
        provenance=_provenance(job, data, scored, list(job.request.kinds)),
        decisions=scored.decisions,
    )


def _output(
    job: ScoreJob, data: ScoreData, scored: Scored, target: str, kinds: list[str]
) -> Output:
    provenance = _provenance(job, data, scored, kinds)
    inside = {kind: scored.scores[kind] for kind in job.request.kinds if kind in kinds}
    ending = Path(target).suffix.lower()
    return Output(
        target,
        provenance,
        lambda path: store_scores(path, ending, inside, data.frame.ids, provenance),
    )


def _provenance(job: ScoreJob, data: ScoreData, scored: Scored, kinds: list[str]) -> dict[str, Any]:
    """The provenance of a file that holds some of the kinds."""
    request = job.request
    parameters: dict[str, Any] = {
        "kind": kinds,
        "id_column": request.id_column,
        "bad_rows": request.bad_rows,
    }
    parameters.update(request.emb_options.recorded)
    if job.outputs is not None:
        parameters["epochs"] = request.epochs
    if any(KINDS[kind].windowed for kind in kinds):
        parameters["window"] = request.window
    if job.target is not None:
        parameters["target_reduce"] = request.target_reduce
    if "prototypicality" in request.kinds:
        parameters["n_clusters"] = request.n_clusters
    if job.builds:
        parameters.update(as_parameters(request.graph_options))
    sections: dict[str, Any] = {}
    if scored.graph is not None:
        sections["graph"] = graph_section(scored.graph)
    return new_provenance(
        "score",
        parameters,
        inputs=job.inputs.described,
        counts={"rows": data.frame.n},
        scores={
            kind: {"higher_is": KINDS[kind].higher_is, **scored.details[kind]} for kind in kinds
        },
        **sections,
        ids=data.frame.ids_section,
        bad_rows=data.bad.section,
        decisions=[decision.as_json() for decision in scored.decisions],
    )


def _describe(kind: str, values: NDArray[np.float64]) -> str:
    """One line for people."""
    return (
        f"{np.nanmin(values):.4g} … {np.nanmax(values):.4g}, median {np.nanmedian(values):.4g}; "
        f"high = {KINDS[kind].higher_is}"
    )
