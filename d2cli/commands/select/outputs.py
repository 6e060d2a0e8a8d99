"""The outputs of ``select``: their names, their columns and their provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.commands.propagate import message_record
from d2cli.commands.requests import Budget, OutputOptions, SelectRequest, given
from d2cli.commands.select.inputs import Inputs
from d2cli.commands.select.targets import name_targets
from d2cli.commands.summary import Clock
from d2cli.defaults import WrittenAs
from d2cli.errors import OutputError
from d2cli.files.graph_file import graph_section
from d2cli.files.output.atomic import Outputs
from d2cli.files.provenance.sidecar import new_provenance, sidecar_path, write_sidecar
from d2cli.files.selection_file import Kept, check_form, print_selection, store_selection
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.selection.greedy import Selection


@dataclass(frozen=True)
class Picked:
    """One budget's selection and where it goes."""

    target: str
    budget: Budget
    selection: Selection


def plan_targets(
    options: OutputOptions, budgets: list[tuple[Budget, int]], ids: pa.Array | None
) -> list[str]:
    """The output of each budget, its form checked.

    Raises:
        UsageError: if several budgets would go to one file, or the form is not known.
    """
    targets = name_targets(options, budgets)
    for target in targets:
        check_form(target, options.written_as, ids, options.order == "rank")
    return targets


@dataclass(frozen=True)
class Outcome:
    """What a run of select came to: its inputs, what was made of them, and the picks."""

    request: SelectRequest
    inputs: Inputs
    graph: KnnGraph
    csr: Edges
    sigma: float
    propagated: NDArray[np.float64]
    picked: list[Picked]


def entries(outcome: Outcome) -> list[dict[str, Any]]:
    """The provenance of each output, as far as it is the same for the same run."""
    parameters = _parameters(outcome.request, outcome.inputs)
    return [
        new_provenance(
            "select",
            {**parameters, **_budget(p)},
            inputs=outcome.inputs.described,
            messages={"sigma": outcome.sigma},
            graph=graph_section(outcome.graph),
            counts=_counts(outcome.inputs, outcome.csr, p.selection),
            selection=_selection_record(p.selection),
        )
        for p in outcome.picked
    ]


def write_all(
    outcome: Outcome,
    provenance: list[dict[str, Any]],
    clock: Clock,
    threads: int,
    stdout: IO[str] | None,
) -> None:
    """Write every selection with its provenance; all, or none."""
    options = outcome.request.output
    columns = _Columns(outcome.inputs, outcome.propagated, options.complement)
    with Outputs() as outputs:
        for p, entry in zip(outcome.picked, provenance, strict=True):
            kept = columns.of(p.selection, options.order == "rank")
            if p.target == "-":
                _print(stdout, kept, options.written_as)
                continue
            note = outputs.place(sidecar_path(p.target))
            data = outputs.place(p.target)
            with clock.stage("write"):
                ending = Path(p.target).suffix.lower()
                store_selection(data, ending, kept, options.written_as, entry)
            run = {**clock.run(threads), **outcome.inputs.found}
            write_sidecar(note, data, entry, run)


def _print(stdout: IO[str] | None, kept: Kept, written_as: WrittenAs) -> None:
    if stdout is None:  # the shell closed it: >&-
        raise OutputError("standard output is closed")
    try:
        print_selection(stdout, kept, written_as)
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from None


def _budget(p: Picked) -> dict[str, Any]:
    ratio = p.budget.ratio
    return {"ratio": None if ratio is None else float(ratio), "size": p.budget.size}


def _parameters(request: SelectRequest, inputs: Inputs) -> dict[str, Any]:
    """Every option that shapes the result."""
    parameters: dict[str, Any] = {
        **given(inputs.score_options),
        **message_record(inputs.messages),
        "gamma_reverse": inputs.gamma_reverse,
        "balance": request.balance,
        "cutoff": "auto" if inputs.late_cutoff == "auto" else request.early_cutoff,
        "cutoff_higher_is": request.cutoff_higher_is,
        "id_column": request.id_column,
        "order": request.output.order,
        "as": request.output.written_as,
        "complement": request.output.complement,
    }
    if request.graph is None:
        parameters = {**given(request.graph_options), **parameters}
    return parameters


def _counts(inputs: Inputs, csr: Edges, selection: Selection) -> dict[str, int]:
    n = inputs.frame.n
    dropped = 0 if inputs.drop is None else int(inputs.drop.sum())
    return {
        "rows": n,
        "edges": int(csr.indices.size),
        "included": selection.included,
        "cut_off": inputs.cut + selection.cut,
        "excluded": dropped - inputs.cut,
        "kept": int(selection.order.size),
    }


def _selection_record(selection: Selection) -> dict[str, Any]:
    return {
        "gamma_reverse": selection.gamma_reverse,
        "gamma_reverse_at_bound": selection.at_bound,
        "messages_ran_out_at": selection.ran_out_at,
        "thinned_from": selection.thinned_from,
    }


class _Columns:
    """Turns a selection into rows to write, with their columns, in the order of writing."""

    def __init__(self, inputs: Inputs, u: NDArray[np.float64], complement: bool) -> None:
        self.inputs, self.u, self.complement = inputs, u, complement

    def of(self, selection: Selection, by_rank: bool) -> Kept:
        n = self.inputs.frame.n
        columns: dict[str, pa.Array] = {}
        if self.complement:
            kept = np.zeros(n, np.bool_)
            kept[selection.order] = True
            index = np.flatnonzero(~kept)
        else:
            rank = np.arange(selection.order.size)
            if not by_rank:
                rank = np.argsort(selection.order)
            index = selection.order[rank]
            columns["rank"] = pa.array(rank.astype(np.int64))
        if self.inputs.scores is not None:
            columns["score"] = pa.array(self.inputs.scores[index])
        columns["propagated"] = pa.array(self.u[index])
        if not self.complement:
            columns["gain"] = pa.array(selection.gains[rank])
        return Kept(index.astype(np.int64), n, self.inputs.frame.ids, columns)
