"""``d2prune report``."""

from __future__ import annotations

from typing import Annotated

import typer

from d2cli import defaults
from d2cli.cli import options as o
from d2cli.cli.ahead import look_ahead
from d2cli.cli.console import progress_bar, show_summary
from d2cli.defaults import MapMethod, Metric
from d2cli.errors import UsageError

EXAMPLE = """\b
Example:
  d2prune select --emb sample_data/emb.npy --scores sample_data/scores.npy --ratio 0.3 \\
      --out kept.parquet
  d2prune report --emb sample_data/emb.npy --scores sample_data/scores.npy \\
      --selected kept.parquet --out report.html
"""


def command(
    out: Annotated[str, typer.Option("--out", metavar="R.html", help="The page.")],
    emb: o.EmbPaths = None,
    emb_key: o.EmbKey = None,
    scores: o.ScorePaths = None,
    scores_key: o.ScoresKey = None,
    selected: Annotated[
        list[str] | None,
        typer.Option("--selected", metavar="O", help="What select wrote, in any form; may repeat."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="L", help="One label a row, for counts by class."),
    ] = None,
    labels_key: o.LabelsKey = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images", metavar="X", help="One image a row, to show examples: (n, h, w[, 3])."
        ),
    ] = None,
    images_key: Annotated[
        str | None, typer.Option("--images-key", metavar="NAME", help="npz member of the images.")
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            "--texts", metavar="T", help="One text a row: lines of a .txt, or a column of text."
        ),
    ] = None,
    texts_key: Annotated[
        str | None, typer.Option("--texts-key", metavar="NAME", help="Column that holds them.")
    ] = None,
    id_column: o.IdColumn = None,
    higher_is: o.HigherIsOption = None,
    metric: Annotated[
        Metric | None,
        typer.Option(
            "--metric", help="Of distances. [default: as the selections' graphs; else euclidean]"
        ),
    ] = None,
    measured_rows: Annotated[
        int,
        typer.Option("--measured-rows", help="Distances are measured on as many rows at most."),
    ] = defaults.MEASURED_ROWS,
    map_method: Annotated[
        MapMethod, typer.Option("--map", help="How rows come onto the map.")
    ] = defaults.MAP,
    map_rows: Annotated[
        int, typer.Option("--map-rows", help="Rows on the map, at most.")
    ] = defaults.MAP_ROWS,
    examples: Annotated[
        int, typer.Option("--examples", help="Examples of each kind, at most.")
    ] = defaults.EXAMPLES,
    threads: o.Threads = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the rows that are drawn, and of the map.")
    ] = defaults.SEED,
    plan: o.PlanOnly = False,
    max_memory: o.MaxMemory = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Show what was kept, as a web page.

    For one or several selections; it needs no network. Coverage and redundancy beside random
    selections, scores, classes, the order of the picks, a map, and examples. --json prints the
    numbers.
    """
    from d2cli.commands.plan_pages import plan_report
    from d2cli.commands.requests import ReportOptions, ReportRequest

    emb_source = o.as_input(emb, emb_key, "emb")
    score_source = o.as_input(scores, scores_key, "scores")
    if emb_source is None or score_source is None or not selected:
        raise UsageError("report needs --emb, --scores and --selected")
    request = ReportRequest(
        emb=emb_source,
        scores=score_source,
        selected=list(selected),
        out=out,
        labels=o.as_input(labels, labels_key, "labels"),
        images=o.as_input(images, images_key, "images"),
        texts=o.as_input(texts, texts_key, "texts"),
        options=ReportOptions(
            metric, higher_is, measured_rows, map_method, map_rows, examples, seed
        ),
        id_column=id_column,
        threads=threads,
    )
    if not look_ahead(lambda: plan_report(request), plan, max_memory):
        return
    from d2cli.commands.report.run import run_report

    with progress_bar() as progress:
        summary = run_report(request, progress)
    show_summary(summary)
