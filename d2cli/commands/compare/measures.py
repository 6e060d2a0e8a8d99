"""The numbers of a comparison, as its page and its JSON show them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.compare.inputs import CompareData
from d2cli.commands.measure import Ruler
from d2cli.commands.requests import Budget, as_parameters
from d2cli.defaults import CompareMethod
from d2cli.engine.threads import Progress
from d2cli.evaluation.balance import class_balance
from d2cli.evaluation.lift import lift
from d2cli.evaluation.selections import shared_rows
from d2cli.messages.utility import utility
from d2cli.selection.greedy import Selection

#: The rows that each method keeps, by budget in rows.
Chosen = dict[int, dict[CompareMethod, NDArray[np.int64]]]


def measure(
    data: CompareData, ruler: Ruler, budgets: dict[int, Budget], chosen: Chosen,
    d2_runs: dict[int, Selection], progress: Progress,
) -> list[dict[str, Any]]:  # fmt: skip
    """Measure every selection, budget by budget."""
    ranks = utility(data.scores.utility, transform="rank")
    done, total = 1, 1 + sum(map(len, chosen.values()))
    comparison = []
    for size, by_method in chosen.items():
        methods = []
        for method, rows in by_method.items():
            progress("measure", done, total)
            done += 1
            entry = {"method": method, **_measures(data, ruler, ranks, rows)}
            if method == "d2":
                entry |= _d2_run(d2_runs[size])
            methods.append(entry)
        shared = shared_rows(list(by_method.values()), data.scores.raw.size)
        budget = as_parameters(budgets[size])
        comparison.append({**budget, "kept": size, "methods": methods, "shared": shared.tolist()})
    progress("measure", total, total)
    return comparison


def _measures(
    data: CompareData, ruler: Ruler, ranks: NDArray[np.float64], rows: NDArray[np.int64]
) -> dict[str, Any]:
    spread = ruler.measure(rows)
    coverage, redundancy = spread.coverage, spread.redundancy
    median = redundancy.median if math.isfinite(redundancy.median) else None
    found: dict[str, Any] = {
        "coverage": {"mean": coverage.mean, "p95": coverage.p95, "max": coverage.max},
        "redundancy": {"share": redundancy.share, "median": median},
        "difficulty": float(ranks[rows].mean()),
        "lift": lift(data.scores.utility, rows),
    }
    if data.codes is not None:
        counts = class_balance(data.codes, rows)
        found["classes"] = {
            "full": counts.full.tolist(),
            "kept": counts.kept.tolist(),
            "shift": counts.shift,
            "lost": counts.lost,
        }
    return found


def _d2_run(run: Selection) -> dict[str, Any]:
    return {
        "gamma_reverse": run.gamma_reverse,
        "messages_ran_out_at": run.ran_out_at,
        "cut_off": run.cut,
        "thinned_from": run.thinned_from,
        **run.lift_section,
        "decisions": [decision.as_json() for decision in run.decisions],
    }
