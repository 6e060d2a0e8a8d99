"""The plan of ``d2prune score``."""

from __future__ import annotations

from pathlib import Path

from d2cli.commands.plan import Plan
from d2cli.commands.plans import id_bytes, ids_of, matrix_of, rows_of, search_of, started
from d2cli.commands.requests import ScoreRequest, check_score, families_of
from d2cli.difficulty.kinds import check_dynamics
from d2cli.difficulty.sizes import ROWS_PER_CENTRE, default_clusters
from d2cli.engine.threads import thread_count
from d2cli.files.epochs import epoch_range, open_epochs
from d2cli.files.formats.fields import BLOCK_BYTES
from d2cli.files.graph_file import GraphFile, open_graph
from d2cli.files.score_file import plan_files
from d2cli.files.sources import Layout, open_source
from d2cli.planning import messages, scores, search
from d2cli.planning.ledger import Ledger

#: Bytes of a score in each form.
_BYTES = {".npy": 8, ".arrow": 8, ".parquet": 9, ".csv": 20}


def plan_score(request: ScoreRequest) -> Plan:
    """What the run would read, need and write, from headers alone."""
    check_score(request)
    threads = thread_count(request.threads)
    families = families_of(request)
    ledger = started()
    reads: list[Layout | GraphFile] = []
    how: list[str] = []
    if families["embeddings"] or families["graph"]:
        _plan_embeddings(request, ledger, reads, how, threads)
    if request.labels is not None:
        labels = request.labels
        reads.append(
            open_source(
                labels.paths, "labels", "labels", labels.key, request.id_column, skim=True
            ).layout()
        )
    if families["dynamics"]:
        option = "logits" if request.logits is not None else "probs"
        given = request.logits or request.probs
        assert given is not None, "check_score saw to it"
        epochs = open_epochs(given.paths, option, given.key, request.id_column, skim=True)
        header, count = epochs.layout(), epochs.count
        used = len(epoch_range(request.epochs, count))
        kinds = families["dynamics"]
        check_dynamics(
            kinds, epochs=used, logits=option == "logits", labels=request.labels is not None
        )
        reads.insert(0, header)
        outputs = scores.Outputs(
            header.rows, header.width, used, min(BLOCK_BYTES, header.size) + header.reading
        )
        scores.dynamics(ledger, outputs, kinds, threads)
        how.append(f"{used} of {count} epochs in blocks")
    first = reads[0]
    messages.read_ids(ledger, ids_of(first))
    files = plan_files(request.out, list(request.kinds))
    writes = [
        (target, _size(target, first, len(inside), rows_of(first)))
        for target, inside in files.items()
    ]
    for target, inside in files.items():
        if (ending := Path(target).suffix.lower()) != ".npy":
            messages.write(ledger, ending, rows_of(first), len(inside), id_bytes(first))
    return Plan("score", reads, "; ".join(how), ledger.estimate(), writes, threads)


def _plan_embeddings(
    request: ScoreRequest,
    ledger: Ledger,
    reads: list[Layout | GraphFile],
    how: list[str],
    threads: int,
) -> None:
    families, options = families_of(request), request.graph_options
    emb = None
    if request.emb is not None:
        given = request.emb
        emb = open_source(
            given.paths, "embeddings", "emb", given.key, request.id_column, skim=True
        ).layout()
        reads.append(emb)
    if families["embeddings"]:
        assert emb is not None, "check_score saw to it"
        matrix = matrix_of(emb)
        clusters = request.n_clusters or default_clusters(emb.rows)
        sample = min(emb.rows, clusters * ROWS_PER_CENTRE)
        as_is = options.metric == "euclidean" and matrix.plain and matrix.itemsize >= 4
        scores.prototypes(ledger, matrix, clusters, sample, as_is, threads)
        how.append(f"{clusters:,} centres by k-means on {sample:,} rows")
    if not families["graph"]:
        return
    if request.graph is not None:
        graph = open_graph(request.graph)
        reads.append(graph)
        messages.read_graph(ledger, graph.n, graph.n_neighbors)
        n, k = graph.n, graph.n_neighbors
        how.append(f"the graph as it is, {graph.method}")
    else:
        assert emb is not None, "check_score saw to it"
        settings = search_of(options, threads, emb.rows, grouped=False, checkpoint=None)
        search.build(ledger, matrix_of(emb), settings)
        n, k = emb.rows, options.n_neighbors
        how.append(f"{settings.method_for(n)}, {options.metric}, k = {k}")
    scores.neighbours(ledger, n, k, families["graph"])


def _size(target: str, first: Layout | GraphFile, kinds: int, n: int) -> int:
    """Bytes of a file of scores."""
    ending = Path(target).suffix.lower()
    beside = 0.0 if ending == ".npy" else id_bytes(first)
    return round(n * (_BYTES[ending] * kinds + beside)) + 4096
