"""The outputs of ``select``: their names, their columns and their provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.commands.finish import Output
from d2cli.commands.plan import place_of
from d2cli.commands.requests import AUTO, OutputOptions, as_parameters
from d2cli.commands.select.costs import Bill
from d2cli.commands.select.inputs import SelectData, SelectJob, Target
from d2cli.files.graph_file import graph_section
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.files.selection_file import Kept, check_form, print_selection, store_selection
from d2cli.graph.lists import NeighborLists
from d2cli.runtime.decisions import Decision
from d2cli.selection.gamma.search import GAMMA_HIGH, GAMMA_LOW
from d2cli.selection.greedy import KeptLift, Selection


@dataclass(frozen=True)
class Picked:
    """The selection of one budget, and where it goes."""

    target: Target
    selection: Selection


@dataclass(frozen=True)
class Outcome:
    """The result of the work.

    Attributes:
        edges: their number.
        propagated: (n,) propagated scores.
        notices: what the user should know about messages.
        missing: (label, text) of how missing scores were found.
        picked: one selection a budget.
    """

    graph: NeighborLists
    edges: int
    sigma: float
    propagated: NDArray[np.float64]
    decisions: tuple[Decision, ...]
    notices: list[str]
    missing: list[tuple[str, str]]
    picked: list[Picked]


def check_formats(options: OutputOptions, targets: list[Target], ids: pa.Array | None) -> None:
    """Refuse a format that is not known, or that the rows' `ids` cannot fill."""
    for target in targets:
        check_form(target.path, options.written_as, ids, options.order == "rank")


def outputs_of(job: SelectJob, data: SelectData, outcome: Outcome) -> list[Output]:
    """One output a budget, ready to be written."""
    return [_output(job, data, outcome, picked) for picked in outcome.picked]


def _output(job: SelectJob, data: SelectData, outcome: Outcome, picked: Picked) -> Output:
    written_as = job.request.output.written_as
    provenance = _provenance(job, data, outcome, picked)
    kept = _rows_to_write(job, data, outcome, picked.selection)

    def store(place: Any) -> None:
        if picked.target.path == "-":
            print_selection(place, kept, written_as)
        else:
            store_selection(place, picked.target.ending, kept, written_as, provenance)

    return Output(picked.target.path, provenance, store, picked.target.parts)


def _provenance(
    job: SelectJob, data: SelectData, outcome: Outcome, picked: Picked
) -> dict[str, Any]:
    """The part of an output's provenance that does not differ between equal runs."""
    request, settings, selection = job.request, job.settings, picked.selection
    ratio, bill = picked.target.budget.ratio, _bill(data, picked)
    left_out = 0 if data.left_out is None else int(data.left_out.sum())
    decisions = (*outcome.decisions, *selection.decisions)
    return new_provenance(
        "select",
        {
            **({} if job.graph is not None else as_parameters(request.graph_options)),
            **request.emb_options.recorded,
            **data.direction.recorded,
            **settings.messages.recorded,
            "gamma_reverse": settings.gamma_reverse,
            "keep_lift": settings.keep_lift,
            "balance": request.balance,
            "cutoff": settings.cutoff,
            "cutoff_higher_is": job.cutoff_scores and settings.cutoff_direction.higher_is,
            "id_column": request.id_column,
            "bad_rows": request.bad_rows,
            "missing_scores": request.missing_scores,
            "order": request.output.order,
            "as": request.output.written_as,
            "complement": request.output.complement,
            "ratio": None if ratio is None else float(ratio),
            "size": picked.target.budget.size,
            "cost_budget": None if bill is None else bill.budget,
        },
        inputs=job.inputs.described,
        messages={"sigma": outcome.sigma},
        graph=graph_section(outcome.graph),
        ids=data.frame.ids_section,
        bad_rows=data.bad.section,
        counts={
            "rows": data.frame.n,
            "edges": outcome.edges,
            "included": selection.included,
            "cut_off": data.cut + selection.cut,
            "excluded": left_out - data.cut - int(data.bad.dropped.sum()),
            "dropped": int(data.bad.dropped.sum()),
            "kept": int(selection.order.size),
        },
        selection={
            "gamma_reverse": selection.gamma_reverse,
            "gamma_reverse_at_bound": selection.at_bound,
            "messages_ran_out_at": selection.ran_out_at,
            "thinned_from": selection.thinned_from,
            **selection.lift_section,
            **({} if bill is None else bill.section),
        },
        decisions=[decision.as_json() for decision in decisions],
    )


