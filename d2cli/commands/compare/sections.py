"""From the numbers of a comparison to its page."""

from __future__ import annotations

from typing import Any

from d2cli.commands.compare.inputs import CompareJob
from d2cli.commands.compare.measures import Compared, MethodMeasures
from d2cli.commands.report.origin import inputs_table, written
from d2cli.commands.requests import CompareOptions
from d2cli.defaults import CompareMethod
from d2cli.evaluation.redundancy import Redundancy
from d2cli.page.figures import bar_chart
from d2cli.page.page import Bar, FigureView, Page, Part, Section, Table
from d2cli.page.text import Decimals, count, percent
from d2cli.version import __version__


def page_of(
    job: CompareJob,
    n: int,
    compared: list[Compared],
    provenance: dict[str, Any],
    notices: list[str],
) -> Page:
    """The page of a comparison among `n` rows, ready to be rendered."""
    options, emb = job.options, job.emb
    distance = Decimals([m.coverage.p95 for c in compared for m in c.methods])
    lede = (
        f"{len(options.methods)} ways to keep part of {count(n)} rows, each with the same budget; "
        f"embeddings {emb.name}, {emb.parts[0].width():,} numbers a row."
    )
    sections = [_reading(compared[0].methods[0].redundancy, distance, options, n)]
    sections += [_budget(c, n, distance) for c in compared]
    sections += [_methods(options, job.labels is not None), _origin(provenance)]
    return Page("Coreset comparison", [lede], notices, sections, f"d2prune {__version__}")


def _reading(
    redundancy: Redundancy, distance: Decimals, options: CompareOptions, n: int
) -> Section:
    most = options.measured_rows
    paragraphs = [
        "Coverage is the distance from a row to the nearest kept row: small is good. A kept row is "
        "redundant if another one is within "
        f"{distance(redundancy.threshold)} of it, the median distance of a row of the full set to "
        "its nearest other row. Difficulty is the share of all rows that are no harder, averaged "
        "over the kept rows: 50 % is what random selection keeps.",
        "No method is best on all of these. What a model learns from each is for training to say.",
    ]
    if n > most:
        paragraphs.append(f"Distances are measured on {count(most)} rows drawn at random.")
    return Section("reading", "How to read it", paragraphs)


def _budget(compared: Compared, n: int, distance: Decimals) -> Section:
    name = f"kept-{compared.size}"
    labels = [m.method for m in compared.methods]
    overlap = [
        [m.method, *(percent(int(shared) / compared.size, 0) for shared in row)]
        for m, row in zip(compared.methods, compared.shared, strict=True)
    ]
    return Section(
        name,
        f"Keeping {percent(compared.size / n)}: {count(compared.size)} rows",
        [],
        tables=[_table(compared, distance)],
        parts=[
            Part(
                figures=_figures(name, compared, distance),
                folded=[
                    Table(
                        "Overlap: the share of its rows that each method has in common with each; "
                        f"by chance {percent(compared.size / n, 0)}",
                        ["Method", *labels],
                        [list[str | Bar](row) for row in overlap],
                    )
                ],
            )
        ],
    )


def _table(compared: Compared, distance: Decimals) -> Table:
    head = ["Method", "Mean distance", "95 % within", "Redundant", "Difficulty"]
    labelled = compared.methods[0].classes is not None
    if labelled:
        head += ["Classes shifted", "Classes lost"]
    reference = compared.methods[0].method
    if len(compared.methods) > 1:
        head.append(f"In common with {reference}")
    rows: list[list[str | Bar]] = []
    for m, shared in zip(compared.methods, compared.shared[0], strict=True):
        row: list[str | Bar] = [
            m.method,
            distance(m.coverage.mean),
            distance(m.coverage.p95),
            percent(m.redundancy.share),
            percent(m.difficulty),
        ]
        if m.classes is not None:
            row += [percent(m.classes.shift), count(m.classes.lost)]
        if len(compared.methods) > 1:
            share = int(shared) / compared.size
            row.append(Bar(percent(share, 0), share))
        rows.append(row)
    caption = "Every method at this budget"
    if labelled:
        caption += "; shifted is the share of rows that would have to change class to bring back "
        caption += "the classes' shares of the full set"
    return Table(caption, head, rows)


