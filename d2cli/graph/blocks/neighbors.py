"""``block_neighbors``: plans a search, gives it effort until a sample reaches the recall, ranks."""

from __future__ import annotations

import numpy as np

from d2cli.engine.checkpoints import Checkpoint
from d2cli.engine.store import Store
from d2cli.engine.threads import Progress, for_blocks
from d2cli.graph.blocks.effort import Effort, Ranks, cost_of_all
from d2cli.graph.blocks.plan import plan_search
from d2cli.graph.blocks.search import BlockSearch
from d2cli.graph.distances import rerank
from d2cli.graph.recall import ApproximateLists, Truth
from d2cli.graph.settings import SearchSettings
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Float32, Int32
from d2cli.runtime.decisions import Decision
from d2cli.runtime.products import one_thread_per_product

#: The first probes may miss this many times what the whole search may miss; votes find the rest.
_LEFT_TO_VOTES = 2.5
#: Blocks that each row meets because of votes.
_VOTED = 8
#: Rows vote if that finds this share of the missing neighbours of a sample.
_WORTH_VOTING = 0.2
#: Rounds of probes, at most, each with votes after it.
_MOST_ROUNDS = 4


def block_neighbors(
    group: Group, settings: SearchSettings, truth: Truth, progress: Progress, checkpoint: Checkpoint
) -> ApproximateLists:
    """The k nearest neighbours of every row of a group, approximately.

    Args:
        group: n > n_neighbors + 1 rows, all distinct.
        settings: of these, n_neighbors, recall, seed and threads.
        truth: exact neighbours of some rows, in numbers of the group, more than k of them.

    Returns:
        The lists.
    """
    del checkpoint
    k, threads = settings.n_neighbors, settings.threads
    lost = 1.0 - settings.recall
    # Aim higher by half the standard error of the sample, or a quarter of the allowed loss.
    aim = settings.recall + min(0.0025, 0.25 * lost)
    with one_thread_per_product():
        rng = np.random.default_rng(settings.seed)
        plan = plan_search(group, truth, k, lost, rng, threads)
        search = BlockSearch(group, plan, Store(), threads, progress)
        search.arrange()
        effort = _Effort(search, truth, k, aim)
        effort.spend(settings.recall)
        neighbors, distances = _ranked(search, k, progress)
    return neighbors, distances, _decisions(search, effort, settings.recall)


class _Effort:
    """Gives a search as many probes and votes as a sample needs to reach a recall."""

    def __init__(self, search: BlockSearch, truth: Truth, k: int, aim: float) -> None:
        self.search, self.aim, self.wanted = search, aim, truth.first(k)
        self.rows = search.group.rows_at(truth.rows)
        self.ranks, self.places = Ranks.of(search, truth, k), search.places_of(truth.rows)
        near = self.wanted.neighbors
        places = search.places_of(np.unique(near[near >= 0]))
        self.blocks = np.full(near.shape, -2, np.int32)  # of the true neighbours
        self.blocks[near >= 0] = search.block_of_place[
            places[np.searchsorted(np.unique(near[near >= 0]), near[near >= 0])]
        ]
        self.efforts: list[Effort] = []
        self.votes, self.everything, self.reached = 0, False, 0.0

    def spend(self, recall: float) -> None:
        """Probe and vote in turn."""
        lost = 1.0 - recall
        meeting = 1.0 - _LEFT_TO_VOTES * lost
        all_pairs = cost_of_all(int(self.search.first_blocks[-1]), self.search.plan.coder.width)
        while len(self.efforts) < _MOST_ROUNDS:
            effort = self.ranks.cheapest(meeting)
            if self.efforts and effort.cost <= self.efforts[-1].cost:
                break
            if self.efforts and effort.cost > all_pairs:
                self.search.meet_all()
                self.everything, self.reached = True, self._measure()
                break
            self.search.probe(*effort)
            self.efforts.append(effort)
            self.reached = self._measure()
            if self.reached < self.aim and self._votes_help():
                self.search.vote(_VOTED)
                self.votes += 1
                self.reached = self._measure()
            if self.reached >= self.aim:
                break
            # Votes leave a share of what probes leave: the next probes must leave less.
            met = self.ranks.met(effort)
            left = min(1.0, (1.0 - met) / max(1.0 - self.reached, 1e-9))
            meeting = max(1.0 - left * (1.0 - self.aim), met + 0.25 * lost)

    def _measure(self) -> float:
        """The recall on the sample, if the lists were ranked now."""
        listed = self.search.numbers_at(self.search.lists_at(self.places))
        lists = _empty(len(self.places), self.wanted.neighbors.shape[1])
        group = self.search.group
        rerank(group.vectors, self.rows, group.listed(listed), *lists)
        return self.wanted.recall(lists[1])

    def _votes_help(self) -> bool:
        """Whether votes would find a good part of what the sample misses."""
        listed = self.search.numbers_at(self.search.lists_at(self.places))
        missed = (self.wanted.neighbors[:, :, None] != listed[:, None, :]).all(axis=2)
        missed &= self.wanted.neighbors >= 0
        voted = self.search.votes_at(self.places, _VOTED)
        found = (self.blocks[:, :, None] == voted[:, None, :]).any(axis=2)
        return bool(missed.any()) and float(found[missed].mean()) > _WORTH_VOTING


