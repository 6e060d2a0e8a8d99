"""Pools, tasks, methods, plan and tables of the multimodal evidence, without training."""

import json
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

EVIDENCE = Path(__file__).parents[2] / "evidence"


@pytest.fixture(scope="module")
def multimodal():
    """The modules. They do not import torch."""
    sys.path.insert(0, str(EVIDENCE))
    try:
        import methods as arrays
        import multimodal.methods as methods
        import store
        from multimodal import diversity, icons, plan, pools, run, tables, tasks
    finally:
        sys.path.remove(str(EVIDENCE))
    return SimpleNamespace(
        Arrays=arrays.Arrays, methods=methods, Store=store.Store, diversity=diversity, icons=icons,
        plan=plan, pools=pools, run=run, tables=tables, tasks=tasks,
    )  # fmt: skip


# -- pictures and captions -------------------------------------------------------------------------
def test_package_with_another_checksum_is_refused(multimodal):
    check = multimodal.icons.check_integrity
    check(b"icons", "sha512-" + SHA512_OF_ICONS)
    with pytest.raises(SystemExit, match="another checksum"):
        check(b"icon", "sha512-" + SHA512_OF_ICONS)


#: printf icons | openssl dgst -sha512 -binary | base64 -w0
SHA512_OF_ICONS = (
    "Ny0YEJ4aMbygsn/8jX1s4QPUpAp9RoiAL1adP/Q9zopQUfomWnMIw5mejmIeVOZyUHfg/QtQUz91cezRs3PESQ=="
)


@pytest.mark.parametrize(
    ("prefix", "licence", "used"),
    [
        ("mdi", {"spdx": "Apache-2.0"}, True),
        ("openmoji", {"spdx": "CC-BY-SA-4.0"}, True),
        ("a", {"spdx": "CC-BY-NC-4.0"}, False),
        ("b", {"spdx": "GPL-3.0-or-later"}, False),
        ("c", {}, False),
        ("d", None, False),
        ("fluent-emoji", {"spdx": "MIT"}, False),  # the pictures of a held-out set
    ],
)
def test_sets_are_used_by_licence(multimodal, prefix, licence, used):
    info = {"license": licence} if licence is not None else {}
    assert multimodal.icons.is_used({"prefix": prefix, "info": info}) is used


def test_drawings_have_the_view_of_the_icon_or_of_its_set(multimodal):
    one = {
        "width": 24,
        "icons": {
            "a": {"body": "<g/>"},
            "b": {"body": "<g/>", "left": -2, "width": 10, "height": 12},
            "c": {"body": "<g/>", "hidden": True},
        },
        "aliases": {"d": {"parent": "a"}},
    }
    found = dict(multimodal.icons.drawings(one))
    assert [*found] == ["a", "b"]
    assert 'viewBox="0 0 24 16"' in found["a"] and 'viewBox="-2 0 10 12"' in found["b"]


def test_styles_have_the_concept_of_an_icon_that_exists(multimodal):
    icons = multimodal.icons
    assert icons.caption_of("arrow-left-2") == "arrow left 2"
    names = {"user", "user-outline", "user-outline-24px", "half-light"}
    styles = icons.HELD_OUT["healthicons"]
    assert icons.concept_of("user-outline-24px", styles, names) == "user"
    assert icons.concept_of("user", styles, names) == "user"
    assert icons.concept_of("half-light", ("-light",), names) == "half-light"


def test_pictures_of_held_out_sets_are_not_trained_on(multimodal):
    sets = np.array(["tabler", "mdi", "mdi", "ph", "ri"])
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    pictures[2] = pictures[3]
    assert multimodal.icons.training_rows(pictures, sets).tolist() == [1, 4]


# -- pools -----------------------------------------------------------------------------------------
def drawn(multimodal, seed=0, noise=0.3):
    rng = np.random.default_rng(0)
    sets = np.array(["abcdefgh"[i] for i in rng.integers(0, 8, 900)])
    captions = rng.integers(0, 200, 900)
    training = np.flatnonzero(sets != "c")
    draw = multimodal.pools.draw
    pool = draw(training, sets, captions, seed, noise, pool=300, scoring=150, of_one_set=40)
    return pool, sets, captions


