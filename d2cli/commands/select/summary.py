"""What ``select`` says of a run: lines for people, notices, and one object for programs."""

from __future__ import annotations

from typing import Any

from d2cli.commands.graph import changed_meanwhile, describe_graph, graph_notices
from d2cli.commands.propagate import describe_messages, message_notices
from d2cli.commands.select.inputs import Inputs
from d2cli.commands.select.outputs import Outcome, Picked
from d2cli.commands.summary import Summary, last_line
from d2cli.selection.greedy import GAMMA_HIGH, GAMMA_LOW, Selection


def summarise(
    outcome: Outcome, provenance: list[dict[str, Any]], run: dict[str, Any], notices: list[str]
) -> Summary:
    """The summary of a run; `notices` are those of its request."""
    inputs, picked = outcome.inputs, outcome.picked
    asked, clamped = inputs.gamma_reverse, inputs.messages.clamped

    def of(p: Picked) -> str:
        """Which of several budgets a line is about."""
        return f"{p.target}: " if len(picked) > 1 else ""

    lines = [
        *(_written(outcome, p) for p in picked),
        ("graph", describe_graph(outcome.graph)),
        ("messages", describe_messages(inputs.messages, outcome.sigma, outcome.csr)),
        *(("cutoff", of(p) + _describe_cutoff(outcome, p)) for p in picked if _cut(inputs, p)),
        *(("gamma_r", of(p) + _describe_gamma(p.selection, asked)) for p in picked),
        last_line(run),
    ]
    said = [
        *inputs.frame.notices,
        *inputs.notices,
        *changed_meanwhile({"inputs": inputs.described, "run": inputs.found}),
        *notices,
        *graph_notices(outcome.graph),
        *message_notices(outcome.graph, outcome.csr, inputs.messages, outcome.sigma, inputs.wanted),
        *(of(p) + n for p in picked for n in _selection_notices(p.selection, asked, clamped)),
    ]
    return Summary([p.target for p in picked], _whole_record(picked, provenance), run, lines, said)


def _whole_record(picked: list[Picked], provenance: list[dict[str, Any]]) -> dict[str, Any]:
    """The provenance of one output; of several, what they share and what each has."""
    first = provenance[0]
    if len(provenance) == 1:
        return first
    budget = ("ratio", "size")
    return {
        **{k: v for k, v in first.items() if k not in ("counts", "selection")},
        "parameters": {k: v for k, v in first["parameters"].items() if k not in budget},
        "selections": [
            {
                "out": p.target,
                **{k: entry["parameters"][k] for k in budget},
                **entry["counts"],
                **entry["selection"],
            }
            for p, entry in zip(picked, provenance, strict=True)
        ],
    }


def _written(outcome: Outcome, p: Picked) -> tuple[str, str]:
    n, size = outcome.inputs.frame.n, p.selection.order.size
    label = "kept"
    if outcome.request.output.complement:
        label, size = "dropped", n - size
    place = "standard output" if p.target == "-" else p.target
    return label, f"{size:,} of {n:,} rows ({size / n:.1%}) → {place}"


def _cut(inputs: Inputs, p: Picked) -> int:
    return inputs.cut + p.selection.cut


def _describe_cutoff(outcome: Outcome, p: Picked) -> str:
    cut = _cut(outcome.inputs, p)
    share = f"the hardest {cut:,} rows ({cut / outcome.inputs.frame.n:.1%}) left out"
    return share + (" (auto)" if outcome.inputs.late_cutoff == "auto" else "")


def _describe_gamma(selection: Selection, asked: Any) -> str:
    text = f"{selection.gamma_reverse:.4g}" + (" (auto)" if asked == "auto" else "")
    if selection.thinned_from is not None:
        text += f", {selection.thinned_from:,} picks thinned to {selection.order.size:,}"
    if selection.ran_out_at is None:
        return f"{text}, messages lasted to the last pick"
    return (
        f"{text}, messages ran out after {selection.ran_out_at:,} of {selection.order.size:,} picks"
    )


def _selection_notices(selection: Selection, asked: Any, clamped: bool) -> list[str]:
    size, at = selection.order.size, selection.ran_out_at
    if at is not None and not clamped:
        return [
            f"after {at:,} of {size:,} picks the best score is no longer above zero: from there "
            "each pick raises its neighbours; raise --gamma-reverse (now "
            f"{selection.gamma_reverse:g}), or use --mode default"
        ]
    if at is not None and asked != "auto":
        return [
            f"the messages ran out after {at:,} of {size:,} picks: the other {size - at:,} had no "
            f"score left to decide by; raise --gamma-reverse (now {selection.gamma_reverse:g}), "
            "or let it be auto"
        ]
    if at is not None:
        return [
            f"the messages ran out after {at:,} of {size:,} picks even at gamma_reverse = "
            f"{GAMMA_HIGH:g}, the upper bound of auto: scores of 0 and exact duplicates do that"
        ]
    if selection.at_bound == "low" and selection.included < size:
        return [
            f"gamma_reverse = {GAMMA_LOW:g}, the lower bound of auto: so little is kept that the "
            "strongest messages leave scores to decide by"
        ]
    return []
