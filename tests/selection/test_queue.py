"""The lazy bucket queue against a search of all rows at each pick."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.selection.heap import drop_top
from d2cli.selection.queue import Workspace, fill_queue, open_bucket, open_shelf, requeue_top
from d2cli.selection.sizes import BUCKETS, CHUNK, workspace_bytes


def guarded(n):
    """A workspace between guard numbers, and a function that tells whether these are unchanged."""
    wide = [np.full(array.size + 32, -77, array.dtype) for array in Workspace.of(n)]
    return Workspace(*(a[16:-16] for a in wide)), lambda: all(
        (a[:16] == -77).all() and (a[-16:] == -77).all() for a in wide
    )


def emptied(workspace, scores, least, eligible, lowered):
    """The rows in the order of the queue; ``lowered(row)`` lowers scores after each."""
    indptr = np.zeros(scores.size + 1, np.int64)
    queue = fill_queue(workspace, scores, scores.view(np.int64), least, eligible)
    order = []
    for shelf in range(workspace.ends.size):
        if not open_shelf(queue, shelf, indptr):
            continue
        for b in range(BUCKETS):
            size = open_bucket(queue, shelf, b)
            while size:
                k = int(workspace.heap[0])
                if scores[k] != workspace.values[0]:
                    size = requeue_top(queue, shelf, b, size)
                    continue
                size = drop_top(workspace.values, workspace.heap, size)
                order.append(k)
                lowered(k)
    return order


def lowering(scores, seed):
    """A function of a row that lowers 4 random scores by a random factor, 1 … 0 and below."""
    factors = np.array([1.0, 1 - 2**-40, 0.999, 0.9, 0.3, 1e-3, 0.0, -1.0, -1e300])

    def lowered(k):
        rng = np.random.default_rng([seed, k])
        rows = rng.integers(0, scores.size, 4)
        with np.errstate(over="ignore", invalid="ignore"):  # overflows to -inf
            scores[rows] = np.fmin(scores[rows], scores[rows] * rng.choice(factors, 4))

    return lowered


@st.composite
def score_lists(draw):
    n = draw(st.integers(1, 120))
    kind = draw(
        st.sampled_from(
            ["spread", "equal", "few", "octaves", "tiny", "huge", "outlier", "negative"]
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return {
        "spread": rng.random(n),
        "equal": np.ones(n),
        "few": rng.integers(0, 4, n).astype(float),
        "octaves": 2.0 ** rng.integers(-40, 40, n),
        "tiny": rng.random(n) * 1e-310,
        "huge": rng.random(n) * 1.7e308,
        "outlier": np.where(np.arange(n) == n // 2, 1e9, rng.random(n)),
        "negative": rng.normal(size=n),
    }[kind] + 0.0


@given(score_lists(), st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 1000))
def test_queue_yields_the_highest_current_score(scores, least, seed):
    n = scores.size
    eligible = np.random.default_rng(seed).random(n) < 0.8
    plain, waiting, expected = scores.copy(), eligible.copy(), []
    lower_plain = lowering(plain, seed)
    while (waiting & (plain > least)).any():
        k = int(np.argmax(np.where(waiting, plain, -np.inf)))
        waiting[k] = False
        expected.append(k)
        lower_plain(k)
    workspace, untouched = guarded(n)
    assert emptied(workspace, scores, least, eligible, lowering(scores, seed)) == expected
    assert untouched()


@pytest.mark.parametrize("kind", ["spread", "octaves", "equal"])
def test_rows_that_move_between_many_shelves(kind):
    n = 20_000
    rng = np.random.default_rng(0)
    scores = {
        "spread": 1 + rng.random(n), "octaves": rng.exponential(size=n) ** 8, "equal": np.ones(n)
    }[kind]  # fmt: skip
    plain = scores.copy()
    lower_plain, expected = lowering(plain, 7), []
    heap = [(-s, i) for i, s in enumerate(plain.tolist())]
    heapq.heapify(heap)
    while heap:
        negative, k = heapq.heappop(heap)
        if plain[k] <= 0:
            continue
        if -negative != plain[k]:
            heapq.heappush(heap, (-plain[k], k))
            continue
        expected.append(k)
        lower_plain(k)
    workspace = Workspace.of(n)
    assert emptied(workspace, scores, 0.0, np.ones(n, np.bool_), lowering(scores, 7)) == expected
    assert workspace.ends.size > 100
    # Free chunks are reused, so that the chunks need little more room than one number per row.
    chunks = workspace.chunks.size
    assert CHUNK * workspace.spare[1] <= chunks < 1.1 * n + CHUNK * workspace.ends.size
    assert sum(array.nbytes for array in workspace) == workspace_bytes(n)


@settings(max_examples=20)
@given(st.integers(1, 400), st.integers(0, 1000))
def test_workspace_is_reused_by_several_runs(n, seed):
    rng, workspace = np.random.default_rng(seed), Workspace.of(n)
    eligible = np.ones(n, np.bool_)
    for _ in range(3):
        scores = rng.exponential(size=n)
        expected = np.lexsort((np.arange(n), -scores)).tolist()
        assert emptied(workspace, scores, 0.0, eligible, lambda k: None) == expected