def whole_provenance(outputs: list[Output]) -> dict[str, Any]:
    """The provenance of one output; of several, what they share and what each has."""
    first = outputs[0].provenance
    if len(outputs) == 1:
        return first
    budget, own = ("ratio", "size", "cost_budget"), ("counts", "selection", "decisions")
    return {
        **{key: value for key, value in first.items() if key not in own},
        "parameters": {k: v for k, v in first["parameters"].items() if k not in budget},
        "selections": [
            {
                "out": output.target,
                **{key: output.provenance["parameters"][key] for key in budget},
                **output.provenance["counts"],
                **output.provenance["selection"],
                "decisions": output.provenance["decisions"],
            }
            for output in outputs
        ],
    }


def _rows_to_write(
    job: SelectJob, data: SelectData, outcome: Outcome, selection: Selection
) -> Kept:
    """The rows to write with their columns, in the order of writing."""
    n, options = data.frame.n, job.request.output
    columns: dict[str, pa.Array] = {}
    if options.complement:
        kept = np.zeros(n, np.bool_)
        kept[selection.order] = True
        index = np.flatnonzero(~kept)
    else:
        rank = np.arange(selection.order.size)
        if options.order == "index":
            rank = np.argsort(selection.order)
        index = selection.order[rank]
        columns["rank"] = pa.array(rank.astype(np.int64))
    unused = None  # rows that were never looked at have no scores
    if options.complement and data.bad.any_left_out:
        unused = ~data.bad.used[index]
    if data.raw_scores is not None:
        scores = data.raw_scores[index]
        absent = np.isnan(scores) if unused is None else np.isnan(scores) | unused
        columns["score"] = pa.array(scores, mask=absent if absent.any() else None)
    columns["propagated"] = pa.array(outcome.propagated[index], mask=unused)
    if not options.complement:
        columns["gain"] = pa.array(selection.gains[rank])
    return Kept(index.astype(np.int64), n, data.frame.ids, columns)


# -- the summary -----------------------------------------------------------------------------------
def lines_of(job: SelectJob, data: SelectData, outcome: Outcome) -> list[tuple[str, str]]:
    """(label, text) of each budget's result, for people."""
    n, lines = data.frame.n, []
    for picked in outcome.picked:
        label, size = "kept", picked.selection.order.size
        if job.request.output.complement:
            label, size = "dropped", n - size
        place = place_of(picked.target.path)
        lines.append((label, f"{size:,} of {n:,} rows ({size / n:.1%}) → {place}"))
    return [*data.bad.lines, *lines]


def budget_lines(job: SelectJob, data: SelectData, outcome: Outcome) -> list[tuple[str, str]]:
    """(label, text) of the cost, of the cutoff, of γ_r and of the lift of each budget."""
    cost_lines, cut_lines, gamma_lines = [], [], []
    for picked in outcome.picked:
        name, selection = _label(outcome, picked), picked.selection
        if (bill := _bill(data, picked)) is not None:
            cost_lines.append(("cost", name + bill.line))
        if cut := data.cut + selection.cut:
            share = f"the hardest {cut:,} rows ({cut / data.frame.n:.1%}) left out"
            auto = " (auto)" if job.settings.cutoff == AUTO else ""
            cut_lines.append(("cutoff", name + share + auto))
        gamma_lines.append(("gamma_r", name + _gamma_text(job, selection)))
        if selection.lift is not None:
            gamma_lines.append(("lift", name + _lift_text(selection.lift, job.automatic_lift)))
    return [*cost_lines, *cut_lines, *gamma_lines]


