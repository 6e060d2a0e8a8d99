"""``block_neighbors``: plans a search, gives it effort until a sample reaches the recall, ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from d2cli.engine.checkpoints import NONE, Checkpoint, as_bytes, from_bytes
from d2cli.engine.store import PartStore, number
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import Progress, silent
from d2cli.graph.blocks.arranging import Chart
from d2cli.graph.blocks.effort import Effort, Ranks, cost_of_all
from d2cli.graph.blocks.plan import plan_as_state, plan_from, plan_search
from d2cli.graph.blocks.rank import ranked
from d2cli.graph.blocks.ranked import Ranked, Stored
from d2cli.graph.blocks.search import BlockSearch
from d2cli.graph.blocks.sizes import REROUTED_PACKS, truth_size
from d2cli.graph.blocks.tight import search_again
from d2cli.graph.distances import rank_rows
from d2cli.graph.exact.search import exact_neighbors
from d2cli.graph.recall import Truth, sample_rows
from d2cli.graph.settings import SearchSettings
from d2cli.graph.sizes import AIM_SAMPLE
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Bools, Int32
from d2cli.runtime.decisions import Decision
from d2cli.runtime.floats.products import one_thread_per_product

#: A step and what was measured after it.
Step = tuple[str, float]

#: The first probes may miss this many times what the whole search may miss; votes find the rest.
_LEFT_TO_VOTES = 2.5
#: Blocks that each row meets because of votes.
_VOTED = 8
#: Probes leave the rest to votes only if these find this share of what is missing.
_WORTH_VOTING = 0.3
#: Votes find this many times what is foreseen, which counts one side of each pair.
_OTHER_SIDE = 1.1
#: Rounds of probes, at most.
_MOST_ROUNDS = 4
#: The step that measures what votes would find; the others are rounds of meetings.
_FORESEE = "foresee votes"
#: The effort of the first round if all pairs meet afterwards.
_BEFORE_ALL = Effort(REROUTED_PACKS, 8)


def block_neighbors(
    group: Group, settings: SearchSettings, truth: Truth, progress: Progress,
    checkpoint: Checkpoint = NONE, engine: Engine | None = None,
) -> tuple[Ranked, tuple[Decision, ...]]:  # fmt: skip
    """The k nearest neighbours of every row of a group, approximately.

    Args:
        group: n > n_neighbors + 1 rows, all distinct.
        settings: of these, n_neighbors, recall, seed and threads.
        truth: the :func:`~d2cli.graph.blocks.sizes.truth_size` nearest rows of some rows, exactly,
            in numbers of the group.
        checkpoint: keeps the parts of the search, or stores them after each round.
        engine: runs the tasks; None: one for ``settings.threads`` threads.

    Returns:
        The lists, and what was decided.
    """
    store = checkpoint.store()
    # A store with a room keeps its parts itself; the state of a run without one may not fit.
    if store.room is None and (state := checkpoint.load("blocks")) is not None:
        store.restore(state)
    engine = Engine(settings.threads) if engine is None else engine
    return _searched(group, settings, truth, progress, store, checkpoint, engine)


def _searched(
    group: Group, settings: SearchSettings, truth: Truth, progress: Progress, store: PartStore,
    checkpoint: Checkpoint, engine: Engine,
) -> tuple[Ranked, tuple[Decision, ...]]:  # fmt: skip
    k, threads, lost = settings.n_neighbors, settings.threads, 1.0 - settings.recall
    if store.has("ended"):
        decisions = from_bytes(store.get("ended", 0, "decisions"))
        return Stored(store, len(group), k), tuple(Decision(**one) for one in decisions)
    with one_thread_per_product():
        if not store.has("plan"):
            rng = np.random.default_rng(settings.seed)
            plan, telling = plan_search(group, truth, k, lost, rng, threads)
            store.put("plan", **plan_as_state(plan), telling=telling)
        state = store.whole("plan")
        plan = plan_from(state)

        def packs_of(chart: Chart) -> int:
            if not store.has("effort"):
                some = truth.some(state["telling"])
                ranks = Ranks.of(group, plan, chart, some, k)
                first = first_effort(ranks, lost, plan.coder.width, int(chart.first_blocks[-1]))
                store.put("effort", first=np.array(first))
            return int(store.get("effort", 0, "first")[0])

        search = BlockSearch(group, plan, store, engine, progress, packs_of)

        def save() -> None:
            if store.room is None:  # else parts are stored already
                checkpoint.save("blocks", store.state)

        work = _Work(search, settings, truth, state["telling"], save)
        save()
        work.reach()
        found, decisions = ranked(search, k, progress), work.decisions()
    if store.room is not None:
        store.put("ended", decisions=as_bytes([decision.as_json() for decision in decisions]))
        store.keep_only("ended", "ranked", "truth")
    return found, decisions


def _solved(group: Group, settings: SearchSettings, store: PartStore, engine: Engine) -> Int32:
    """The neighbours, numbers of the group, of all rows of a large cluster of tight rows.

    `store` is for the parts of this search, which is within another one.
    """
    n, k = len(group), settings.n_neighbors
    aim, _ = sample_rows(n, AIM_SAMPLE, 0, settings.seed)
    truth = Truth.of(group, truth_size(k, n), aim, settings.threads, silent)
    found, _ = _searched(group, settings, truth, silent, store, NONE, engine)
    neighbors = found.rows(0, n)[0]
    store.end()
    return neighbors


def first_effort(ranks: Ranks, lost: float, width: int, blocks: int) -> Effort:
    """The first effort, which leaves a part to votes, or to all pairs if these are cheaper.

    A row looks for its block in REROUTED_PACKS packs at least, so that fewer save nothing.
    """
    effort = ranks.cheapest(1.0 - _LEFT_TO_VOTES * lost, REROUTED_PACKS)
    if ranks.cheapest(1.0 - lost).cost > cost_of_all(blocks, width):
        effort = min(effort, _BEFORE_ALL, key=lambda one: one.cost)
    return effort


class _Work:
    """Gives a search as many probes and votes as a sample needs to reach the recall.

    Attributes:
        done: the steps so far and what was measured after each, also kept in the store. A run that
            continues an earlier one repeats its decisions with these numbers.
    """

    def __init__(
        self, search: BlockSearch, settings: SearchSettings, truth: Truth, telling: Bools,
        save: Callable[[], None],
    ) -> None:  # fmt: skip
        self.search, self.settings, self.save = search, settings, save
        self.wanted = truth.first(settings.n_neighbors)
        self.places = search.layout.places_of(truth.rows)
        self._telling = truth.some(telling)
        search.tight_again = not telling.all()
        store = search.store
        known = from_bytes(store.get("steps", 0, "done")) if store.has("steps") else []
        self.done: list[Step] = list(known)
        self._again: list[Step] = list(known)
        search.rounds = sum(name != _FORESEE for name, _ in known)
        self.effort = Effort(*search.store.get("effort", 0, "first").tolist())

    @cached_property
    def ranks(self) -> Ranks:
        """At which ranks pairs of the sample would meet now; see :func:`first_effort`."""
        search, k = self.search, self.settings.n_neighbors
        return Ranks.of(
            search.group, search.plan, search.layout.chart, self._telling, k, search.layout
        )

    def reach(self) -> None:
        """Probe and vote in turn."""
        lost = 1.0 - self.settings.recall
        # Aim higher by half the standard error of the sample, or a quarter of the allowed loss.
        aim = self.settings.recall + min(0.0025, 0.25 * lost)
        width, blocks = self.search.plan.coder.width, self.search.layout.blocks
        all_pairs = cost_of_all(blocks, width)
        for _ in range(_MOST_ROUNDS):
            reached = self._step("probe", self._probe)
            if reached >= aim:
                return
            after = self._step(_FORESEE, self._after_votes)
            # Votes find this share of what is missing; then probes need to reach less.
            share = min(_OTHER_SIDE * (after - reached) / max(1.0 - reached, 1e-9), 1.0)
            needed = aim - 0.15 * lost
            if reached + share * (1.0 - reached) >= aim - 0.1 * lost:
                reached = self._step("vote", self._vote)
                if reached >= aim:
                    return
            elif share > _WORTH_VOTING:
                needed = max(reached, 1.0 - (1.0 - needed) / (1.0 - share))
            # What was found besides the pairs that met so far leaves a share of the others; the
            # next probes must leave less.
            met = self.ranks.met(self.effort)
            left = min(1.0, (1.0 - met) / max(1.0 - reached, 1e-9))
            meeting = max(1.0 - left * (1.0 - needed), met + 0.25 * lost)
            following = self.ranks.cheapest(meeting)
            if following.cost > all_pairs:
                self._step("all", self._meet_all)
                return
            if following.cost <= self.effort.cost:
                return
            self.effort = following

    def _step(self, name: str, action: Callable[[], float]) -> float:
        """Do one step and note what it measures, unless an earlier run has done it."""
        if self._again:
            return self._again.pop(0)[1]
        found = action()
        self.done.append((name, found))
        self.search.store.put("steps", done=as_bytes(self.done))
        self.save()
        return found

    def _probe(self) -> float:
        self.search.probe(*self.effort)
        if self.search.tight_again and not self.search.store.has("tight ended"):
            self._search_tight()
        return self._measure()

    def _search_tight(self) -> None:
        search, settings = self.search, self.settings

        def solve(group: Group, place: int) -> Int32:
            if len(group) == len(search.group):  # a scale of their own would be the same one
                lists = exact_neighbors(group, settings.n_neighbors, threads=settings.threads)
                return group.number(lists[0])
            return _solved(group, settings, search.store.child(f"tight {place}"), search.engine)

        search_again(search, settings.n_neighbors, settings.seed, solve)
        search.store.put("tight ended", done=number(1))

    def _vote(self) -> float:
        self.search.vote(_VOTED)
        return self._measure()

    def _meet_all(self) -> float:
        self.search.meet_all()
        return self._measure()

    def _measure(self) -> float:
        """The recall on the sample, if the candidates were ranked now."""
        rows, group = self.wanted.rows, self.search.group
        candidates = group.listed(self.search.candidates_at(self.places))
        k = self.wanted.neighbors.shape[1]
        return self.wanted.recall(rank_rows(group.vectors, group.rows_at(rows), candidates, k)[1])

    def _after_votes(self) -> float:
        """The recall that votes would reach, less what they find from the other side."""
        wanted, search = self.wanted.neighbors, self.search
        listed = search.candidates_at(self.places)
        missed = (wanted[:, :, None] != listed[:, None, :]).all(axis=2) & (wanted >= 0)
        numbers, back = np.unique(np.maximum(wanted, 0), return_inverse=True)
        places = search.layout.places_of(numbers)
        blocks = search.layout.block_of_place[places][back.reshape(wanted.shape)]
        voted = search.votes_at(self.places, _VOTED)
        found = (blocks[:, :, None] == voted[:, None, :]).any(axis=2) & missed
        return self._measure() + float(found.sum() / max((wanted >= 0).sum(), 1))

    def decisions(self) -> tuple[Decision, ...]:
        """What was chosen, for the graph's metadata."""
        search, plan, steps = self.search, self.search.plan, [name for name, _ in self.done]
        d, blocks = search.group.vectors.shape[1], search.layout.blocks
        reached = next(found for name, found in reversed(self.done) if name != _FORESEE)
        recalls = {
            "recall": reached, "recall_target": self.settings.recall,
            "sample_rows": len(self.places),
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
