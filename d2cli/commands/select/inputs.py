"""What ``select`` opens, settles and reads: every input joined in one order and checked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli import defaults
from d2cli.commands.bad_rows import BadRows, read_labels
from d2cli.commands.budget import Room
from d2cli.commands.inputs import Inputs, check_built_from, read_graph, stale_graph
from d2cli.commands.propagate.inputs import (
    Scores,
    note_scores,
    read_scores,
    settle_utility,
    utility_of,
)
from d2cli.commands.requests import (
    AUTO,
    Budget,
    GraphOptions,
    Input,
    OutputOptions,
    ScoreOptions,
    SelectRequest,
)
from d2cli.commands.select.costs import check_cost_options, read_costs
from d2cli.commands.settle import (
    Direction,
    Messages,
    check_recorded,
    settle_direction,
    settle_gamma_reverse,
    settle_graph,
    settle_messages,
    usual_cutoff,
)
from d2cli.defaults import MISSING_SCORES
from d2cli.engine.threads import thread_count
from d2cli.errors import DataError, UsageError
from d2cli.files.frame import Frame
from d2cli.files.graph_file import GraphFile
from d2cli.files.locate.copies import is_address
from d2cli.files.parts.part_kinds import SELECTION, PartKind, names_folder
from d2cli.files.provenance.fingerprint import SECOND_HAND, fingerprint_of, refuse_stale
from d2cli.files.provenance.sidecar import read_sidecar
from d2cli.files.selection_file import is_table
from d2cli.files.sources import Reordered, Source
from d2cli.graph.lists import NeighborLists
from d2cli.selection.budgets import check_cutoff, cutoff_count, hardest

#: Options of the propagate step alone.
_PROPAGATE_ONLY = ("--gamma-forward", "--hops", "--score-transform", "--missing-scores")
#: The output if none is named.
SELECTED = "selected.npy"


@dataclass(frozen=True)
class SelectSettings:
    """All that is settled before any work.

    Attributes:
        direction: of the scores.
        gamma_reverse: γ_r or ``auto``.
        keep_lift: the lift that ``auto`` keeps; None: one that depends on the budget.
        cutoff: β, which is cut before the graph is built; or ``auto``, which waits for the
            propagated scores and depends on the budget.
        cutoff_direction: of the scores that the cutoff uses.
    """

    graph: GraphOptions
    messages: Messages
    direction: Direction
    gamma_reverse: float | Literal["auto"]
    keep_lift: float | None
    cutoff: float | Literal["auto"]
    cutoff_direction: Direction
    threads: int


@dataclass(frozen=True)
class SelectJob:
    """A run of ``select``: its inputs opened, its options settled."""

    request: SelectRequest
    settings: SelectSettings
    room: Room
    inputs: Inputs
    emb: Source | None
    graph: GraphFile | None
    scores: Source | None
    propagated: Source | None
    propagated_from: dict[str, Any]
    cutoff_scores: Source | None
    cost: Source | None
    labels: Source | None
    within: Source | None
    included: list[Source]
    excluded: list[Source]

    @property
    def nested(self) -> bool:
        """Whether smaller selections are prefixes: one γ_r, no cutoff by budget, no quotas."""
        automatic = AUTO in (self.settings.gamma_reverse, self.settings.cutoff)
        return not automatic and self.request.balance == "none"

    @property
    def automatic_lift(self) -> bool:
        """Whether the lift that γ_r keeps is automatic; then selections may be thinned."""
        return self.settings.gamma_reverse == AUTO and self.settings.keep_lift is None

    @property
    def needs_own_scores(self) -> bool:
        """Whether scores are taken from the propagated ones: for the cutoff and L, or for lift."""
        if self.settings.keep_lift is not None:
            return True
        if self.settings.cutoff == AUTO:
            return self.cutoff_scores is None  # which decide both the cutoff and L
        return self.settings.gamma_reverse == AUTO


@dataclass
class SelectData:
    """What was read, in the order of one frame.

    Attributes:
        direction: what the scores mean, with the transform that they need.
        graph: of the graph file, or None.
        scores: the scores for messages, or None if they come propagated.
        raw_scores: (n,) as in the file, or None; `scores_origin` says where each came from.
        propagated: (n,) float64, or None; 0 for rows that are left out.
        cutoff_scores: (n,) as in their file, and their origin, or None.
        costs: (n,) as in the file, or None; 0 for rows that are left out.
        difficulty: (n,) what an automatic cutoff and an automatic L use; None: own scores.
        late_cutoff: β of a cutoff by scores that are to be spread first, or 0.
        left_out: (n,) bool, the excluded, dropped and `cut` rows; None: there are none.
        bad: the rows that cannot be used.
    """

    frame: Frame
    bad: BadRows
    direction: Direction
    notices: list[str] = field(default_factory=list)
    graph: NeighborLists | None = None
    scores: Scores | None = None
    raw_scores: NDArray[np.float64] | None = None
    scores_origin: Source | Reordered | None = None
    propagated: NDArray[np.float64] | None = None
    cutoff_scores: tuple[NDArray[np.float64], Source | Reordered] | None = None
    costs: NDArray[np.float64] | None = None
    difficulty: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    within: NDArray[np.int64] | None = None
    included: NDArray[np.bool_] | None = None
    left_out: NDArray[np.bool_] | None = None
    cut: int = 0
    late_cutoff: float = 0.0


# -- open and settle -------------------------------------------------------------------------------
def open_select_job(request: SelectRequest, skim: bool = False) -> SelectJob:
    """Open the inputs and settle the options; nothing but headers is read.

    Raises:
        D2Error: if the request makes no sense, or an input cannot be used.
    """
    _check(request)
    room = Room.of(request.run, request.output.out or SELECTED, tasks=True)
    inputs = Inputs(request.id_column, skim)
    graph = inputs.graph(request.graph)
    emb = inputs.source(
        request.emb, "embeddings", "emb", described=graph is None, read_as=request.emb_options
    )
    given = None if request.propagated is None else Input([request.propagated])
    propagated = inputs.source(given, "scores", "propagated", key_option=None)
    # Read once the file is open, so that a later change is noticed.
    propagated_from = _propagated_from(request, propagated)
    inherited = propagated_from.get("parameters", {})
    if propagated_from and request.scores is None:
        inputs.add(SECOND_HAND, [], None, lambda: propagated_from["inputs"].get("scores", {}))
    scores = inputs.source(request.scores, "scores", "scores")
    included = inputs.rows(request.include, "include")
    excluded = inputs.rows(request.exclude, "exclude")
    cutoff_scores = inputs.source(request.cutoff_scores, "scores", "cutoff-scores")
    cost = inputs.source(request.cost, "costs", "cost")
    labels = inputs.source(request.labels, "labels", "labels")
    within = inputs.source(request.within, "labels", "within", key_option="labels-key")
    settings = _settle(request, graph, scores, cutoff_scores, inherited)
    if emb is not None:
        emb.scale_parts(settings.graph.metric)
    if settings.cutoff not in (0, AUTO) and scores is None and cutoff_scores is None:
        raise UsageError("--cutoff needs --scores or --cutoff-scores")
    if scores is not None:
        inputs.note("scores", settings.direction.text, **settings.direction.facts)
    if cutoff_scores is not None:
        about = settings.cutoff_direction
        inputs.note("cutoff-scores", about.text, **about.facts)
    if settings.cutoff == 0 and cutoff_scores is not None:
        inputs.forget("cutoff-scores")
        cutoff_scores = None
    return SelectJob(
        request, settings, room, inputs, emb, graph, scores, propagated, propagated_from,
        cutoff_scores, cost, labels, within, included, excluded,
    )  # fmt: skip


def _check(request: SelectRequest) -> None:
    """Refuse a request that makes no sense whatever the data."""
    if request.emb is None and not request.graph:
        raise UsageError("select needs --emb or --graph", "d2prune select --help has examples")
    if request.scores is None and request.propagated is None:
        raise UsageError("select needs --scores or --propagated")
    if request.propagated is not None and not request.graph:
        raise UsageError("--propagated belongs to a graph: give --graph too")
    if request.within is not None and request.graph:
        raise UsageError("--within is for building a graph, and --graph has one already")
    check_cost_options(request)
    if not request.budgets:
        raise UsageError("select needs --ratio or --size", "or --cost with --cost-budget")
    if request.cutoff is not None and request.cutoff != AUTO:
        check_cutoff(request.cutoff)
    if request.cutoff_higher_is is not None and request.cutoff_scores is None:
        raise UsageError(
            "--cutoff-higher-is needs --cutoff-scores", "the direction of --scores is --higher-is"
        )
    if request.balance != "none" and request.labels is None:
        raise UsageError(f"--balance {request.balance} needs --labels")
    if request.output.complement and request.output.order == "rank":
        raise UsageError("--complement has no rank: dropped rows were never picked")


def _propagated_from(request: SelectRequest, opened: Source | None) -> dict[str, Any]:
    """The provenance of the propagated file; empty if nothing is recorded."""
    path = request.propagated
    if path is None or opened is None:
        return {}
    provenance = read_sidecar(opened.paths[0] if is_address(path) else Path(path))
    if provenance is not None and provenance.get("command") == "propagate":
        check_recorded(provenance["parameters"], path)
        was = provenance["parameters"].get("missing_scores", MISSING_SCORES)
        if "--missing-scores" in request.named and request.missing_scores != was:
            raise UsageError(
                f"{path}: was propagated with --missing-scores {was}, and --missing-scores "
                f"{request.missing_scores} comes too late",
                "give --missing-scores to propagate, or leave it out here",
            )
        return provenance
    if late := [name for name in _PROPAGATE_ONLY if name in request.named]:
        raise UsageError(f"{late[0]} is for propagate, and {path} is propagated already")
    return {}


def _settle(
    request: SelectRequest,
    graph: GraphFile | None,
    scores: Source | None,
    cutoff_scores: Source | None,
    inherited: dict[str, Any],
) -> SelectSettings:
    path = request.propagated or ""
    direction = settle_direction(scores, request.score_options, inherited=inherited, path=path)
    messages = settle_messages(request.messages, direction.higher_is, inherited, path)
    if graph is not None:
        messages.check_method(graph.method)
    elif request.graph_options.method != "auto":
        messages.check_method(request.graph_options.method)
    gamma, keep_lift = settle_gamma_reverse(
        request.gamma_reverse, request.keep_lift, messages, direction.higher_is
    )
    cutoff_direction = direction
    if cutoff_scores is not None:
        options = ScoreOptions(request.cutoff_higher_is, "rank")
        cutoff_direction = settle_direction(cutoff_scores, options, "cutoff-higher-is")
    cutoff = request.cutoff
    if cutoff is None:
        # Scores that are named for the cutoff are difficulties.
        meaning = direction.higher_is if cutoff_scores is None else defaults.HIGHER_IS
        cutoff = usual_cutoff(gamma, meaning)
    return SelectSettings(
        settle_graph(request.graph_options, exact=messages.exact),
        messages, direction, gamma, keep_lift, cutoff, cutoff_direction,
        thread_count(request.run.threads),
    )  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One output: its path or ``-``, and its budget with the size in rows; in cost: at most."""

    path: str
    budget: Budget
    size: int

    @property
    def ending(self) -> str:
        """What gives the format: ``.npy``; empty for ``-``."""
        return Path(self.path).suffix.lower()

    @property
    def parts(self) -> PartKind | None:
        """The kind of the parts that are written; None: the selection is one file, or ``-``."""
        return SELECTION.of_output(self.path)