def test_pool_and_scoring_sets_have_no_set_in_common(multimodal):
    pool, sets, _ = drawn(multimodal)
    assert len({*pool.rows.tolist()}) == 300 and len({*pool.scoring.tolist()}) == 150
    assert not {*sets[pool.rows]} & {*sets[pool.scoring]}
    counts = np.unique(sets[pool.scoring], return_counts=True)[1]
    assert sorted(counts) == [30, 40, 40, 40]
    assert "c" not in {*sets[pool.rows]} | {*sets[pool.scoring]}


def test_each_seed_draws_anew_and_noise_changes_captions_only(multimodal):
    noisy, _, captions = drawn(multimodal)
    clean, _, _ = drawn(multimodal, noise=0.0)
    assert not clean.wrong.any() and (clean.captions == captions[clean.rows]).all()
    assert (noisy.rows == clean.rows).all() and (noisy.scoring == clean.scoring).all()
    assert (np.sort(noisy.captions) == np.sort(clean.captions)).all()
    assert (noisy.wrong == (noisy.captions != clean.captions)).all()
    assert 80 <= noisy.wrong.sum() <= 90  # 90 permuted; some share a caption
    other, _, _ = drawn(multimodal, seed=1)
    assert other.rows.tolist() != noisy.rows.tolist()
    assert other.wrong.tolist() != noisy.wrong.tolist()


def test_too_few_rows_are_refused(multimodal):
    sets, captions = np.array(["a"] * 5 + ["b"] * 5), np.arange(10)
    with pytest.raises(ValueError, match="too few rows"):
        multimodal.pools.draw(np.arange(10), sets, captions, 0, 0.0, pool=6, scoring=5)


# -- tasks -----------------------------------------------------------------------------------------
def test_tasks_have_one_picture_a_concept_and_all_styles_to_classify(multimodal):
    names = np.array(["a", "a-bold", "b", "b-bold", "c", "d-light-skin-tone", "e-bold"])
    task = multimodal.tasks.task_of(np.arange(7), names, ("-bold",), retrieved=9, concepts=9)
    assert sorted(task.retrieval.tolist()) == [0, 2, 4, 6]
    shown = {
        str(names[p]): str(names[task.concepts[c]])
        for p, c in zip(task.pictures, task.classes, strict=True)
    }
    assert shown == {"a": "a", "a-bold": "a", "b": "b", "b-bold": "b", "c": "c", "e-bold": "e-bold"}
    few = multimodal.tasks.task_of(np.arange(7), names, ("-bold",), retrieved=3, concepts=2)
    assert len(few.retrieval) == 3 and len(few.concepts) == 2 and {*few.classes} == {0, 1}


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 4))
def test_recall_equals_the_plain_loop(multimodal, seed, n, nearest):
    rng = np.random.default_rng(seed)
    images, texts = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for _ in range(2))
    cosines = images @ texts.T
    expected = [
        np.mean([sum(c >= row[i] for c in row) <= nearest for i, row in enumerate(table)])
        for table in (cosines, cosines.T)
    ]
    assert multimodal.tasks.recall(images, texts, nearest) == pytest.approx(tuple(expected))


def test_accuracy_is_the_mean_over_classes(multimodal):
    concepts, images = np.eye(3), np.eye(3)[[0, 0, 1, 2, 2]]
    classes = np.array([0, 0, 0, 1, 2])  # right: two of three, none, one
    found = multimodal.tasks.accuracy(images, concepts, classes)
    assert found == pytest.approx((2 / 3 + 0 + 1) / 3)


@given(st.lists(st.integers(0, 4), min_size=1), st.lists(st.integers(0, 4), min_size=1))
def test_auc_equals_the_plain_loop(multimodal, right, wrong):
    pairs = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    found = multimodal.tasks.auc(np.array(right), np.array(wrong))
    assert found == pytest.approx(np.mean(pairs))


