"""Write evidence/RESULTS.md and evidence/results.svg from the raw results.

python evidence/tables.py
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import plan
from store import Inputs, Store, Training

HERE = Path(__file__).resolve().parent
DATASETS = {
    "fashion_mnist": "Fashion-MNIST",
    "wordnet": "WordNet glosses",
    "kernel_docs": "Kernel documentation",
}
SCORES = {
    "el2n": "EL2N",
    "prototypicality": "prototypicality (no labels)",
    "knn-distance": "kNN distance (no labels)",
}
#: (method, tuned) in the order of the tables, and its name there.
ROWS = {
    ("random", False): "random",
    ("highest", False): "highest score",
    ("cutoff", True): "highest after cutoff, β tuned",
    ("ccs", True): "CCS, β tuned",
    ("moderate", False): "Moderate",
    ("k-center", False): "k-center greedy",
    ("facility-location", False): "facility location",
    ("near-duplicates", False): "near-duplicate removal",
    ("semdedup-then-score", True): "near-duplicates, then score, lift tuned",
    ("graph-cut", True): "graph cut, α tuned",
    ("infomax", True): "InfoMax, α tuned",
    ("zcore", False): "ZCore",
    ("dual-sampling", True): "DUAL's sampling, c tuned",
    ("d2-paper", True): "D2 as published, β, k, γ_r tuned",
    ("d2", False): "**D2, defaults**",
    ("d2", True): "D2, β, k, γ_r tuned",
    ("d2-partial", False): "D2, defaults, 10 % of the scores known",
}
#: Methods that D2 with its defaults is not compared with.
OURS = ("d2", "d2-partial")
#: D2 with its defaults.
DEFAULTS = ("d2", False)
#: Readable on a white and on a black background.
INK = "#7d8590"
COLORS = {
    "random": "#8a8a8a", "cutoff": "#b8860b", "ccs": "#2e9e5b", "moderate": "#9c6ade",
    "k-center": "#c2528b", "facility-location": "#1fa3a3", "near-duplicates": "#b06a3b",
    "highest": "#d9534f", "d2": "#3b82f6", "d2-partial": "#7fb2ff",
    "semdedup-then-score": "#c98a5e",
    "graph-cut": "#7a9e2e", "infomax": "#4fb36b", "zcore": "#d67ab1", "dual-sampling": "#8f6fd1",
    "d2-paper": "#6fa8dc",
}  # fmt: skip
#: Lower end of the plots: accuracy relative to random.
LOWEST = -0.06


@dataclass(frozen=True)
class Cell:
    """Accuracies of one method at one rate, one per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN for one seed."""
        if len(self.values) < 2:
            return float("nan")
        return float(np.std(self.values, ddof=1) / np.sqrt(len(self.values)))

    def __str__(self) -> str:
        if len(self.values) < 2:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ± {self.error:.4f}"


Table = dict[tuple[str, bool], dict[float, Cell]]


def seeds_of(comparison: plan.Comparison, store: Store) -> list[int]:
    """Return the seeds for which D2 with its defaults has most results; all means are over them."""
    done = Counter(
        line["seed"]
        for line in store
        if line["split"] == "test"
        and (line["method"], line["settings"]) == ("d2", {})
        and (line["dataset"], line["noise"], line["scores"]) == comparison
    )
    return sorted(seed for seed, count in done.items() if count == max(done.values()))


def table_of(comparison: plan.Comparison, store: Store) -> Table:
    """Return the cells of one comparison that have the results of all seeds."""
    seeds = seeds_of(comparison, store)
    table: Table = {}
    for (method, is_tuned), _ in ROWS.items():
        for rate in plan.RATES:
            try:
                settings = plan.best(comparison, method, rate, store) if is_tuned else {}
            except LookupError:
                continue
            found = [
                store.accuracy(Training(Inputs(*comparison, "test", s), method, rate, settings))
                for s in seeds
            ]
            values = tuple(f for f in found if f is not None)
            if values and len(values) == len(seeds):
                table.setdefault((method, is_tuned), {})[rate] = Cell(values)
    return table


def everything(comparison: plan.Comparison, store: Store) -> Cell | None:
    """Return the accuracies of training on all rows."""
    seeds = seeds_of(comparison, store)
    values = tuple(
        line["accuracy"]
        for line in store
        if line["method"] == "everything"
        and line["seed"] in seeds
        and (line["dataset"], line["noise"], line["scores"]) == comparison
    )
    return Cell(values) if values else None


def title(comparison: plan.Comparison) -> str:
    """Return the title of a comparison."""
    dataset, noise, scores = comparison
    words = f"{DATASETS[dataset]}, {SCORES[scores]}"
    return words + (f", {noise:.0%} of labels wrong" if noise else "")


def markdown(comparison: plan.Comparison, table: Table, store: Store) -> list[str]:
    """Return the lines of the table, the last row comparing D2 with the best other method."""
    seeds = len(seeds_of(comparison, store))
    whole = everything(comparison, store)
    lines = [
        f"**{title(comparison)}**: accuracy, mean ± standard error over {seeds} "
        f"seed{'' if seeds == 1 else 's'}" + (f"; trained on everything {whole}" if whole else ""),
        "",
        "| kept | " + " | ".join(f"{rate:.0%}" for rate in plan.RATES) + " |",
        "| --- |" + " --- |" * len(plan.RATES),
    ]
    best = {
        rate: max((c[rate].mean for c in table.values() if rate in c), default=0.0)
        for rate in plan.RATES
    }
    for row, name in ROWS.items():
        cells = table.get(row, {})
        if not cells:
            continue
        texts = [str(cells.get(rate, "–")) for rate in plan.RATES]
        leads = [rate in cells and cells[rate].mean == best[rate] for rate in plan.RATES]
        written = [f"**{t}**" if lead else t for t, lead in zip(texts, leads, strict=True)]
        lines.append(f"| {name} | " + " | ".join(written) + " |")
    name = ROWS[DEFAULTS].strip("*")
    lines.append(f"| {name}, ahead of the best other | " + " | ".join(margins(table)) + " |")
    return [*lines, ""]


def margins(table: Table) -> list[str]:
    """Return D2 with its defaults minus the best other method, with the standard error."""
    cells = []
    for rate in plan.RATES:
        ours = table.get(DEFAULTS, {}).get(rate)
        others = [c[rate] for (m, _), c in table.items() if m not in OURS and rate in c]
        if ours is None or not others:
            cells.append("–")
            continue
        rival = max(others, key=lambda c: c.mean)
        error = float(np.hypot(ours.error, rival.error))
        gap = f"{ours.mean - rival.mean:+.4f}".replace("-", "−")
        cells.append(gap + (f" ± {error:.4f}" if np.isfinite(error) else ""))
    return cells


def styled_pyplot() -> Any:
    """Return matplotlib.pyplot, set for a file that is readable on white and on black."""
    import matplotlib

    matplotlib.use("Agg")
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    matplotlib.rcParams.update(dict.fromkeys((*inked, "grid.color"), INK))
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "d2prune",
            "font.size": 9,
            "axes.grid": True,
            "grid.alpha": 0.35,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    from matplotlib import pyplot

    return pyplot


def plot(tables: dict[plan.Comparison, Table], path: Path) -> None:
    """Plot the accuracy relative to random selection, one panel per comparison."""
    pyplot = styled_pyplot()
    columns = min(2, len(tables))
    height = -(-len(tables) // columns)
    figure, panels = pyplot.subplots(
        height, columns, figsize=(4.6 * columns, 3.1 * height + 0.7), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for panel in panels.flat[len(tables) :]:
        panel.set_visible(False)
    for panel, (comparison, table) in zip(panels.flat, tables.items(), strict=False):
        chance = table.get(("random", False), {})
        for (method, is_tuned), name in ROWS.items():
            cells = table.get((method, is_tuned), {})
            rates = [r for r in plan.RATES if r in cells and r in chance]
            gaps = [cells[r].mean - chance[r].mean for r in rates]
            errors = np.nan_to_num([cells[r].error for r in rates])
            ours = method == "d2"
            panel.errorbar(
                range(len(rates)), gaps, errors, label=name.strip("*"), color=COLORS[method],
                lw=2.4 if ours else 1.3, ls="--" if ours and is_tuned else "-",
                marker="o", ms=4 if ours else 3, zorder=3 if ours else 2,
            )  # fmt: skip
        panel.set_xticks(range(len(plan.RATES)), [f"{r:.0%}" for r in plan.RATES])
        panel.set_ylim(bottom=max(LOWEST, panel.get_ylim()[0]))
        panel.set_title(title(comparison), fontsize=9)
        panel.set_xlabel("kept")
        panel.set_ylabel("accuracy ahead of random")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 * columns, frameon=False)
    figure.savefig(path, transparent=True, metadata={"Date": None})


def main() -> None:
    """Write both files."""
    store = Store()
    tables = {c: table for c in plan.COMPARISONS if (table := table_of(c, store))}
    if not tables:
        raise SystemExit("tables.py: no results; first run python evidence/run.py")
    lines = [
        "# Results",
        "",
        "By `make evidence`; see [README.md](README.md) for how. The best of each column is bold.",
        "",
    ]
    for comparison, table in tables.items():
        lines += markdown(comparison, table, store)
    (HERE / "RESULTS.md").write_text("\n".join(lines))
    plot(tables, HERE / "results.svg")


if __name__ == "__main__":
    main()