def name_targets(options: OutputOptions, budgets: list[tuple[Budget, int]]) -> list[Target]:
    """The output of each budget, which stands beside its size in rows.

    Raises:
        UsageError: if several budgets would go to one file.
    """
    out = options.out
    if out is None:
        out = SELECTED
        if len(budgets) > 1:
            by_size = any(budget.size for budget, _ in budgets)
            out = "selected_{size}.npy" if by_size else "selected_{ratio}.npy"
            out = "selected_{cost}.npy" if budgets[0][0].cost else out
    targets = []
    for budget, size in budgets:
        if "{ratio}" in out and budget.ratio is None:
            other = "use {size}" if budget.cost is None else "use {cost}"
            raise UsageError("{ratio} in --out needs every budget to be a --ratio", other)
        if "{cost}" in out and budget.cost is None:
            raise UsageError("{cost} in --out needs --cost-budget", "use {size}")
        if "{size}" in out and budget.cost is not None:
            raise UsageError("{size} in --out is not known before the selection", "use {cost}")
        path = out.replace("{ratio}", str(budget.ratio)).replace("{size}", str(size))
        path = path.replace("{cost}", str(budget.cost))
        path = path.rstrip("/") if names_folder(path) else path
        targets.append(Target(path, budget, size))
    if len({target.path for target in targets}) < len(targets):
        raise UsageError(
            f"several budgets would be written to {targets[0].path}",
            "put {ratio}, {size} or {cost} into --out, for example --out kept_{ratio}.npy",
        )
    return targets


