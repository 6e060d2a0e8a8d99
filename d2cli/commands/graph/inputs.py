"""What ``graph`` opens and reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.bad_rows import BadRows, read_labels
from d2cli.commands.budget import Room
from d2cli.commands.inputs import Inputs
from d2cli.commands.requests import GraphOptions, GraphRequest
from d2cli.commands.settle import settle_graph
from d2cli.engine.threads import thread_count
from d2cli.errors import UsageError
from d2cli.files.frame import Frame
from d2cli.files.output.atomic import check_target
from d2cli.files.parts.part_kinds import GRAPH, PartKind, names_folder
from d2cli.files.sources import Source


@dataclass(frozen=True)
class GraphJob:
    """A run of ``graph``: its inputs opened, its options settled."""

    request: GraphRequest
    options: GraphOptions
    threads: int
    room: Room
    inputs: Inputs
    emb: Source
    within: Source | None
    excluded: list[Source]

    @property
    def parts(self) -> PartKind | None:
        """The kind of the parts that are written; None: the graph is one file."""
        return GRAPH.of_output(self.request.out)


@dataclass(frozen=True)
class GraphData:
    """What was read besides the embeddings, in their order."""

    frame: Frame
    labels: NDArray[np.int64] | None
    excluded: NDArray[np.bool_] | None
    bad: BadRows


def open_graph_job(request: GraphRequest, skim: bool = False) -> GraphJob:
    """Open the inputs and settle the options; nothing but headers is read.

    Raises:
        D2Error: if the request makes no sense, or an input cannot be used.
    """
    if request.emb is None:
        raise UsageError("graph needs --emb")
    if names_folder(request.out):
        request = replace(request, out=request.out.rstrip("/"))
    elif not request.out.endswith((".arrow", ".feather")):
        says = f"{request.out}: a graph is an Arrow file, or a folder of such files"
        raise UsageError(says, "end its name in .arrow, or in .d2 for a folder")
    options = settle_graph(request.options)
    room = Room.of(request.run, request.out, tasks=True)
    inputs = Inputs(request.id_column, skim)
    emb = inputs.source(request.emb, "embeddings", "emb", read_as=request.emb_options)
    assert emb is not None
    emb.scale_parts(options.metric)
    within = inputs.source(request.within, "labels", "within", key_option="labels-key")
    return GraphJob(
        request, options, thread_count(request.run.threads), room, inputs, emb, within,
        inputs.rows(request.exclude, "exclude"),
    )  # fmt: skip


def read_graph_data(job: GraphJob) -> GraphData:
    """Read and join what the search needs besides the embeddings, and check the target.

    Raises:
        D2Error: if inputs do not belong together, or the target cannot be written.
    """
    frame = Frame.of(job.emb, job.request.id_column)
    frame.join_all(job.within)
    excluded = frame.mask(job.excluded) if job.excluded else None
    bad = BadRows.of(job.request.bad_rows, frame, excluded)
    labels = None if job.within is None else read_labels(job.within, frame, bad)
    if bad.policy == "drop":
        bad.settle_embeddings(job.emb, job.options.metric)
    if bad.any_left_out:
        excluded = bad.left_out
    frame.check_id_column()
    frame.adopt_ids()
    job.inputs.note_rows(frame, bad.found)
    check_target(job.request.out, job.inputs.paths, job.parts)
    return GraphData(frame, labels, excluded, bad)
