"""``d2prune score``: a model's outputs, embeddings or a graph in, scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.requests import ScoreRequest, check_score, given
from d2cli.commands.score.inputs import Inputs, read_inputs, without_effect
from d2cli.commands.score.kinds import Found, score_embeddings, score_neighbours, score_outputs
from d2cli.commands.summary import Clock, Summary, last_line
from d2cli.difficulty.kinds import KINDS
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.files.graph_file import graph_section
from d2cli.files.output.atomic import Outputs, check_target
from d2cli.files.provenance.sidecar import new_provenance, sidecar_path, write_sidecar
from d2cli.files.score_file import plan_files, store_scores


def run_score(request: ScoreRequest, progress: Progress = silent) -> Summary:
    """Compute scores and write them with what they mean.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    check_score(request)
    threads = thread_count(request.threads)
    clock = Clock()
    files = plan_files(request.out, list(request.kinds))
    with clock.stage("read"):
        inputs = read_inputs(request)
    for target in files:
        check_target(target, inputs.paths)
    found = Found()
    with clock.stage("score"):
        score_outputs(request, inputs, found, threads, progress)
        score_embeddings(request, inputs, found, threads, progress)
        score_neighbours(request, inputs, found, threads, progress)
    found.scores = {kind: found.scores[kind] for kind in request.kinds}
    entries = {target: _entry(request, inputs, found, kinds) for target, kinds in files.items()}
    with Outputs() as outputs:
        for target, kinds in files.items():
            note = outputs.place(sidecar_path(target))
            data = outputs.place(target)
            with clock.stage("write"):
                inside = {kind: v for kind, v in found.scores.items() if kind in kinds}
                ending = Path(target).suffix.lower()
                store_scores(data, ending, inside, inputs.frame.ids, entries[target])
            write_sidecar(note, data, entries[target], clock.run(threads))
    run = clock.run(threads)
    lines = [
        *((kind, _describe(kind, values)) for kind, values in found.scores.items()),
        *found.lines,
        ("written", ", ".join(files)),
        last_line(run),
    ]
    notices = [*inputs.frame.notices, *found.notices, *without_effect(request)]
    for kind, values in found.scores.items():
        if values.min() == values.max() and values.size > 1:
            notices.append(f"{kind}: every row has the same score ({values[0]:g})")
    whole = _entry(request, inputs, found, list(request.kinds))
    return Summary(list(files), whole, run, lines, notices)


def _entry(request: ScoreRequest, inputs: Inputs, found: Found, kinds: list[str]) -> dict[str, Any]:
    """The provenance of a file that holds some of the kinds."""
    parameters: dict[str, Any] = {"kind": kinds, "id_column": request.id_column}
    if inputs.outputs is not None:
        parameters["epochs"] = request.epochs
    if "prototypicality" in request.kinds:
        parameters["n_clusters"] = request.n_clusters
    if found.graph is not None and inputs.graph is None:
        parameters.update(given(request.graph_options))
    sections: dict[str, Any] = {}
    if found.graph is not None:
        sections["graph"] = graph_section(found.graph)
    return new_provenance(
        "score",
        parameters,
        inputs=inputs.described,
        counts={"rows": inputs.frame.n},
        scores={
            kind: {"higher_is": KINDS[kind].higher_is, **found.details[kind]} for kind in kinds
        },
        **sections,
    )


def _describe(kind: str, values: NDArray[np.float64]) -> str:
    """One line for people."""
    return (
        f"{values.min():.4g} … {values.max():.4g}, median {np.median(values):.4g}; "
        f"high = {KINDS[kind].higher_is}"
    )