# -- read ------------------------------------------------------------------------------------------
def read_select_data(job: SelectJob, in_ranges: bool = False) -> SelectData:
    """Read every input but the embeddings, join them, and check them against each other.

    `in_ranges`: as of :func:`read_graph`.

    Raises:
        D2Error: if inputs do not belong together.
    """
    data = _read_graph(job, in_ranges)
    _read_scores(job, data)
    if job.cost is not None:
        data.costs = read_costs(job.cost, data.frame, data.bad)
    if job.labels is not None:
        data.labels = read_labels(job.labels, data.frame, data.bad)
    if job.within is not None:
        data.within = read_labels(job.within, data.frame, data.bad)
    if job.graph is None and job.emb is not None and data.bad.policy == "drop":
        data.bad.settle_embeddings(job.emb, job.settings.graph.metric)
    if data.scores is not None:  # only now are all rows known that are left out
        data.scores = settle_utility(data.scores, data.bad, job.settings.messages)
        data.direction = data.scores.direction
        note_scores(job.inputs, data.scores)
    _read_rows(job, data)
    data.frame.check_id_column()
    if is_table(job.request.output.out or ""):  # so that a later step can join the selection
        data.frame.adopt_ids(usual_only=True)
    job.inputs.note_rows(data.frame, data.bad.found)
    return data


