"""``block_neighbors``: plans a search, gives it effort until a sample reaches the recall, ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from d2cli.engine.checkpoints import NONE, Checkpoint, as_bytes, from_bytes
from d2cli.engine.store import PartStore
from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.blocks.effort import Effort, Ranks, cost_of_all
from d2cli.graph.blocks.plan import plan_as_state, plan_from, plan_search
from d2cli.graph.blocks.search import BlockSearch
from d2cli.graph.blocks.sizes import truth_size
from d2cli.graph.blocks.small import SMALL_ROWS, small_neighbors
from d2cli.graph.blocks.tight import search_again, tight_rows
from d2cli.graph.distances import rerank
from d2cli.graph.exact.search import exact_neighbors
from d2cli.graph.recall import ApproximateLists, Truth, sample_rows
from d2cli.graph.settings import SearchSettings
from d2cli.graph.sizes import AIM_SAMPLE
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Bools, Float32, Int32, Int64
from d2cli.runtime.decisions import Decision
from d2cli.runtime.products import one_thread_per_product

#: A step and what was measured after it.
Step = tuple[str, float]

#: The first probes may miss this many times what the whole search may miss; votes find the rest.
_LEFT_TO_VOTES = 2.5
#: Blocks that each row meets because of votes.
_VOTED = 8
#: Rows vote if that finds this share of the missing neighbours of a sample.
_WORTH_VOTING = 0.4
#: Rows ranked in one piece of work.
_RANKED = 2048
#: Rounds of probes, at most.
_MOST_ROUNDS = 4
#: The effort of the first round if all pairs meet afterwards.
_BEFORE_ALL = Effort(4, 8)


def block_neighbors(
    group: Group, settings: SearchSettings, truth: Truth, progress: Progress,
    checkpoint: Checkpoint = NONE,
) -> ApproximateLists:  # fmt: skip
    """The k nearest neighbours of every row of a group, approximately.

    Args:
        group: n > n_neighbors + 1 rows, all distinct.
        settings: of these, n_neighbors, recall, seed and threads.
        truth: the :func:`~d2cli.graph.blocks.sizes.truth_size` nearest rows of some rows, exactly,
            in numbers of the group.
        checkpoint: stores the blocks and the lists after each round.

    Returns:
        The lists.
    """
    k, threads, lost = settings.n_neighbors, settings.threads, 1.0 - settings.recall
    with one_thread_per_product():
        state, store = checkpoint.load("blocks"), PartStore()
        if state is None:
            rng = np.random.default_rng(settings.seed)
            plan, telling = plan_search(group, truth, k, lost, rng, threads)
            search = BlockSearch(group, plan, store, threads, progress)
            search.arrange()
            done: list[Step] = []
        else:
            plan, telling = plan_from(state), state["telling"]
            store.restore(state)
            search = BlockSearch(group, plan, store, threads, progress)
            done, groups = from_bytes(state["done"])
            search.survey(groups)

        def save() -> None:
            numbers = {"done": as_bytes((work.done, search.groups)), "telling": telling}
            checkpoint.save("blocks", lambda: {**store.state(), **plan_as_state(plan), **numbers})

        work = _Work(search, settings, truth, telling, done, save)
        save()
        work.reach()
        neighbors, distances = _ranked(search, k, progress)
    return neighbors, distances, work.decisions()


def _solved(group: Group, settings: SearchSettings, parent: int) -> tuple[Int32, Float32]:
    """The neighbours of all rows of a group of tight rows out of `parent` rows."""
    n, k = len(group), settings.n_neighbors
    if n <= SMALL_ROWS:
        return small_neighbors(group, k, settings.seed)
    if n == parent:  # a scale of their own would be the same one
        return exact_neighbors(group, k, threads=settings.threads)
    aim, _ = sample_rows(n, AIM_SAMPLE, 0, settings.seed)
    truth = Truth.of(group, truth_size(k, n), aim, settings.threads, silent)
    neighbors, distances, _ = block_neighbors(group, settings, truth, silent)
    return neighbors, distances


class _Work:
    """Gives a search as many probes and votes as a sample needs to reach the recall.

    Attributes:
        done: the steps so far and what was measured after each. A run that continues an earlier one
            repeats its decisions with these numbers.
    """

    def __init__(
        self, search: BlockSearch, settings: SearchSettings, truth: Truth, telling: Bools,
        done: list[Step], save: Callable[[], None],
    ) -> None:  # fmt: skip
        self.search, self.settings, self.save = search, settings, save
        self.wanted = truth.first(settings.n_neighbors)
        self.rows, self.places = search.group.rows_at(truth.rows), search.places_of(truth.rows)
        # Tight rows are searched again, so that they need not meet here.
        some = Truth(truth.rows[telling], truth.neighbors[telling], truth.distances[telling])
        self.ranks = Ranks.of(search, some, settings.n_neighbors)
        self.some_tight = not telling.all()
        self.done, self._again = list(done), list(done)
        self.effort = _BEFORE_ALL

    def reach(self) -> None:
        """Probe and vote in turn."""
        lost = 1.0 - self.settings.recall
        # Aim higher by half the standard error of the sample, or a quarter of the allowed loss.
        aim = self.settings.recall + min(0.0025, 0.25 * lost)
        width, blocks = self.search.plan.coder.width, int(self.search.first_blocks[-1])
        all_pairs = cost_of_all(blocks, width)
        effort = self.ranks.cheapest(1.0 - _LEFT_TO_VOTES * lost)
        if self.ranks.cheapest(1.0 - lost).cost > all_pairs:
            effort = min(effort, _BEFORE_ALL, key=lambda one: one.cost)
        for _ in range(_MOST_ROUNDS):
            self.effort = effort
            reached = self._step("probe", self._probe)
            if reached >= aim:
                return
            after = self._step("foresee votes", self._after_votes)
            if after >= aim - 0.25 * lost or after - reached > _WORTH_VOTING * (1.0 - reached):
                reached = self._step("vote", self._vote)
                if reached >= aim:
                    return
            # What was found besides the pairs that met so far leaves a share of the others; the
            # next probes must leave less.
            met = self.ranks.met(effort)
            left = min(1.0, (1.0 - met) / max(1.0 - reached, 1e-9))
            meeting = max(1.0 - left * (1.0 - aim - 0.15 * lost), met + 0.25 * lost)
            following = self.ranks.cheapest(meeting)
            if following.cost > all_pairs:
                self._step("all", self._meet_all)
                return
            if following.cost <= effort.cost:
                return
            effort = following

    def _step(self, name: str, action: Callable[[], float]) -> float:
        """Do one step and note what it measures, unless an earlier run has done it."""
        if self._again:
            return self._again.pop(0)[1]
        found = action()
        self.done.append((name, found))
        self.save()
        return found

    def _probe(self) -> float:
        self.search.probe(*self.effort)
        if self.some_tight and not self.search.store.has("tight", 0):
            tight = tight_rows(self.search, self.settings.n_neighbors)
            solve = partial(_solved, settings=self.settings, parent=len(self.search.group))
            search_again(self.search, tight, solve)
        return self._measure()

    def _vote(self) -> float:
        self.search.vote(_VOTED)
        return self._measure()

    def _meet_all(self) -> float:
        self.search.meet_all()
        return self._measure()

    def _measure(self) -> float:
        """The recall on the sample, if the candidates were ranked now."""
        lists = _empty(*self.wanted.neighbors.shape)
        candidates = self.search.candidates_at(self.places)
        rerank(self.search.group.vectors, self.rows, candidates, *lists)
        return self.wanted.recall(lists[1])

    def _after_votes(self) -> float:
        """The recall that votes would reach, less what they find from the other side."""
        wanted, search = self.wanted.neighbors, self.search
        listed = search.candidates_at(self.places)
        missed = (search.group.listed(wanted)[:, :, None] != listed[:, None, :]).all(axis=2)
        missed &= wanted >= 0
        numbers, back = np.unique(np.maximum(wanted, 0), return_inverse=True)
        blocks = search.block_of_place[search.places_of(numbers)][back.reshape(wanted.shape)]
        voted = search.votes_at(self.places, _VOTED)
        found = (blocks[:, :, None] == voted[:, None, :]).any(axis=2) & missed
        return self._measure() + float(found.sum() / max((wanted >= 0).sum(), 1))

    def decisions(self) -> tuple[Decision, ...]:
        """What was chosen, for the graph's metadata."""
        search, plan, steps = self.search, self.search.plan, [name for name, _ in self.done]
        d, blocks = search.group.vectors.shape[1], int(search.first_blocks[-1])
        reached = next(found for name, found in reversed(self.done) if name != "foresee votes")
        recalls = {
            "recall": reached, "recall_target": self.settings.recall, "sample_rows": len(self.rows),
        }  # fmt: skip
        axes = (
            "with list_size, the cheapest number that keeps the true neighbours of a sample among "
            "the candidates"
        )
        return (
            Decision("dimensions", plan.coder.width, axes, {"all": d, "kept": plan.kept}),
            Decision(
                "list_size", plan.list_size, "see dimensions", {"k": self.settings.n_neighbors}
            ),
            Decision(
                "near_cells", plan.near_cells,
                "the fewest cells in which true neighbours of a sample meet",
                {"cells": len(plan.centres), "blocks": blocks},
            ),
            Decision(
                "probes", blocks if "all" in steps else self.effort.probes,
                "the fewest blocks that let enough true neighbours of a sample meet",
                {"packs": self.effort.packs, "rounds": steps.count("probe"),
                 "tight_rows": search.tight_count()},
            ),
            Decision(
                "votes", steps.count("vote"), "rounds of votes until a sample reaches the recall",
                recalls,
            ),
        )  # fmt: skip


def _empty(n: int, k: int) -> tuple[Int32, Float32]:
    return np.empty((n, k), np.int32), np.empty((n, k), np.float32)


def _rank(
    group: Group, rows: Int64, candidates: Int32, neighbors: Int32, distances: Float32, start: int,
    stop: int,
) -> None:  # fmt: skip
    some = slice(start, stop)
    rerank(group.vectors, rows[some], candidates[some], neighbors[some], distances[some])


def _ranked(search: BlockSearch, k: int, progress: Progress) -> tuple[Int32, Float32]:
    """The k nearest of the candidates of every row, by true distance."""
    group, numbers = search.group, search.number_of_place
    neighbors, distances = _empty(len(group), k)
    done = 0
    for g in range(search.groups):
        mine = numbers[search.first_places[g] : search.first_places[g + 1]]
        rows, candidates = group.rows_at(mine).astype(np.int64), search.candidates(g)
        found = _empty(len(mine), k)
        for_blocks(
            partial(_rank, group, rows, candidates, *found), len(mine), _RANKED, search.threads
        )  # fmt: skip
        neighbors[mine], distances[mine] = found
        done += len(mine)
        progress("rank", done, len(group))
        search.store.drop("lists", g)
    return neighbors, distances