def _figures(name: str, compared: Compared, distance: Decimals) -> list[FigureView]:
    def best(key: str, values: list[float], least: bool = True) -> str:
        pick = min(values) if least else max(values)
        found = [m.method for m, v in zip(compared.methods, values, strict=True) if v == pick]
        return f"{key}: {' and '.join(found)}."

    def of(values: list[float]) -> list[tuple[str, float]]:
        return list(zip([m.method for m in compared.methods], values, strict=True))

    def numbers(measure: str) -> list[float]:
        return [_number(m, measure) for m in compared.methods]

    far, twice, hard = numbers("distance"), numbers("redundant"), numbers("difficulty")
    return [
        bar_chart(
            f"{name}-coverage", "Mean distance to the nearest kept row", "mean distance", of(far),
            distance, best("Rows are nearest to what is kept by", far),
        ),
        bar_chart(
            f"{name}-redundancy", "Redundant among the kept rows", "redundant", of(twice),
            lambda v: percent(v, 0), best("Fewest kept rows are redundant by", twice),
        ),
        bar_chart(
            f"{name}-difficulty", "Mean difficulty of the kept rows", "difficulty", of(hard),
            lambda v: percent(v, 0), best("The hardest rows are kept by", hard, least=False),
        ),
    ]  # fmt: skip


def _number(m: MethodMeasures, measure: str) -> float:
    return {
        "distance": m.coverage.mean,
        "redundant": m.redundancy.share,
        "difficulty": m.difficulty,
    }[measure]


def _methods(options: CompareOptions, labelled: bool) -> Section:
    rows: list[list[str | Bar]] = [[m, _about(m, options, labelled)] for m in options.methods]
    table = Table("What each one keeps", ["Method", "Rule"], rows, words=True)
    return Section("methods", "The methods", [], tables=[table])


def _about(method: CompareMethod, options: CompareOptions, labelled: bool) -> str:
    beta = f"β = {options.cutoff:g}"
    return {
        "d2": "D2 pruning (arXiv 2310.07931): messages weigh difficulty against diversity; "
        f"γ_r {options.gamma_reverse}",
        "random": "each row as likely as any other",
        "highest": "the highest scores",
        "cutoff": f"the highest scores once the highest {beta} of all rows are cut",
        "ccs": "coverage-centric selection (arXiv 2210.15809): random rows from "
        f"{options.strata} strata of the scores, {beta}",
        "moderate": "Moderate coreset (Xia et al. 2023): nearest to the median distance from the "
        + ("centre of the class" if labelled else "centre of all rows, since there are no labels"),
        "k-center": "k-center greedy (arXiv 1708.00489): always the row farthest from what is kept",
        "facility-location": "every row served by a similar kept one, on the same graph",
        "near-duplicates": "rows too near to an earlier one are dropped, on the same graph, as "
        "SemDeDup does (arXiv 2303.09540)",
    }[method]


def _origin(provenance: dict[str, Any]) -> Section:
    rows: list[list[str | Bar]] = [
        [f"{part}: {name.replace('_', ' ')}", written(value)]
        for part in ("parameters", "versions")
        for name, value in provenance[part].items()
    ]
    return Section(
        "provenance",
        "Parameters and provenance",
        ["Beside this page, the file that ends in .html.json holds its numbers and parameters."],
        parts=[
            Part(
                folded=[
                    inputs_table("Inputs", provenance["inputs"]),
                    Table("Parameters and versions", ["What", "Value"], rows, True),
                ]
            )
        ],
    )
