"""From numbers to the page: what each section says of each selection."""

from __future__ import annotations

from typing import Any

from d2cli.commands.report.examples import example_parts
from d2cli.commands.report.inputs import ReportData
from d2cli.commands.report.map import RowMap
from d2cli.commands.report.measures import QUANTILES, Measures, SelectionMeasures
from d2cli.commands.report.numbers import mean_and_sd, messages_of
from d2cli.commands.report.origin import origin_section
from d2cli.commands.report.picks import picks_section
from d2cli.commands.requests import ReportOptions
from d2cli.evaluation.selections import RANDOM_SEEDS, expected_shared, jaccard
from d2cli.page import figures
from d2cli.page.page import Bar, FigureView, Page, Part, Section, Table, Tile
from d2cli.page.text import Decimals, count, list_words, percent
from d2cli.version import __version__

#: Classes shown; of more, those of which least and most is kept.
MOST_CLASSES = 40
_LETTERS = "ABCDEFGH"
#: What the ends of the order of scores are called.
_ENDS = {
    "harder": ("easiest", "hardest"),
    "easier": ("easiest", "hardest"),
    "better": ("worst", "best"),
}

_MEANING = {"harder": "a hard example", "easier": "an easy example", "better": "a wanted example"}


class Viewer:
    """Builds the page of one run."""

    def __init__(
        self,
        data: ReportData,
        measures: Measures,
        options: ReportOptions,
        mapped: RowMap | None,
        described: dict[str, Any],
    ) -> None:
        self.data, self.measures, self.options, self.map = data, measures, options, mapped
        self.described = described
        self.n = data.frame.n
        self.low, self.high = _ENDS[data.higher_is]
        several = len(measures.selections) > 1
        names = [m.file.path.name for m in measures.selections]
        self.letters = list(_LETTERS[: len(names)]) if several else [""]
        self.labels = [f"{a}: {b}" if a else b for a, b in zip(self.letters, names, strict=True)]
        found = [m.coverage.max for m in measures.selections]
        self.distance = Decimals([*found, measures.threshold])

    def page(self) -> Page:
        """The page, ready to be rendered."""
        sections = [self._kept(), self._coverage(), self._redundancy(), self._scores()]
        if self.data.classes:
            sections.append(self._classes())
        ends = (self.low, self.high)
        sections.append(picks_section(self.data, self._each(), self._titles(), ends))
        if self.map is not None:
            sections.append(self._map(self.map))
        if len(self.labels) > 1:
            sections.append(self._overlap())
        sections += [
            Section(
                "examples",
                "Examples",
                ["Rows that say most about a selection. Texts are cut to 280 characters, images "
                 "scaled down to 96 pixels."],
                parts=example_parts(self.data, self.measures, self._titles(), self.high),
            ),
            origin_section(self.described, self.measures, self.labels),
        ]  # fmt: skip
        return Page(
            "Coreset report", self._lede(), self.data.notices, sections, f"d2prune {__version__}"
        )

    # -- help ---------------------------------------------------------------------------------
    def _titles(self) -> list[str | None]:
        """Headings of parts: none where there is only one."""
        return list(self.labels) if len(self.labels) > 1 else [None]

    def _each(self) -> list[tuple[str, str, SelectionMeasures]]:
        """(part of a figure's name, label, what was measured)."""
        names = [letter.lower() or "a" for letter in self.letters]
        return list(zip(names, self.labels, self.measures.selections, strict=True))

    def _parts(self, views: list[list[FigureView]]) -> list[Part]:
        return [Part(t, figures=v) for t, v in zip(self._titles(), views, strict=True)]

    def _lede(self) -> list[str]:
        emb = self.data.emb
        first = self.measures.selections[0]
        kept = f"{count(first.kept)} of {count(self.n)} rows kept ({percent(first.kept / self.n)})"
        if len(self.labels) > 1:
            kept = f"{len(self.labels)} selections of the same {count(self.n)} rows"
        return [f"{kept}; embeddings {emb.name}, {emb.parts[0].width():,} numbers a row."]

    def _chance(self, values: list[float], write: object) -> str:
        found = mean_and_sd(values)
        assert callable(write)
        return f"{write(found['mean'])}\N{NO-BREAK SPACE}± {write(found['sd'])}"

    # -- sections -----------------------------------------------------------------------------
    def _kept(self) -> Section:
        parts = [
            Part(title, tiles=self._tiles(m))
            for title, m in zip(self._titles(), self.measures.selections, strict=True)
        ]
        return Section("kept", "What was kept", [], parts=parts)

    def _tiles(self, m: SelectionMeasures) -> list[Tile]:
        chance = mean_and_sd([c.mean for c in m.random.coverage])["mean"]
        change = m.coverage.mean / chance - 1 if chance else 0.0
        direction = "closer" if change < 0 else "farther"
        tiles = [
            Tile("Rows kept", count(m.kept), f"{percent(m.kept / self.n)} of {count(self.n)}"),
            Tile(
                "Mean distance",
                self.distance(m.coverage.mean),
                f"{percent(abs(change))} {direction} than random "
                f"({self._chance([c.mean for c in m.random.coverage], self.distance)})",
            ),
            Tile(
                "95th percentile",
                self.distance(m.coverage.p95),
                f"random {self._chance([c.p95 for c in m.random.coverage], self.distance)}",
            ),
            Tile(
                "Redundant",
                percent(m.redundancy.share),
                f"random {self._chance([c.share for c in m.random.redundancy], percent)}",
            ),
        ]
        if m.classes is not None:
            full = int((m.classes.full > 0).sum())
            tiles.append(
                Tile(
                    "Classes",
                    f"{full - m.classes.lost} of {full}",
                    f"{percent(m.classes.shift)} of the shares moved",
                )
            )
        tiles.append(self._messages_tile(m))
        return tiles

    def _messages_tile(self, m: SelectionMeasures) -> Tile:
        found = messages_of(self.data, m.selection)
        if found is None:
            return Tile("Messages", "not known", "the selection has no provenance")
        gamma, at = found["gamma_reverse"], found["ran_out_at"]
        asked = m.file.recorded("parameters", "gamma_reverse")
        how = "" if gamma is None else f"γ_r {gamma:.3g}" + (" (auto)" if asked == "auto" else "")
        if at is None:
            return Tile("Messages", "lasted", f"to the last pick; {how}")
        return Tile("Messages ran out", f"at {count(at)}", f"of {count(m.kept)} picks; {how}")

    def _sampled(self) -> str:
        if self.measures.measured_rows == self.n:
            return ""
        return (
            f" SelectionMeasures on {count(self.measures.measured_rows)} rows drawn at random "
            f"(seed {self.options.seed})."
        )

    def _coverage(self) -> Section:
        rows: list[list[str | Bar]] = []
        for _, label, m in self._each():
            own = (m.coverage.mean, m.coverage.p95, m.coverage.max)
            rows.append([label, *(self.distance(v) for v in own)])
        sizes: dict[int, SelectionMeasures] = {m.kept: m for m in self.measures.selections}
        for size, m in sizes.items():
            name = "Random" if len(sizes) == 1 else f"Random, {count(size)} rows"
            values = [[getattr(c, a) for c in m.random.coverage] for a in ("mean", "p95", "max")]
            rows.append([name, *(self._chance(v, self.distance) for v in values)])
        unit = "Euclidean" if self.data.metric == "euclidean" else "of unit vectors (cosine)"
        return Section(
            "coverage",
            "Coverage",
            [
                "How far the rows of the full set are from what is kept: each row's distance to "
                "its nearest kept row, which for a kept row is 0. Small is good. Random selections "
                f"of the same size (seeds 0 to {RANDOM_SEEDS - 1}; mean ± standard deviation) are "
                f"the yardstick. Distances are {unit}.{self._sampled()}"
            ],
            [
                Table(
                    "Distance to the nearest kept row",
                    ["Selection", "Mean", "95th percentile", "Largest"],
                    rows,
                )
            ],
            self._parts(
                [
                    [
                        figures.coverage_curve(
                            f"coverage-{name}", label, QUANTILES, m.quantiles, m.random.quantiles
                        )
                    ]
                    for name, label, m in self._each()
                ]
            ),
        )

    def _redundancy(self) -> Section:
        rows: list[list[str | Bar]] = []
        for _, label, m in self._each():
            random = m.random.redundancy
            rows.append(
                [
                    label,
                    Bar(percent(m.redundancy.share), m.redundancy.share),
                    self._chance([c.share for c in random], percent),
                    self.distance(m.redundancy.median),
                    self._chance([c.median for c in random], self.distance),
                ]
            )
        return Section(
            "redundancy",
            "Redundancy",
            [
                "How close kept rows are to each other. A kept row counts as redundant if another "
                f"kept row is within {self.distance(self.measures.threshold)} of it: the median "
                "distance of a row of the full set to its nearest other row, so that of the full "
                f"set half would count.{self._sampled()}"
            ],
            [
                Table(
                    "Kept rows and their nearest other kept row",
                    ["Selection", "Redundant", "If random", "Median distance", "If random"],
                    rows,
                )
            ],
        )

    def _scores(self) -> Section:
        views = [
            [
                figures.score_histogram(
                    f"scores-{name}", label, self.measures.bin_edges, m.bins
                ),
                figures.kept_by_difficulty(
                    f"order-{name}", label, m.groups, (self.low, self.high)
                ),
            ]
            for name, label, m in self._each()
        ]  # fmt: skip
        meaning = f"A high score means {_MEANING[self.data.higher_is]}."
        return Section(
            "scores",
            "Scores",
            [
                f"{meaning} First, rows by score; then, the share kept along the order of the "
                f"scores, from the {self.low} to the {self.high} rows, in twenty groups of equal "
                "size."
            ],
            parts=self._parts(views),
        )

    def _classes(self) -> Section:
        balances = [m.classes for m in self.measures.selections if m.classes is not None]
        full, first = balances[0].full, balances[0]
        shown = [c for c in range(full.size) if full[c]]
        note = ""
        if len(shown) > MOST_CLASSES:
            by_share = sorted(shown, key=lambda c: (first.retention[c], c))
            half = MOST_CLASSES // 2
            note = (
                f" Of {count(len(shown))} classes the {half} of which least and the {half} of "
                f"which most is kept are shown{' (by the first selection)' * (len(balances) > 1)}."
            )
            shown = [*by_share[:half], *by_share[-half:]]
        rows: list[list[str | Bar]] = [
            [
                self.data.classes[c],
                count(int(full[c])),
                *(
                    cell
                    for b in balances
                    for cell in (
                        count(int(b.kept[c])),
                        Bar(percent(float(b.retention[c])), float(b.retention[c])),
                    )
                ),
            ]
            for c in shown
        ]
        head = ["Class", "Full set"]
        for letter in self.letters:
            head += [f"Kept {letter}".strip(), f"Share kept {letter}".strip()]
        moved = list_words(
            [f"{a} {percent(b.shift)}".strip() for a, b in zip(self.letters, balances, strict=True)]
        )
        return Section(
            "classes",
            "Classes",
            [
                "How much of each class is kept. Of the shares of the classes, so much moved from "
                f"one class to another: {moved}.{note}"
            ],
            [Table("Rows kept by class", head, rows)],
        )

    def _map(self, mapped: RowMap) -> Section:
        views = [
            [
                figures.embedding_map(
                    f"map-{name}", label, mapped.places, mapped.kept(m.selection.rows, self.n),
                    mapped.method,
                )
            ]
            for name, label, m in self._each()
        ]  # fmt: skip
        return Section("map", "Map", [mapped.words], parts=self._parts(views))

    def _overlap(self) -> Section:
        shared, alike = self.measures.shared, jaccard(self.measures.shared)
        chance = expected_shared(shared.diagonal(), self.n)
        size = len(self.letters)
        rows: list[list[str | Bar]] = [
            [
                f"{self.letters[i]} and {self.letters[j]}",
                count(int(shared[i, j])),
                f"{chance[i, j]:,.0f}",
                percent(float(shared[i, j] / min(shared[i, i], shared[j, j]))),
                Bar(f"{alike[i, j]:.3f}", float(alike[i, j])),
            ]
            for i in range(size)
            for j in range(i + 1, size)
        ]
        return Section(
            "overlap",
            "Overlap",
            ["How many rows selections share, beside what random ones of their sizes would."],
            [
                Table(
                    "Rows in common",
                    ["Selections", "Shared", "By chance", "Of the smaller", "Jaccard"],
                    rows,
                )
            ],
        )