def _read_graph(job: SelectJob, in_ranges: bool) -> SelectData:
    """The frame, and the graph file if there is one; what was made from others is refused."""
    policy, direction = job.request.bad_rows, job.settings.direction
    if job.graph is None:
        assert job.emb is not None
        frame = Frame.of(job.emb, job.request.id_column)
        return SelectData(frame, BadRows.of(policy, frame, _excluded(job, frame)), direction)
    if job.emb is not None:
        check_built_from(job.graph, job.emb)
    graph, ids, notices = read_graph(job.graph, in_ranges)
    request, frame = job.request, job.graph.frame(ids, job.request.id_column)
    notices += [*stale_graph(job.graph, request.allow_stale), *_stale_propagated(job)]
    bad = BadRows.of(policy, frame, _excluded(job, frame), graph.excluded)
    return SelectData(frame, bad, direction, notices, graph)


def _excluded(job: SelectJob, frame: Frame) -> NDArray[np.bool_] | None:
    """The rows to exclude. They may be named by the ids of any input."""
    if job.propagated is not None:
        frame.take_by_row(job.propagated)
    frame.join_all(job.scores, job.cutoff_scores, job.cost, job.labels, job.within)
    return frame.mask(job.excluded) if job.excluded else None


def _stale_propagated(job: SelectJob) -> list[str]:
    """Refuse propagated scores of another graph or other scores; notices if stale is allowed."""
    request, made_from = job.request, job.propagated_from
    if not made_from:
        return []
    path, graph = str(request.propagated), "" if job.graph is None else job.graph.name
    again = f"run: d2prune propagate --graph {graph} --scores SCORES --out {path}"
    if fingerprint_of(made_from, "graph") != job.inputs.described["graph"]["fingerprint"]:
        raise DataError(f"{path}: was propagated on another graph than {graph}", again)
    stale = refuse_stale(path, made_from, "propagated from", again, request.allow_stale, "graph")
    scores = made_from["inputs"].get("scores", {}).get("fingerprint")
    known = job.inputs.described.get("scores", {}).get("fingerprint")
    if job.scores is not None and scores not in (None, known):
        raise DataError(
            f"{path}: was not propagated from {job.scores.name}",
            "give the scores that it was made from; --cutoff-scores may be others",
        )
    return stale


