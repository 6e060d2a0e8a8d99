"""``--plan --pilot``: runs of the real stages on samples of the rows, and their time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.finish import Summary, Terminal
from d2cli.commands.plan import Forecast, search_of
from d2cli.commands.requests import EmbeddingOptions, Input, MessageOptions, ScoreOptions
from d2cli.commands.settle import Direction, Messages, settle_graph
from d2cli.errors import D2Error
from d2cli.files.frame import Frame
from d2cli.files.graph_file import GraphFile, write_graph
from d2cli.files.selection_file import SelectionFile
from d2cli.files.sources import Source
from d2cli.graph.knn_graph import MISSING, BuildInfo, KnnGraph

#: The sample doubles until a run takes this many seconds.
LONG_ENOUGH = 3.0
#: Rows of the first sample.
FIRST_ROWS = 2_048
#: Stages whose size is an option, not the number of rows.
_FIXED = ("map", "page")
#: No stage grows faster than with the square of the rows.
_MOST_EXPONENT = 2.0


def forecast(
    request: Any,
    job: Any,
    open_job: Callable[[Any, bool], Any],
    work: Callable[[Any, Terminal], Summary],
    threads: int,
) -> Forecast:
    """Run `request` on samples of doubling size, and extrapolate the time of each stage.

    At the last two sample sizes m₁ < m₂ a stage took t₁ and t₂ seconds; for n rows it is given
    ``t₂ (n / m₂)^e`` with ``e = log(t₂ / t₁) / log(m₂ / m₁)``, 0 ≤ e ≤ 2.

    Args:
        request: the request of any command.
        job: that request, open_job.
        open_job, work: open a request and run it.
        threads: how many the run uses.

    Raises:
        D2Error: as the run itself would.
    """
    began = time.perf_counter()
    sampler = _Sampler(request, job)
    reading = time.perf_counter() - began
    with TemporaryDirectory(prefix="d2prune-pilot-") as folder:

        def timed(m: int) -> dict[str, float]:
            sample = sampler.request(m, Path(folder))
            try:
                return dict(work(open_job(sample, False), Terminal()).run["seconds"])
            except D2Error as error:
                error.message = _named(error.message, folder)
                raise

        m = before = min(FIRST_ROWS, sampler.n)
        first = timed(m)  # loads the compiled kernels, or compiles them
        times = earlier = timed(m)
        start = first["total"] - times["total"]
        while m < sampler.n and times["total"] < LONG_ENOUGH:
            before, earlier = m, times
            m = min(2 * m, sampler.n)
            times = timed(m)
    seconds = {
        stage: value
        if stage in _FIXED
        else value * (sampler.n / m) ** _exponent(earlier.get(stage, 0.0), value, before, m)
        for stage, value in times.items()
        if stage != "total"
    }
    seconds["read"] = seconds.get("read", 0.0) + reading
    seconds["start"] = max(start, 0.0)
    return Forecast(seconds, sampler.n, (before, m), threads)


def _named(message: str, folder: str) -> str:
    """A message about a sample, with the option in place of the temporary file."""
    return re.sub(
        re.escape(folder) + r"[/\\](\w+?)(-\d+)?\.\w+",
        lambda file: f"a sample of --{file[1].replace('_', '-')}",
        message,
    )


def _exponent(t1: float, t2: float, m1: int, m2: int) -> float:
    """How a stage grows with the rows; linear if nothing can be told."""
    if m1 == m2 or t1 <= 0 or t2 <= 0:
        return 1.0
    return min(max(math.log(t2 / t1) / math.log(m2 / m1), 0.0), _MOST_EXPONENT)


class _Sampler:
    """Writes the inputs of a request again, for some of the rows.

    Inputs with one value per row are read whole and joined first. Rows are random where embeddings
    are memory-mapped, else the first ones.
    """

    def __init__(self, request: Any, job: Any) -> None:
        self._request, self._job = request, job
        graph, emb = getattr(job, "graph", None), getattr(job, "emb", None)
        self._loaded = graph.load() if isinstance(graph, GraphFile) else None
        if emb is not None:
            self._frame = Frame.of(emb, request.id_column)
        elif isinstance(graph, GraphFile) and self._loaded is not None:
            self._frame = graph.frame(self._loaded.ids, request.id_column)
        else:
            self._frame = job.outputs.frame(request.id_column)
        self.n = self._frame.n
        if isinstance(propagated := getattr(job, "propagated", None), Source):
            self._frame.take_by_row(propagated)
        self._mapped = emb is None or emb.layout().mapped
        self._vectors = dict(self._read())

    def _read(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """(field of the request, (n,) values in the order of the frame)."""
        for name in ("scores", "propagated", "cutoff_scores", "confidence", "cost"):
            source = getattr(self._job, name, None)
            if isinstance(source, Source):
                values = self._frame.vector(source)[0]
                if name == "scores" and getattr(self._request, "missing_scores", "") == "spread":
                    # Those of a sample may have no way to a score: the sample misses none.
                    known = values[np.isfinite(values)]
                    values[np.isnan(values)] = known.mean() if known.size else 0.0
                yield name, values
        for name in ("labels", "within"):
            source = getattr(self._job, name, None)
            if isinstance(source, Source):
                yield name, self._frame.labels(source)[0]
        for name, attribute in (("include", "included"), ("exclude", "excluded")):
            if sources := getattr(self._job, attribute, None):
                yield name, self._frame.mask(sources)

    def request(self, m: int, folder: Path) -> Any:
        """The request for m of the rows, its files in `folder`."""
        rows = np.arange(m)
        if self._mapped and m < self.n:
            rows = np.sort(np.random.default_rng(0).choice(self.n, m, replace=False))
        changed: dict[str, Any] = {}
        for field in fields(self._request):
            value = getattr(self._request, field.name)
            if value in (None, ()) or field.name == "run":
                continue
            if field.name in ("images", "texts", "id_column", "checkpoint"):
                changed[field.name] = None
            elif field.name == "target":  # its rows are none of the data's
                changed["target"] = Input([str(self._whole_target(folder))])
            elif field.name == "epoch_rows":  # the sample's outputs are in the order of its rows
                changed["epoch_rows"] = ()
            elif field.name == "out":
                changed["out"] = str(folder / f"out-{{kind}}{Path(value).suffix}")
                if "{kind}" not in value:
                    changed["out"] = changed["out"].replace("-{kind}", "")
            elif field.name == "size":
                changed["size"] = tuple(max(1, round(size * m / self.n)) for size in value)
            elif field.name == "cost_budget":  # any row fits
                most = float(self._vectors["cost"][rows].max())
                budgets = (max(float(cost) * m / self.n, most) for cost in value)
                changed["cost_budget"] = tuple(dict.fromkeys(map(str, budgets)))
            elif field.name in ("output", "options", "graph_options") and is_dataclass(value):
                changed[field.name] = self._options(value, folder)
            elif field.name == "emb_options":  # samples are floats
                changed[field.name] = EmbeddingOptions()
            elif isinstance(value, Input):
                changed[field.name] = Input([str(self._values(field.name, rows, folder))])
            elif field.name == "propagated":
                changed[field.name] = str(self._values(field.name, rows, folder))
            elif field.name in ("graph", "include", "exclude"):
                changed[field.name] = (str(self._values(field.name, rows, folder)),)
            elif field.name == "selected":
                changed["selected"] = tuple(self._selected(rows, folder))
        return replace(self._request, **changed, **dict(self._settled()))

    def _settled(self) -> Iterator[tuple[str, Any]]:
        """(field of the request, options as the run settled them).

        A sample has no provenance from which a run could settle them again.
        """
        settled = getattr(self._job, "settings", self._job)
        if isinstance(direction := getattr(settled, "direction", None), Direction):
            options = ScoreOptions(direction.higher_is, direction.score_transform)
            yield "score_options", options
        messages = getattr(settled, "messages", None)
        if isinstance(messages, Messages) and hasattr(self._request, "messages"):
            yield "messages", MessageOptions(**messages.recorded)
        if getattr(self._job, "cutoff_scores", None) is not None:
            yield "cutoff_higher_is", settled.cutoff_direction.higher_is
        yield "named", frozenset()

    def _options(self, options: Any, folder: Path) -> Any:
        """Options with an output in `folder`, and with the method that all rows would take."""
        if hasattr(options, "out") and options.out != "-":
            suffix = Path(options.out or "selected.npy").suffix
            budget = "{cost}" if getattr(self._request, "cost_budget", ()) else "{size}"
            return replace(options, out=str(folder / f"out-{budget}{suffix}"))
        if hasattr(options, "method"):
            messages = getattr(getattr(self._job, "settings", None), "messages", None)
            search = search_of(settle_graph(options, exact=bool(messages and messages.exact)), 1)
            return replace(options, method=search.method_for(self.n))
        return options

    def _values(self, name: str, rows: NDArray[np.int64], folder: Path) -> Path:
        """A file with some rows of an input."""
        path = folder / f"{name}.npy"
        if name == "graph":
            path = folder / "graph.arrow"
            write_graph(path, self._some_lists(rows))
        elif name in self._vectors:
            np.save(path, self._vectors[name][rows])
        elif name == "emb":
            np.save(path, _first_rows(self._job.emb, rows))
        else:
            np.save(path, self._outputs(rows.size))
        return path

    def _whole_target(self, folder: Path) -> Path:
        """A file with the target set, as floats."""
        path = folder / "target.npy"
        if (target := self._job.target) is not None and not path.exists():
            np.save(path, target.matrix())
        return path

    def _some_lists(self, rows: NDArray[np.int64]) -> KnnGraph:
        """The lists of `rows`, as long and as far as before; their neighbours are in the sample."""
        assert self._loaded is not None
        graph, m = self._loaded.graph, rows.size
        steps = 1 + np.arange(graph.n_neighbors) * max(1, (m - 1) // graph.n_neighbors)
        neighbors = ((np.arange(m)[:, None] + steps) % m).astype(np.int32)
        distances = graph.distances[rows].copy()
        absent = (graph.neighbors[rows] == MISSING) | (steps >= m)
        excluded = None if graph.excluded is None else graph.excluded[rows]
        if excluded is not None:
            absent |= excluded[neighbors] | excluded[:, None]
        neighbors[absent], distances[absent] = MISSING, np.inf
        order = np.lexsort((neighbors, distances), axis=1).astype(np.intp)
        neighbors = np.take_along_axis(neighbors, order, axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        info = BuildInfo(graph.info.metric, graph.info.method)
        return KnnGraph(neighbors, distances, excluded, info)

    def _outputs(self, m: int) -> NDArray[Any]:
        """(epochs, m, classes): the first rows of the first epoch, once for each epoch."""
        outputs = self._job.outputs
        blocks, found = [], 0
        for _, _, block, _, _ in outputs.blocks(outputs.frame(), range(1)):
            blocks.append(np.array(block[: m - found]))
            found += len(blocks[-1])
            if found >= m:
                break
        first = np.concatenate(blocks)
        return np.broadcast_to(first, (outputs.count, *first.shape))

    def _selected(self, rows: NDArray[np.int64], folder: Path) -> Iterator[str]:
        """Files with those of the selected rows that are in the sample."""
        selections: list[SelectionFile] = self._job.selections
        for number, selection in enumerate(selections):
            kept = np.flatnonzero(np.isin(rows, selection.read(self._frame).rows))
            path = folder / f"selected-{number}.npy"
            np.save(path, kept if kept.size else np.zeros(1, np.int64))
            yield str(path)


def _first_rows(emb: Source, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Rows of the embeddings: any `rows` of a memory map, else the first."""
    if emb.layout().mapped:
        return emb.matrix()[rows]
    blocks, found = [], 0
    for part in emb.parts:
        for block in part.blocks():
            blocks.append(np.array(block[: rows.size - found], np.float32))
            found += len(blocks[-1])
            if found >= rows.size:
                return np.concatenate(blocks)
    return np.concatenate(blocks)
