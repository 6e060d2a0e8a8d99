"""The plan and the methods of the evidence, without training."""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

EVIDENCE = Path(__file__).parents[2] / "evidence"


@pytest.fixture(scope="module")
def evidence():
    """The modules that do not import torch."""
    sys.path.insert(0, str(EVIDENCE))
    try:
        import methods
        import plan
        import store
        import tables
    finally:
        sys.path.remove(str(EVIDENCE))
    return {"methods": methods, "plan": plan, "store": store, "tables": tables}


COMPARISON = ("wordnet", 0.0, "el2n")


@pytest.mark.parametrize("size", [2, 15])
@pytest.mark.parametrize(
    "settings",
    [
        *({}, {"cutoff": 0.2}, {"k": 6, "gamma_reverse": 0.3}, {"cutoff": 0.1, "k": 5}),
        *({"cutoff": 0.0}, {"cutoff": "auto", "gamma_reverse": 1.0}),
    ],
)
def test_d2_selects_the_rows_of_the_command_line(evidence, run_cli, data, settings, size):
    options = {"k": "-k", "cutoff": "--cutoff", "gamma_reverse": "--gamma-reverse"}
    args = [part for name, value in settings.items() for part in (options[name], value)]
    given = ("--emb", "emb.npy", "--scores", "scores.npy", "--size", size)
    assert run_cli("select", *given, *args, "--order", "rank")[0] == 0
    arrays = evidence["methods"].Arrays(data.emb, data.scores, data.labels, 0)
    rows, recorded = evidence["methods"].choose("d2", arrays, size, settings)
    thinned = size == 2 and "gamma_reverse" not in settings
    assert (recorded["thinned_from"] is not None) == thinned
    assert rows.tolist() == np.load("selected.npy").tolist()