def _read_scores(job: SelectJob, data: SelectData) -> None:
    settings = job.settings
    if job.propagated is not None:
        # Propagated scores may be negative: hops under other rules can go below zero.
        values, origin = data.frame.vector(job.propagated)
        if job.propagated_from.get("parameters", {}).get("bad_rows") == "drop":
            data.bad.drop(np.isnan(values), "propagated")  # as that step has settled it
        data.bad.settle_numbers(values, "propagated", origin, "propagated score")
        data.propagated = values
    if job.scores is not None:
        if not job.propagated_from:
            data.notices += settings.direction.notices
        if data.propagated is None:
            policy = job.request.missing_scores
            data.scores = read_scores(job.scores, data.frame, data.bad, data.direction, policy)
            data.raw_scores, data.scores_origin = data.scores.raw, data.scores.origin
        else:
            data.raw_scores, data.scores_origin = data.frame.vector(job.scores)


def _read_rows(job: SelectJob, data: SelectData) -> None:
    """The rows that are included, excluded and cut."""
    frame, settings = data.frame, job.settings
    graph_excluded = None if data.graph is None else data.graph.excluded
    if job.included:
        data.included = frame.mask(job.included)
    if settings.cutoff != 0 and job.cutoff_scores is not None:
        data.cutoff_scores = _read_cutoff_scores(job, data, job.cutoff_scores)
    left_out = ~data.bad.used
    if data.propagated is not None:
        data.propagated[left_out] = 0.0
    if data.costs is not None:
        data.costs[left_out] = 0.0
    if data.included is not None and (data.included & left_out).any():
        row = int(np.argmax(data.included & left_out))
        what = "cannot be used" if data.bad.dropped[row] else "is excluded"
        raise DataError(f"{job.request.include[0]}: row {row} is to be included, and {what}")
    if settings.cutoff == AUTO:
        if job.cutoff_scores is not None:
            data.difficulty = _difficulty(job, data, "shift")
    elif settings.cutoff and data.cutoff_scores is None and _has_gaps(data):
        data.late_cutoff = settings.cutoff
    elif settings.cutoff:
        # Only the order counts, so nothing but a score that is not finite is refused.
        difficulty = _difficulty(job, data, "rank")
        eligible = ~left_out if data.included is None else ~(left_out | data.included)
        cut = hardest(difficulty, cutoff_count(settings.cutoff, frame.n), eligible)
        data.cut = int(cut.sum())
        left_out |= cut
    better = settings.direction.higher_is == "better" and job.cutoff_scores is None
    if better and job.request.cutoff:
        data.notices.append(
            "--cutoff drops the highest scores, which --higher-is better calls the best; "
            "--cutoff-scores can name a difficulty instead"
        )
    if data.graph is not None:
        late = left_out if graph_excluded is None else left_out & ~graph_excluded
        if late.any():
            data.notices.append(
                f"{int(late.sum()):,} rows are left out of a graph that was built with them: rows "
                "that listed them have fewer neighbours than a new graph would give"
            )
    if left_out.any():
        data.left_out = left_out


def _has_gaps(data: SelectData) -> bool:
    return data.scores is not None and data.scores.missing is not None


def _read_cutoff_scores(
    job: SelectJob, data: SelectData, source: Source
) -> tuple[NDArray[np.float64], Source | Reordered]:
    values, origin = data.frame.vector(source)
    data.notices += job.settings.cutoff_direction.notices
    data.bad.settle_numbers(values, "cutoff-scores", origin, "score")
    return values, origin


def _difficulty(
    job: SelectJob, data: SelectData, transform: Literal["rank", "shift"]
) -> NDArray[np.float64]:
    """(n,) what the cutoff uses, higher = harder."""
    direction = replace(job.settings.cutoff_direction, score_transform=transform)
    if data.cutoff_scores is None:
        assert data.raw_scores is not None and data.scores_origin is not None
        return utility_of(data.raw_scores, data.scores_origin, direction, data.bad)
    return utility_of(*data.cutoff_scores, direction, data.bad)