def _empty(n: int, k: int) -> tuple[Int32, Float32]:
    return np.empty((n, k), np.int32), np.empty((n, k), np.float32)


def _ranked(search: BlockSearch, k: int, progress: Progress) -> tuple[Int32, Float32]:
    """The k nearest of the candidates of every row, by true distance."""
    group, store = search.group, search.store
    numbers = np.concatenate([store.get("blocks", g, "rows") for g in range(search.groups)])
    rows = group.rows_at(numbers).astype(np.int32, copy=False)
    neighbors, distances = _empty(len(group), k)
    done = 0
    for g in range(search.groups):
        first = int(search.first_places[g])
        listed = store.get("lists", g, "places")

        def rank(start: int, stop: int, first: int = first, listed: Int32 = listed) -> None:
            some = listed[start:stop]
            candidates = np.where(some < 0, np.int32(-1), rows[some])
            mine = slice(first + start, first + stop)
            lists = _empty(stop - start, k)
            rerank(group.vectors, rows[mine].astype(np.int64), candidates, *lists)
            neighbors[numbers[mine]], distances[numbers[mine]] = lists

        for_blocks(rank, len(listed), 2048, search.threads)
        done += len(listed)
        progress("rank", done, len(group))
        store.drop("lists", g)
    return neighbors, distances


def _decisions(search: BlockSearch, effort: _Effort, recall: float) -> tuple[Decision, ...]:
    plan, last = search.plan, effort.efforts[-1]
    d, blocks = search.group.vectors.shape[1], int(search.first_blocks[-1])
    recalls = {"recall": effort.reached, "recall_target": recall, "sample_rows": len(effort.rows)}
    return (
        Decision(
            "dimensions", plan.coder.width,
            "with list_size, the cheapest that keep the true neighbours of a sample among the "
            "candidates", {"all": d, "kept": plan.kept},
        ),
        Decision("list_size", plan.list_size, "see dimensions", {}),
        Decision(
            "near_cells", plan.near_cells,
            "the fewest cells in which true neighbours of a sample meet",
            {"cells": len(plan.centres), "blocks": blocks},
        ),
        Decision(
            "probes", blocks if effort.everything else last.probes,
            "the fewest blocks that let enough true neighbours of a sample meet",
            {"packs": last.packs, "rounds": len(effort.efforts)},
        ),
        Decision("votes", effort.votes, "rounds of votes until a sample reaches the recall", recalls),
    )  # fmt: skip