def test_partial_scores_select_the_rows_of_the_command_line(evidence, run_cli, data):
    """Of 40 scores, a tenth is known."""
    known = np.random.default_rng((0, 3)).permutation(40)[:4]
    scores = np.full(40, np.nan)
    scores[known] = data.scores[known]
    np.save("scores.npy", scores)
    given = ("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15, "--order", "rank")
    assert run_cli("select", *given, "--missing-scores", "spread")[0] == 0
    arrays = evidence["methods"].Arrays(data.emb, data.scores, data.labels, 0)
    rows, _ = evidence["methods"].choose("d2-partial", arrays, 15, {})
    assert rows.tolist() == np.load("selected.npy").tolist()


def test_graphs_are_cached_by_the_rows_that_are_cut(evidence, data, tmp_path):
    arrays = evidence["methods"].Arrays(data.emb, data.scores, data.labels, 0, tmp_path / "kept")
    masks = [None, *(np.arange(40) % 4 == remainder for remainder in (0, 1))]
    for _ in range(2):  # built, then read from the cache
        for mask in masks:
            graph = arrays.graph(3, mask)
            cut = np.flatnonzero(graph.neighbors[:, 0] < 0)
            assert cut.tolist() == ([] if mask is None else np.flatnonzero(mask).tolist())


def test_every_planned_method_selects_its_budget(evidence, data):
    confidence = np.random.default_rng(0).random(40)
    arrays = evidence["methods"].Arrays(data.emb, data.scores, data.labels, 0, confidence)
    plan, choose = evidence["plan"], evidence["methods"].choose
    assert plan.FIXED and plan.GRIDS
    for method in plan.FIXED:
        rows, _ = choose(method, arrays, 12, {})
        assert len({*rows.tolist()}) == 12, method
    for method, grid in plan.GRIDS.items():
        for values in product(*(values for _, values in grid)):
            settings = dict(zip((name for name, _ in grid), values, strict=True))
            rows, _ = choose(method, arrays, 12, settings)
            assert len({*rows.tolist()}) == 12, (method, settings)


def test_d2_as_published_selects_the_rows_of_the_command_line(evidence, run_cli, data):
    arrays = evidence["methods"].Arrays(data.emb, data.scores, data.labels, 0)
    given = ("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15, "--mode", "paper")
    for settings, args in (
        ({}, ("--gamma-reverse", 0.1)),
        ({"k": 5, "gamma_reverse": 0.3, "cutoff": 0.2}, ("-k", 5, "--gamma-reverse", 0.3)),
    ):
        more = ("--cutoff", settings.get("cutoff", 0), "--order", "rank")
        assert run_cli("select", *given, *args, *more)[0] == 0
        rows, _ = evidence["methods"].choose("d2-paper", arrays, 15, settings)
        assert rows.tolist() == np.load("selected.npy").tolist()


def test_orders_of_methods_with_random_draws_are_kept_by_seed(evidence, data, tmp_path):
    methods, found = evidence["methods"], {}
    for seed in (0, 1):
        arrays = methods.Arrays(data.emb, data.scores, None, seed, None, tmp_path / "shared")
        for method in methods.NESTED:
            own = tmp_path / f"own-{seed}"
            found[method, seed] = methods.nested_order(method, arrays, 20, own).tolist()
            assert methods.nested_order(method, arrays, 20, own).tolist() == found[method, seed]
    different = {m for m in methods.NESTED if found[m, 0] != found[m, 1]}
    assert different == {*methods.SEEDED}


def test_methods_that_need_labels_are_left_out_without(evidence):
    plan = evidence["plan"]
    with_labels, without = (
        plan.tuned_methods(("wordnet", 0.0, s)) for s in ("el2n", "knn-distance")
    )
    assert {*with_labels} - {*without} == {"dual-sampling"}


def test_partial_scores_are_planned_where_scores_cost_a_training(evidence):
    plan, inputs = evidence["plan"], evidence["store"].Inputs
    for scores in ("el2n", "knn-distance"):
        methods = {t.method for t in plan.fixed(inputs("wordnet", 0.0, scores, "test", 0))}
        assert ("d2-partial" in methods) == (scores == "el2n")
        assert {"d2", "random", "everything"} <= methods


def test_twins_have_the_same_model_labels_and_rows(evidence, tmp_path):
    store, module = evidence["store"].Store(tmp_path), evidence["store"]
    rows = module.digest_of(np.array([3, 1, 2]))
    assert rows != module.digest_of(np.array([1, 2, 3]))  # the order decides the batches
    first = module.Inputs("wordnet", 0.0, "el2n", "test", 0)
    training = module.Training(first, "random", 0.1)
    store.add(training, {"accuracy": 0.5, "rows": rows})
    store.add(
        module.Training(first, "highest", 0.1), {"accuracy": 0.6}
    )  # without a digest it is no twin
    same = module.Inputs("wordnet", 0.0, "prototypicality", "test", 0)
    assert {d: line["accuracy"] for d, line in store.twins(same).items()} == {rows: 0.5}
    for other in (
        ("fashion_mnist", 0.0, "el2n", "test", 0), ("wordnet", 0.1, "el2n", "test", 0),
        ("wordnet", 0.0, "el2n", "validation", 0), ("wordnet", 0.0, "el2n", "test", 1),
    ):  # fmt: skip
        assert store.twins(module.Inputs(*other)) == {}


def run_plan(evidence, store, seeds):
    """Add a result for every planned training: accuracy grows with β and with the seed."""
    done = 0
    for stage in evidence["plan"].stages(COMPARISON, seeds, store):
        for training in store.missing(stage):
            cutoff = training.settings.get("cutoff", "auto")
            accuracy = 0.5 + (0 if cutoff == "auto" else cutoff) + training.inputs.seed / 1000
            store.add(training, {"accuracy": accuracy})
            done += 1
    return done


def test_a_second_run_skips_trainings_with_results(evidence, tmp_path):
    store = evidence["store"].Store(tmp_path)
    first = run_plan(evidence, store, 1)
    again = evidence["store"].Store(tmp_path)
    assert run_plan(evidence, again, 1) == 0
    assert run_plan(evidence, again, 2) > 0
    lines = [json.loads(line) for line in (tmp_path / "wordnet.jsonl").read_text().splitlines()]
    assert len(lines) == len(again.lines) > first
    assert all(line["seed"] in (0, 1, 100) for line in lines)


def test_tuning_uses_the_validation_split_only(evidence, tmp_path):
    store = evidence["store"].Store(tmp_path)
    run_plan(evidence, store, 1)
    plan = evidence["plan"]
    assert plan.best(COMPARISON, "ccs", 0.7, store) == {"cutoff": 0.1}
    assert plan.best(COMPARISON, "ccs", 0.1, store) == {"cutoff": 0.5}
    assert plan.best(COMPARISON, "d2", 0.1, store) == {"cutoff": 0.5}
    tuned = plan.tuned(evidence["store"].Inputs(*COMPARISON, "test", 0), store)
    assert {t.inputs.split for t in tuned} == {"test"}


def test_tables_are_means_and_standard_errors(evidence, tmp_path):
    store = evidence["store"].Store(tmp_path)
    run_plan(evidence, store, 3)
    table = evidence["tables"].table_of(COMPARISON, store)
    cell = table["random", False][0.1]
    assert cell.values == (0.5, 0.501, 0.502)
    assert str(cell) == "0.5010 ± 0.0006"
    text = "\n".join(evidence["tables"].markdown(COMPARISON, table, store))
    assert "over 3 seeds" in text and "| random | 0.5010 ± 0.0006 |" in text
    assert "−0.5000 ± 0.0008" in text  # D2's defaults minus the best tuned cutoff


def test_incomplete_seeds_are_left_out(evidence, tmp_path):
    store = evidence["store"].Store(tmp_path)
    run_plan(evidence, store, 1)
    inputs = evidence["store"].Inputs(*COMPARISON, "test", 1)
    store.add(evidence["store"].Training(inputs, "random", 0.1), {"accuracy": 1.0})
    table = evidence["tables"].table_of(COMPARISON, store)
    assert table["random", False][0.1].values == (0.5,)
