"""Write RESULTS.md and results.svg of this folder from the raw results.

PYTHONPATH=evidence python -m multimodal.tables
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from multimodal import plan
from multimodal.tasks import TEST, VALIDATION
from store import Store, Training
from tables import COLORS, Cell, styled_pyplot

HERE = Path(__file__).resolve().parent
Line = dict[str, Any]
Measure = Callable[[Line], float]

#: (method, settings chosen) in the order of the tables, and its name there.
Row = tuple[str, bool]
ROWS: dict[Row, str] = {
    ("random", False): "random",
    ("highest", False): "top score",
    ("deduplicated", True): "top score without near-duplicates, λ chosen",
    ("ccs", True): "CCS, β chosen",
    ("d2-before", False): "D2, earlier defaults",
    ("d2", False): "**D2, defaults**",
    ("d2", True): "D2, λ chosen",
}
Table = dict[Row, dict[float, list[Line]]]  # row, rate: a line for each seed
STYLE = {
    **COLORS, "deduplicated": COLORS["near-duplicates"], "d2-before": COLORS["moderate"]
}  # fmt: skip
#: Rows whose difference is shown.
AGAINST: tuple[tuple[Row, Row], ...] = (
    (("d2", False), ("highest", False)),
    (("d2", False), ("deduplicated", True)),
    (("d2-before", False), ("highest", False)),
)
RATES = sorted(plan.RATES)


def recall_on(sets: tuple[str, ...]) -> Measure:
    """R@5 of a line: the mean over these held-out sets, and over both ways."""
    return lambda line: float(np.mean([line["retrieval"][name] for name in sets]))


def accuracy_on(sets: tuple[str, ...]) -> Measure:
    """Accuracy of a line: the mean over these held-out sets."""
    return lambda line: float(np.mean([line["classification"][name] for name in sets]))


def seeds_of(noise: float, store: Store) -> list[int]:
    """Return the seeds with the most results, so that all means are over the same seeds."""
    done = Counter(line["seed"] for line in store if line["noise"] == noise)
    return sorted(seed for seed, count in done.items() if count == max(done.values()))


def lines_of(
    method: str, rate: float, settings: dict[str, Any], noise: float, store: Store
) -> list[Line]:
    """Return the lines of these settings, one for each of the seeds, or none."""
    keys = [
        Training(plan.inputs_of(noise, seed), method, rate, settings).key
        for seed in seeds_of(noise, store)
    ]
    return [store.lines[key] for key in keys] if all(k in store.lines for k in keys) else []


def chosen(method: str, rate: float, noise: float, store: Store) -> list[Line]:
    """Return the lines of the settings with the best mean R@5 on the validation sets.

    Ties go to the first settings. No lines until all settings have results.
    """
    options = [
        lines_of(method, rate, settings, noise, store)
        for settings in plan.settings_of(method, rate)
    ]
    if not all(options):
        return []
    return max(options, key=lambda lines: np.mean([*map(recall_on(VALIDATION), lines)]))


def table_of(noise: float, store: Store) -> Table:
    """Return the lines of each method at each rate, where there are results."""
    table: Table = {}
    for method, is_chosen in ROWS:
        fixed = plan.D2_DEFAULTS if method == "d2" else {}
        found = {
            rate: chosen(method, rate, noise, store)
            if is_chosen
            else lines_of(method, rate, fixed, noise, store)
            for rate in RATES
        }
        if any(found.values()):
            table[method, is_chosen] = {rate: lines for rate, lines in found.items() if lines}
    return table


def cell(lines: list[Line], measure: Measure) -> Cell:
    """Return a measure of the lines."""
    return Cell(tuple(measure(line) for line in lines))


def title(noise: float) -> str:
    """Return the title of a comparison."""
    return f"{noise:.0%} of the captions wrong" if noise else "Captions as they are"


def accuracies(table: Table, measure: Measure) -> list[str]:
    """Return the lines of a table of a measure, the last rows with paired differences."""
    lines = [_row("kept", [f"{rate:.0%}" for rate in RATES]), _rule(len(RATES))]
    best = {
        rate: max(cell(found[rate], measure).mean for found in table.values() if rate in found)
        for rate in RATES
        if any(rate in found for found in table.values())
    }
    for row, found in table.items():
        texts = []
        for rate in RATES:
            here = cell(found[rate], measure) if rate in found else None
            leads = here is not None and here.mean == best[rate]
            texts.append(f"**{here}**" if leads else str(here or "–"))
        lines.append(_row(ROWS[row], texts))
    for ours, other in AGAINST:
        if ours in table and other in table:
            name = f"{_plain(ours)}, ahead of {_plain(other)}"
            lines.append(_row(name, [_gap(table, ours, other, rate, measure) for rate in RATES]))
    return [*lines, ""]


def _plain(row: Row) -> str:
    return ROWS[row].strip("*").split(", λ chosen")[0].split(", β chosen")[0]


def _gap(table: Table, ours: Row, other: Row, rate: float, measure: Measure) -> str:
    """Mean and standard error of the differences, seed by seed."""
    if rate not in table[ours] or rate not in table[other]:
        return "–"
    both = zip(table[ours][rate], table[other][rate], strict=True)
    gap = Cell(tuple(measure(a) - measure(b) for a, b in both))
    error = f" ± {gap.error:.4f}" if np.isfinite(gap.error) else ""
    return f"{gap.mean:+.4f}".replace("-", "−") + error


def diversity(table: Table) -> list[str]:
    """Return the lines of the table that sets quality and diversity beside the R@5."""
    heads = (
        "method", "settings", "lift", "wrong captions", "distance", "Vendi", "sets", "names", "R@5"
    )  # fmt: skip
    lines = [_row("kept", list(heads)), _rule(len(heads))]
    for rate in RATES:
        for row, found in table.items():
            here = found.get(rate)
            if not here:
                continue

            def mean(measure: Measure, here: list[Line] = here) -> float:
                return cell(here, measure).mean

            texts = [
                ROWS[row].strip("*"),
                _words(here[0]["settings"]),
                f"{mean(lambda x: x['lift']):.2f}",
                f"{mean(lambda x: x['wrong'] / x['kept']):.1%}",
                f"{mean(lambda x: x['diversity']['distance']):.3f}",
                f"{mean(lambda x: x['diversity']['vendi']):.1f}",
                f"{mean(lambda x: x['diversity']['sets']):.0f}",
                f"{mean(lambda x: x['diversity']['names']):,.0f}",
                f"{mean(recall_on(TEST)):.4f}",
            ]
            lines.append(_row(f"{rate:.0%}", texts))
    return [*lines, ""]


def every_setting(noise: float, store: Store) -> list[str]:
    """Return the lines of the table of all settings: R@5 on validation and test sets."""
    lines = [_row("settings", [f"{rate:.0%}" for rate in RATES]), _rule(len(RATES))]
    for method, grid in plan.GRID.items():
        for settings in grid:
            texts = []
            for rate in RATES:
                found = lines_of(method, rate, settings, noise, store)
                pair = [cell(found, recall_on(sets)).mean for sets in (VALIDATION, TEST) if found]
                texts.append(" / ".join(f"{one:.4f}" for one in pair) or "–")
            if any(text != "–" for text in texts):
                lines.append(_row(f"{_plain((method, True))}, {_words(settings)}", texts))
    return [*lines, ""]


def _words(settings: dict[str, Any]) -> str:
    names = {"keep_lift": "λ", "cutoff": "β"}
    return ", ".join(
        value if isinstance(value, str) else f"{names[name]} = {value:g}"
        for name, value in settings.items()
    )


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "| --- |" + " --- |" * columns


def markdown(noise: float, table: Table, store: Store) -> list[str]:
    """Return the section of one share of wrong captions."""
    seeds = len(seeds_of(noise, store))
    whole = lines_of("everything", 1.0, {}, noise, store)
    lines = [f"## {title(noise)}", "", f"Seeds: {seeds}.{_auc(whole)}", ""]
    for name, measure in (
        ("R@5, mean of both ways", recall_on(TEST)),
        ("Accuracy of classification", accuracy_on(TEST)),
    ):
        total = f" Trained on everything: {cell(whole, measure)}." if whole else ""
        lines += [f"**{name}**, on {', '.join(TEST)}.{total}", "", *accuracies(table, measure)]
    lines += ["**Quality and diversity of what is kept**", "", *diversity(table)]
    lines += [
        "**R@5 with each setting**, on the validation sets / on the test sets",
        "",
        *every_setting(noise, store),
    ]
    return lines


def _auc(whole: list[Line]) -> str:
    """How well the scores tell right from wrong captions."""
    if not whole or whole[0]["auc"] is None:
        return ""
    return f" AUC of the scores, right against wrong captions: {cell(whole, lambda x: x['auc'])}."


def plot(tables: dict[float, Table], path: Path) -> None:
    """Plot R@5 and the distance to the nearest kept row relative to random, by noise."""
    pyplot = styled_pyplot()
    measures = {
        "R@5 ahead of random": recall_on(TEST),
        "distance to the nearest kept row,\nmore than random": lambda x: x["diversity"]["distance"],
    }
    figure, panels = pyplot.subplots(
        len(tables), 2, figsize=(9.2, 3.1 * len(tables) + 0.7), squeeze=False, layout="constrained"
    )
    for line, (noise, table) in zip(panels, tables.items(), strict=True):
        for panel, (name, measure) in zip(line, measures.items(), strict=True):
            chance = table.get(("random", False), {})
            for row, found in table.items():
                method, is_chosen = row
                rates = [rate for rate in RATES if rate in found and rate in chance]
                gaps = [
                    Cell(
                        tuple(
                            measure(a) - measure(b)
                            for a, b in zip(found[r], chance[r], strict=True)
                        )
                    )
                    for r in rates
                ]
                panel.errorbar(
                    [RATES.index(rate) for rate in rates],
                    [gap.mean for gap in gaps],
                    np.nan_to_num([gap.error for gap in gaps]),
                    label=ROWS[row].strip("*"),
                    color=STYLE[method], lw=2.4 if method == "d2" else 1.3,
                    ls="--" if method == "d2" and is_chosen else "-", marker="o", ms=3,
                )  # fmt: skip
            panel.set_xticks(range(len(RATES)), [f"{rate:.0%}" for rate in RATES])
            panel.set_title(title(noise), fontsize=9)
            panel.set_xlabel("kept")
            panel.set_ylabel(name)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, transparent=True, metadata={"Date": None})


def main() -> None:
    """Write both files."""
    store = Store(plan.RESULTS)
    tables = {noise: table for noise in plan.NOISES if (table := table_of(noise, store))}
    if not tables:
        raise SystemExit("tables.py: no results; first run python -m multimodal.run")
    lines = [
        "# Results: filtering of image-caption pairs",
        "",
        "By `make evidence-multimodal`; see [README.md](README.md) for how. Mean ± standard error "
        "over the seeds; differences are paired. The best of each column is bold.",
        "",
    ]
    for noise, table in tables.items():
        lines += markdown(noise, table, store)
    (HERE / "RESULTS.md").write_text("\n".join(lines))
    plot(tables, HERE / "results.svg")


if __name__ == "__main__":
    main()