def _gamma_text(job: SelectJob, selection: Selection) -> str:
    auto = " (auto)" if job.settings.gamma_reverse == AUTO else ""
    if selection.gamma_reverse is None:
        return f"none{auto}, the highest scores without reverse messages"
    text = f"{selection.gamma_reverse:.4g}{auto}"
    size, at = selection.order.size, selection.ran_out_at
    if selection.thinned_from is not None:
        text += f", {selection.thinned_from:,} picks thinned to {size:,}"
    if at is None:
        return f"{text}, messages lasted to the last pick"
    return f"{text}, messages ran out after {at:,} of {size:,} picks"


def _lift_text(lift: KeptLift, automatic: bool) -> str:
    least = f"(at least {lift.least:g})"
    if automatic:
        least = f"(at least {lift.least:.4g}, auto)"
    return (
        f"{lift.reached:.4g} {least}; kept neighbours per kept row: "
        f"{lift.neighbours:.2f}, of the highest scores {lift.neighbours_by_score:.2f}"
    )


def budget_notices(job: SelectJob, data: SelectData, outcome: Outcome) -> list[str]:
    """What the user should know about the picks of each budget."""
    return [
        _label(outcome, picked) + notice
        for picked in outcome.picked
        for notice in (*_cost_notices(job, data, picked), *_pick_notices(job, data, picked))
    ]


def _bill(data: SelectData, picked: Picked) -> Bill | None:
    """What a selection costs; None if the budget is not in cost."""
    if data.costs is None:
        return None
    return Bill(picked.target.budget, data.costs, picked.selection, picked.target.size)


def _cost_notices(job: SelectJob, data: SelectData, picked: Picked) -> list[str]:
    bill = _bill(data, picked)
    return [] if bill is None else bill.notices(job.request.balance != "none")


def _label(outcome: Outcome, picked: Picked) -> str:
    """Which of several budgets a line is about."""
    return f"{picked.target.path}: " if len(outcome.picked) > 1 else ""


def _pick_notices(job: SelectJob, data: SelectData, picked: Picked) -> list[str]:
    selection = picked.selection
    size, at = selection.order.size, selection.ran_out_at
    if selection.lift is not None:
        left_out = 0 if data.left_out is None else int(data.left_out.sum())
        if size == data.frame.n - left_out - selection.cut:  # nothing could be chosen
            return []
        return _lift_notices(job, selection, selection.lift)
    if at is None:
        return []
    if not job.settings.messages.clamped:
        return [
            f"after {at:,} of {size:,} picks the best score is no longer above zero: from there "
            "each pick raises its neighbours; raise --gamma-reverse (now "
            f"{selection.gamma_reverse:g}), or use --mode default"
        ]
    return [
        f"the messages ran out after {at:,} of {size:,} picks: the other {size - at:,} had no "
        f"score left to decide by; raise --gamma-reverse (now {selection.gamma_reverse:g}), "
        "or let it be auto"
    ]


def _lift_notices(job: SelectJob, selection: Selection, lift: KeptLift) -> list[str]:
    """Notices of an automatic γ_r that has reached a bound."""
    if selection.gamma_reverse is None:
        why = "exact copies take each other's scores, whatever it is"
        if job.settings.messages.hops and not job.automatic_lift:
            why = f"forward messages change the order of scores (--hops 0 sends none), and {why}"
        return [
            f"no gamma_reverse up to {GAMMA_HIGH:g} keeps a lift of {lift.least:g}: the highest "
            f"scores are kept, without reverse messages; {why}"
        ]
    if selection.at_bound != "low" or selection.included == selection.order.size:
        return []
    if lift.flat:
        return [
            "all selections of this size have the same mean score, so that every lift is 1: "
            f"gamma_reverse = {GAMMA_LOW:g}, the strongest"
        ]
    if job.automatic_lift:  # thinning spreads the picks more
        return []
    return [
        f"gamma_reverse = {GAMMA_LOW:g}, the strongest, keeps a lift of {lift.reached:.4g}: "
        "no messages spread the picks more"
    ]