# -- methods ---------------------------------------------------------------------------------------
def arrays_of(multimodal, n=60, seed=0):
    rng = np.random.default_rng(seed)
    emb = rng.standard_normal((n, 4)).astype(np.float32)
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    scores = rng.standard_normal(n)
    scores[: n // 2] += np.abs(emb[: n // 2, 0])  # the best rows are near each other
    return multimodal.Arrays(emb, scores, None, seed)


def test_d2_selects_the_rows_of_the_command_line(multimodal, run_cli, data):
    scores = data.scores - 3
    np.save("quality.npy", scores)
    given = ("--emb", "emb.npy", "--scores", "quality.npy", "--size", 15)
    assert run_cli("select", *given, "--higher-is", "better")[0] == 0
    arrays = multimodal.Arrays(data.emb, scores, None, 0)
    rows, _ = multimodal.methods.choose("d2", arrays, 15, multimodal.plan.D2_DEFAULTS)
    assert rows.tolist() == np.load("selected.npy").tolist()


def test_the_defaults_are_among_the_settings_that_are_tried(multimodal):
    assert multimodal.plan.D2_DEFAULTS in multimodal.plan.GRID["d2"]


def test_every_planned_method_selects_its_budget(multimodal):
    arrays, plan = arrays_of(multimodal), multimodal.plan
    planned = {
        (t.method, json.dumps(t.settings)): t
        for t in plan.trainings(plan.inputs_of(0.3, 0))
        if t.rate == 0.2
    }
    assert len(planned) > 10
    for training in planned.values():
        rows, _ = multimodal.methods.choose(training.method, arrays, 12, training.settings)
        assert len({*rows.tolist()}) == 12 and (np.diff(rows) > 0).all(), training.method


def test_lift_is_1_for_the_best_and_0_for_all(multimodal):
    scores = np.array([3.0, 1.0, 2.0, 6.0])
    lift = multimodal.methods.lift
    assert lift(scores, np.array([3, 0])) == 1
    assert lift(scores, np.arange(4)) == 1  # nothing is better than all of four
    assert lift(scores, np.array([1, 2])) == pytest.approx((1.5 - 3) / (4.5 - 3))
    assert lift(np.ones(4), np.array([1])) == 1


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_d2_keeps_the_lift_that_the_tables_state(multimodal, level):
    arrays = arrays_of(multimodal)
    rows, _ = multimodal.methods.d2(arrays, 15, keep_lift=level, transform="center")
    assert level <= multimodal.methods.lift(arrays.scores, rows) < 1


def plain_walk(arrays, radius, size):
    """Rows by score, without those within the radius of a taken row that is a neighbour."""
    graph = arrays.graph()
    near = {
        frozenset((i, int(j)))
        for i, (row, lengths) in enumerate(zip(graph.neighbors, graph.distances, strict=True))
        for j, length in zip(row, lengths, strict=True)
        if j >= 0 and length <= radius
    }
    taken = []
    for row in np.argsort(-arrays.scores, kind="stable").tolist():
        if not any(frozenset((row, other)) in near for other in taken):
            taken.append(row)
    return taken[:size]


@pytest.mark.parametrize("level", [0.7, 0.9, 1.0])
def test_deduplicated_has_the_largest_radius_that_keeps_the_lift(multimodal, level):
    arrays = arrays_of(multimodal)
    rows, noted = multimodal.methods.deduplicated(arrays, 15, keep_lift=level)
    assert rows.tolist() == plain_walk(arrays, noted["radius"], 15)
    assert multimodal.methods.lift(arrays.scores, rows) >= level
    distances = np.unique(arrays.graph().distances)
    larger = distances[np.searchsorted(distances, noted["radius"], "right")]
    beyond = plain_walk(arrays, larger, 15)
    assert len(beyond) < 15 or multimodal.methods.lift(arrays.scores, np.array(beyond)) < level


# -- diversity -------------------------------------------------------------------------------------
def test_vendi_score_equals_its_definition(multimodal):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((9, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(vectors @ vectors.T / 9)
    positive = values[values > 1e-12]
    expected = np.exp(-(positive * np.log(positive)).sum())
    assert multimodal.diversity.vendi(vectors) == pytest.approx(expected)
    assert multimodal.diversity.vendi(np.eye(4)) == pytest.approx(4)
    assert multimodal.diversity.vendi(np.ones((4, 1))) == pytest.approx(1)


def test_diversity_of_a_selection(multimodal):
    embeddings = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    sets, names = np.array([*"aabbcc"]), np.array([0, 1, 0, 1, 2, 2])
    found = multimodal.diversity.diversity_of(embeddings, np.array([0, 2]), sets, names)
    assert found["distance"] == pytest.approx(2 * np.sqrt(2) / 6)
    assert [found[k] for k in ("vendi", "sets", "names")] == pytest.approx([2, 2, 1])


# -- runs and tables -------------------------------------------------------------------------------
def test_scores_are_cosines_of_the_captions_with_noise(multimodal, monkeypatch, tmp_path):
    inputs, place = multimodal.plan.inputs_of(0.3, 7), tmp_path / "seed-7"
    place.mkdir()
    images, words = arrays_of(multimodal, 30).embeddings, arrays_of(multimodal, 3, 1).embeddings
    np.save(place / "embeddings.npy", images)
    np.savez(place / "captions.npz", captions=np.array([2, 5, 9]), vectors=words)
    captions = np.array([5, 9, 2] * 10)
    monkeypatch.setattr(multimodal.run, "_pool", lambda *_: SimpleNamespace(captions=captions))
    arrays = multimodal.run.arrays_of(inputs, tmp_path)
    expected = [row @ words[[2, 5, 9].index(c)] for row, c in zip(images, captions, strict=True)]
    assert arrays.scores == pytest.approx(expected, abs=1e-6)
    arrays.graph()
    assert [*place.glob("graph-*.npz")]  # shared by all selections of the seed


def test_outcome_of_a_training(multimodal, monkeypatch, tmp_path):
    """With the training replaced: what is recorded. Equal rows are not trained on again."""
    run, plan, n = multimodal.run, multimodal.plan, 60
    arrays = arrays_of(multimodal)
    wrong = np.arange(n) % 3 == 0
    rows = np.arange(100, 100 + n)
    monkeypatch.setattr(run, "_icons", lambda _: (SimpleNamespace(sets=np.full(200, "a")), {}))
    monkeypatch.setattr(
        run, "_pool", lambda *_: SimpleNamespace(rows=rows, captions=rows, wrong=wrong)
    )
    monkeypatch.setattr(run, "arrays_of", lambda *_: arrays)
    monkeypatch.setattr(run, "_one_thread", lambda: None)
    monkeypatch.setattr(run, "version_of", lambda _: "1")
    result = {"retrieval": {"ph": [0.1, 0.2]}, "classification": {"ph": 0.3}, "seconds": 1.5}
    trained = []
    monkeypatch.setattr(run, "_measure", lambda *args: trained.append(args) or result)
    inputs = plan.inputs_of(0.3, 0)
    store = multimodal.Store(tmp_path)
    first = multimodal.run.Training(inputs, "highest", 0.2)
    training, outcome = run.train(first, {}, tmp_path)
    assert outcome["kept"] == 12 and outcome["lift"] == 1 and outcome["diversity"]["names"] == 12
    best = np.argsort(-arrays.scores)[:12]
    assert outcome["wrong"] == wrong[best].sum() and outcome["retrieval"] == result["retrieval"]
    store.add(training, outcome)
    assert multimodal.Store(tmp_path).missing([first]) == []
    twins = multimodal.Store(tmp_path).twins(inputs)
    same = multimodal.run.Training(inputs, "ccs", 0.2, {"cutoff": 0.8})
    _, again = run.train(same, twins, tmp_path)
    assert len(trained) == 1 and again["classification"] == {"ph": 0.3}


def run_plan(multimodal, folder, seeds, better="ph"):
    """Add a result for every planned training: retrieval on one set grows with the settings."""
    store, plan = multimodal.Store(folder), multimodal.plan
    done = 0
    for noise in plan.NOISES:
        for seed in range(seeds):
            for training in store.missing(plan.trainings(plan.inputs_of(noise, seed))):
                options = plan.settings_of(training.method, training.rate)
                place = options.index(training.settings) if training.settings else 0
                value = 0.5 + seed / 1000 + (training.method == "d2") / 100
                retrieval = {
                    name: [value + (name == better) * place / 100] * 2
                    for name in multimodal.icons.HELD_OUT
                }
                diversity = {"distance": 0.2, "vendi": 9.0, "sets": 4.0, "names": 1000.0}
                store.add(
                    training,
                    {
                        "retrieval": retrieval, "classification": dict.fromkeys(retrieval, value),
                        "kept": 10, "wrong": 1, "lift": 0.9, "auc": 0.84, "diversity": diversity,
                    },
                )  # fmt: skip
                done += 1
    return done


def test_a_second_run_skips_trainings_with_results(multimodal, tmp_path):
    first = run_plan(multimodal, tmp_path, 1)
    assert run_plan(multimodal, tmp_path, 1) == 0
    assert run_plan(multimodal, tmp_path, 2) == first
    lines = (tmp_path / "icons.jsonl").read_text().splitlines()
    assert len({*lines}) == len(lines) == 2 * first


def test_every_rate_has_rivals_that_do_not_equal_the_highest_scores(multimodal):
    for rate in multimodal.plan.RATES:
        cutoffs = [s["cutoff"] for s in multimodal.plan.settings_of("ccs", rate)]
        assert len(cutoffs) > 1 and max(cutoffs) < 1 - rate


def test_settings_are_chosen_on_the_validation_sets(multimodal, tmp_path):
    assert not {*multimodal.tasks.VALIDATION} & {*multimodal.tasks.TEST}
    plan, tables = multimodal.plan, multimodal.tables
    for better, place in (("ph", -1), ("tabler", 0)):  # what helps a test set only is not seen
        store = multimodal.Store(tmp_path / better)
        run_plan(multimodal, tmp_path / better, 1, better)
        store = multimodal.Store(tmp_path / better)
        lines = tables.chosen("ccs", 0.1, 0.3, store)
        assert lines[0]["settings"] == plan.settings_of("ccs", 0.1)[place]


def test_tables_are_means_standard_errors_and_paired_differences(multimodal, tmp_path):
    run_plan(multimodal, tmp_path, 3)
    store, tables = multimodal.Store(tmp_path), multimodal.tables
    table = tables.table_of(0.3, store)
    text = "\n".join(tables.markdown(0.3, table, store))
    assert "Seeds: 3." in text and "wrong captions: 0.8400 ± 0.0000" in text
    assert "| random | 0.5010 ± 0.0006 |" in text
    # Seeds differ by 0.001, methods by 0.01: differences of the same seed have no error.
    assert "| D2, defaults, ahead of top score | +0.0100 ± 0.0000 |" in text
    assert "| D2, λ = 0.95, center |" in text


def test_unfinished_tables_show_what_there_is(multimodal, tmp_path):
    store, plan, tables = multimodal.Store(tmp_path), multimodal.plan, multimodal.tables
    run_plan(multimodal, tmp_path, 1)
    lines = (tmp_path / "icons.jsonl").read_text().splitlines()
    first = [line for line in lines if json.loads(line)["noise"] == 0.3][:20]
    (tmp_path / "icons.jsonl").write_text("".join(f"{line}\n" for line in first))
    store = multimodal.Store(tmp_path)
    table = tables.table_of(0.3, store)
    assert [*table["ccs", True]] == [plan.RATES[0]]  # not all settings have results at the next
    assert {*table["highest", False]} == {*plan.RATES[:2]}
    text = "\n".join(tables.markdown(0.3, table, store))
    assert "–" in text
    tables.plot({0.3: table}, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_rates_are_run_from_the_most_telling_on(multimodal):
    rates = [t.rate for t in multimodal.plan.trainings(multimodal.plan.inputs_of(0.3, 0))]
    changes = [b for a, b in pairwise(rates) if a != b]
    assert changes == [*multimodal.plan.RATES]  # one after the other
