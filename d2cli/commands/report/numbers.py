"""The numbers of a report as one object for programs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from d2cli.commands.report.inputs import ReportData
from d2cli.commands.report.measures import Measures, SelectionMeasures
from d2cli.evaluation.balance import BinCounts
from d2cli.evaluation.selections import expected_shared, jaccard
from d2cli.files.selection_file import StoredSelection


def as_numbers(data: ReportData, measures: Measures) -> dict[str, Any]:
    """The numbers of the page; what is infinite or undefined is None."""
    numbers = {
        "rows": data.frame.n,
        "metric": data.metric,
        "higher_is": data.higher_is,
        "measured_rows": measures.measured_rows,
        "nearest_other_median": measures.threshold,
        "score_bin_edges": measures.bin_edges.tolist(),
        "classes": list(data.classes),
        "selections": [_numbers_of(data, m) for m in measures.selections],
        "overlap": {
            "shared": measures.shared.tolist(),
            "jaccard": jaccard(measures.shared).tolist(),
            "shared_by_chance": expected_shared(
                np.diag(measures.shared), data.scores.size
            ).tolist(),
        },
    }  # fmt: skip
    cleaned: dict[str, Any] = _finite(numbers)
    return cleaned


def _numbers_of(data: ReportData, m: SelectionMeasures) -> dict[str, Any]:
    kept = m.selection.rows
    chance = {
        name: mean_and_sd([getattr(c, name) for c in m.random.coverage])
        for name in ("mean", "p95", "max")
    }
    return {
        "path": m.file.name,
        "kept": m.kept,
        "share": m.kept / data.frame.n,
        "coverage": {
            **{name: getattr(m.coverage, name) for name in ("mean", "p95", "max")},
            "random": chance,
        },
        "redundancy": {
            "share": m.redundancy.share,
            "median": m.redundancy.median,
            "random": {
                name: mean_and_sd([getattr(c, name) for c in m.random.redundancy])
                for name in ("share", "median")
            },
        },
        "scores": {
            "mean": float(data.scores[kept].mean()),
            "full_mean": float(data.scores.mean()),
            "lift": m.lift,
            "bins": _counts(m.bins),
            "by_difficulty": _counts(m.groups),
        },
        "classes": None if m.classes is None else _counts(m.classes),
        "messages": messages_of(data, m.selection),
        "examples": {
            name: [
                {
                    "row": data.number(e.row),
                    **_id_of(data, e.row),
                    "value": e.value,
                    **({} if e.twin is None else {"nearest_kept": data.number(e.twin)}),
                }
                for e in rows
            ]
            for name, rows in m.examples.items()
        },
    }


def _id_of(data: ReportData, row: int) -> dict[str, Any]:
    ids = data.frame.ids
    return {} if ids is None else {"id": ids[data.number(row)].as_py()}


def mean_and_sd(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds (ddof 1; 0 for one seed)."""
    if not all(math.isfinite(v) for v in values):
        return {"mean": math.inf, "sd": math.inf}
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
    }


def _counts(balance: BinCounts) -> dict[str, Any]:
    return {
        "full": balance.full.tolist(),
        "kept": balance.kept.tolist(),
        "retention": balance.retention.tolist(),
        "shift": balance.shift,
        "divergence": balance.divergence,
        "entropy": balance.entropy,
        "lost": balance.lost,
    }


def messages_of(data: ReportData, selection: StoredSelection) -> dict[str, Any] | None:
    """How long the messages lasted, and where in the order of difficulty they ran out.

    None where the selection does not say how it was made.
    """
    recorded = selection.file.recorded("selection")
    if not isinstance(recorded, dict):
        return None
    found = {
        "gamma_reverse": recorded.get("gamma_reverse"),
        "ran_out_at": recorded.get("messages_ran_out_at"),
        "picks": selection.file.recorded("counts", "kept"),
        "kept_lift": recorded.get("kept_lift"),
        "selected_neighbours": recorded.get("selected_neighbours"),
        "selected_neighbours_by_score": recorded.get("selected_neighbours_by_score"),
        "difficulty_guided": None,
        "difficulty_after": None,
    }
    at, order = found["ran_out_at"], selection.order
    if order is not None:
        guided = order if at is None else order[:at]
        if guided.size:
            found["difficulty_guided"] = float(np.median(data.difficulty[guided]))
        if at is not None and at < order.size:
            found["difficulty_after"] = float(np.median(data.difficulty[order[at:]]))
    return found


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
