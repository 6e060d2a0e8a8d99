"""Scores from training dynamics, compared with their plain-loop definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli import score_dynamics
from d2cli.defaults import ScoreKind, choices
from d2cli.difficulty import _trajectories, sizes
from d2cli.difficulty.dynamics import Dynamics, class_numbers
from d2cli.difficulty.kinds import KINDS, MEANT, check_kinds
from d2cli.errors import DataError, UsageError
from tests import naive_scores

ALL = [k for k, kind in KINDS.items() if kind.family == "dynamics"]
ONE_EPOCH = [k for k in ALL if KINDS[k].least_epochs == 1]
WINDOWED = ["dual", "dyn-unc", "tdds"]
#: Few values, so that ties between classes and between rows are common.
_LOGITS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 20.0, -40.0])


@st.composite
def outputs(draw, probs=False):
    """(outputs (epochs, n, classes), labels (n,)): often tied, of every float dtype."""
    epochs, n, classes = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(2, 5))
    count = epochs * n * classes
    values = np.array(draw(st.lists(_LOGITS, min_size=count, max_size=count)))
    values = values.reshape(epochs, n, classes)
    if draw(st.booleans()):
        values += np.random.default_rng(draw(st.integers(0, 99))).normal(size=values.shape)
    if probs:
        values = np.exp(values - values.max(axis=2, keepdims=True))
        values /= values.sum(axis=2, keepdims=True)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    return values.astype(dtype), np.array(labels)


def kinds_for(epochs, logits, window=3):
    """The kinds that are defined on some epochs, with a window of at most all of them."""
    least = {kind: max(KINDS[kind].least_epochs, window * KINDS[kind].windowed) for kind in ALL}
    return [
        kind
        for kind in ALL
        if least[kind] <= epochs
        and (logits or not KINDS[kind].logits_only)
        and (window >= KINDS[kind].least_epochs or not KINDS[kind].windowed)
    ]


@given(outputs(), st.integers(2, 5))
def test_scores_of_logits_equal_their_definitions(case, window):
    check(*case, window, logits=True)


@given(outputs(probs=True), st.integers(2, 5))
def test_scores_of_probabilities_equal_their_definitions(case, window):
    check(*case, window, logits=False)


def check(z, y, window, logits):
    kinds = kinds_for(len(z), logits, window)
    before = z.copy()
    given = {"logits" if logits else "probs": z}
    found = score_dynamics(kinds, labels=y, window=window, **given)
    np.testing.assert_array_equal(z, before)
    assert list(found) == kinds
    for kind in kinds:
        assert found[kind].dtype == np.float64
        if kind == "loss-drop":  # two fits may be equally good: test_decays_are_the_best_fits
            continue
        wanted = naive_scores.dynamics(kind, z, y, logits, window)
        # atol: the variance of equal numbers is exactly 0 in one of the two only
        np.testing.assert_allclose(found[kind], wanted, rtol=1e-12, atol=1e-8, err_msg=kind)
    assert (found["entropy"] >= 0).all()


def test_scores_of_one_row_by_hand():
    z = np.log([[[0.5, 0.25, 0.25]], [[0.25, 0.5, 0.25]], [[0.5, 0.25, 0.25]]])
    found = score_dynamics(ALL, logits=z, labels=[0], window=3)
    away, near = math.sqrt(0.75**2 + 0.5**2 + 0.25**2), math.sqrt(0.5**2 + 2 * 0.25**2)
    assert found["el2n"] == pytest.approx((2 * near + away) / 3)
    assert found["aum"] == pytest.approx(math.log(2) / 3)
    assert found["margin"] == pytest.approx(0.25 / 3)
    assert found["entropy"] == pytest.approx(1.5 * math.log(2))
    assert found["loss"] == pytest.approx(4 / 3 * math.log(2))
    assert found["perplexity"] == pytest.approx(2 ** (4 / 3))
    assert found["confidence"] == pytest.approx(1.25 / 3)
    assert found["variability"] == pytest.approx(statistics_pstdev([0.5, 0.25, 0.5]))
    assert found["correctness"] == pytest.approx(2 / 3)
    assert found["forgetting"] == 1
    deviation = math.sqrt(3 / 2) * statistics_pstdev([0.5, 0.25, 0.5])
    assert found["dyn-unc"] == pytest.approx(deviation)
    assert found["dual"] == pytest.approx(deviation * (1 - 1.25 / 3))
    # Both steps change by 3/4 ln 2: one class from 1/2 to 1/4, another back.
    assert found["tdds"] == pytest.approx(0, abs=1e-9)


def statistics_pstdev(values):
    middle = sum(values) / len(values)
    return math.sqrt(sum((v - middle) ** 2 for v in values) / len(values))


def test_forgetting_of_a_row_never_predicted_is_the_number_of_epochs():
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    z = np.array([[right, wrong], [wrong, wrong]] * 3)  # row 0 is forgotten after every other epoch
    found = score_dynamics(["forgetting"], logits=z, labels=[0, 0])["forgetting"]
    assert found.tolist() == [3.0, 6.0]


def test_prediction_ties_go_to_the_lowest_class():
    z = np.zeros((1, 2, 3))
    found = score_dynamics(["correctness"], logits=z, labels=[0, 2])["correctness"]
    assert found.tolist() == [1.0, 0.0]


@given(outputs(), st.integers(1, 3))
def test_scores_do_not_depend_on_blocks_threads_or_ndim(case, threads):
    z, y = case
    kinds = kinds_for(len(z), True)
    whole = score_dynamics(kinds, logits=z, labels=y, threads=1, window=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "OUTPUT_NUMBERS", 1)
        z = np.asfortranarray(z)
        pieces = score_dynamics(kinds, logits=z, labels=y, threads=threads, window=3)
    for kind in kinds:
        assert pieces[kind].tobytes() == whole[kind].tobytes()
    alone = score_dynamics(ONE_EPOCH, logits=z[0], labels=y)
    first = score_dynamics(ONE_EPOCH, logits=z[:1], labels=y)
    for kind in ONE_EPOCH:
        assert alone[kind].tobytes() == first[kind].tobytes()


@given(outputs())
def test_log_probabilities_give_the_scores_of_their_logits(case):
    z, y = case
    z = z.astype(np.float64)
    kinds = kinds_for(len(z), True)
    shifted = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
    kinds = [*set(kinds) - {"forgetting", "correctness", "loss-drop"}]  # rounding may break ties
    ours = score_dynamics(kinds, logits=z, labels=y, window=3)
    assert ours
    for kind, scores in ours.items():
        other = score_dynamics([kind], logits=shifted, labels=y, window=3)[kind]
        np.testing.assert_allclose(other, scores, rtol=1e-9, atol=1e-7)


def test_el2n_orders_rows_whose_probability_rounds_to_one():
    """1 - p computed by subtraction would be 0 for each of these rows."""
    z = np.array([[[g, 0.0, 0.0] for g in (40.0, 45.0, 60.0, 300.0)]])
    el2n = score_dynamics(["el2n"], logits=z, labels=[0] * 4)["el2n"]
    assert (np.diff(el2n) < 0).all()
    assert el2n[3] == pytest.approx(math.sqrt(6) * math.exp(-300), rel=1e-12)


def test_loss_orders_rows_whose_probability_rounds_to_one_or_zero():
    """ln p of a rounded p would be 0, or minus infinity."""
    gaps = (300.0, 60.0, 40.0, 0.0, -40.0, -1000.0)
    z = np.array([[[g, 0.0, 0.0] for g in gaps]])
    loss = score_dynamics(["loss"], logits=z, labels=[0] * len(gaps))["loss"]
    assert (np.diff(loss) > 0).all()
    assert loss[0] == pytest.approx(2 * math.exp(-300), rel=1e-12)
    assert loss[3] == pytest.approx(math.log(3), rel=1e-15)
    assert loss[5] == pytest.approx(1000 + math.log(2), rel=1e-15)


@given(outputs())
def test_perplexity_is_the_exponential_of_the_loss(case):
    found = score_dynamics(["perplexity", "loss"], logits=case[0], labels=case[1])
    np.testing.assert_array_equal(found["perplexity"], np.exp(found["loss"]))
    assert (found["loss"] >= 0).all()


def test_loss_of_a_probability_of_zero_is_that_of_the_least_probability():
    p = np.array([[[0.0, 1.0], [1e-30, 1.0], [1.0000001, 0.0]]])
    found = score_dynamics(["loss", "perplexity"], probs=p, labels=[0, 0, 0])
    assert found["loss"].tolist() == [-math.log(1e-12)] * 2 + [0.0]
    assert found["perplexity"] == pytest.approx([1e12, 1e12, 1.0])


def test_perplexity_beyond_float64_is_refused_and_names_the_loss():
    z = np.array([[[0.0, 800.0]]])
    assert score_dynamics(["loss"], logits=z, labels=[0])["loss"].tolist() == [800.0]
    with pytest.raises(DataError, match="row 0: perplexity is beyond float64") as caught:
        score_dynamics(["perplexity"], logits=z, labels=[0])
    assert "use the kind loss" in caught.value.hint


def test_large_logits_do_not_overflow():
    z = np.array([[[1e308, -1e308, 0.0], [700.0, 800.0, 0.0]]])
    found = score_dynamics([*ONE_EPOCH[:1], "entropy"], logits=z, labels=[0, 0])
    assert found["el2n"].tolist() == [0.0, pytest.approx(math.sqrt(2))]
    assert found["entropy"][0] == 0.0
    with pytest.raises(DataError, match="row 0: aum is beyond float64"):
        score_dynamics(["aum"], logits=z[:, :1, :2], labels=[0])


def test_entropy_without_labels():
    found = score_dynamics(["entropy"], probs=np.full((3, 2, 4), 0.25))
    np.testing.assert_allclose(found["entropy"], math.log(4))


def test_add_with_places():
    """Rows in another order in each epoch, one of them skipped."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(5, 6, 3)).astype(np.float16), rng.integers(0, 3, 6)
    wanted = score_dynamics(ALL, logits=z[:, :5], labels=y[:5], window=3)
    about = sizes.Outputs(5, 3, 5, 2, 3)
    running = Dynamics(ALL, about, z.dtype, labels=y[:5], logits=True, threads=2)
    running.add(0, 0, z[0, :5])
    for epoch in range(1, 5):
        order = rng.permutation(6)
        running.add(epoch, 0, z[epoch, order], np.where(order == 5, -1, order))
    for kind, scores in running.scores().items():
        np.testing.assert_array_equal(scores, wanted[kind])
    order = np.array([4, 5, 0, 2, 1, 3])
    bad = z[1, order].copy()
    bad[3, 1] = np.nan
    with pytest.raises(DataError, match="epoch 2, row 3, class 1: is nan"):
        running.add(1, 0, bad, np.where(order == 5, -1, order))


def put(shape, at, value):
    z = np.full(shape, 0.5)
    z[at] = value
    return z


BAD_OUTPUTS = [
    ({"logits": put((3, 4, 2), (2, 1, 0), np.inf)}, "epoch 3, row 1, class 0: is inf"),
    ({"probs": put((3, 4, 2), (1, 3, 1), np.nan)}, "epoch 2, row 3, class 1: is nan"),
    ({"probs": put((3, 4, 2), (0, 2, 1), -0.25)}, "epoch 1, row 2, class 1: -0.25 is no"),
    ({"probs": put((3, 4, 2), (0, 2, 1), 1.5)}, "epoch 1, row 2, class 1: 1.5 is no"),
    ({"probs": put((3, 4, 2), (0, 2, 1), 0.48)}, "epoch 1, row 2: probabilities add up to 0.98"),
    ({"logits": np.zeros((3, 4, 1))}, "outputs have 1 classes"),
    ({"logits": np.zeros((3, 0, 2))}, "there are no rows"),
    ({"logits": np.zeros(4)}, "outputs must be"),
    ({"logits": np.zeros((3, 4, 2), np.int64)}, "outputs must be"),
]


@pytest.mark.parametrize(("given_outputs", "message"), BAD_OUTPUTS)
def test_bad_outputs_are_refused(given_outputs, message):
    with pytest.raises(DataError, match=message) as caught:
        score_dynamics(["entropy"], **given_outputs)
    assert caught.value.argument == "outputs"


def test_probability_sums_within_rounding_are_accepted():
    p = np.full((1, 1, 1000), 1e-3, np.float16)
    assert score_dynamics(["entropy"], probs=p)["entropy"] == pytest.approx(math.log(1000), 1e-3)
    p = np.array([[[1.0000001, 0.0]]])
    assert score_dynamics(["entropy"], probs=p)["entropy"] == 0.0


BAD_LABELS = [
    ([0, 1], r"labels must be \(4,\), not \(2,\)"),
    (["a"] * 4, "class numbers 0 … 2, because the outputs' classes have no names, not text"),
    ([0.0] * 4, "not float64"),
    ([0, 1, 3, 0], "the label 3 is none of the outputs' 3 classes, 0 … 2"),
    ([0, -1, 2, 0], "the label -1 is none"),
]


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(DataError, match=message) as caught:
        class_numbers(labels, 4, 3)
    assert caught.value.argument == "labels"


def test_labels_from_one_get_a_hint():
    with pytest.raises(DataError) as caught:
        class_numbers([1, 2, 3, 3], 4, 3)
    assert caught.value.row == 2
    assert "subtract 1" in caught.value.hint
    assert class_numbers([True, False], 2, 2).tolist() == [1, 0]


Z, Z9 = np.zeros((1, 2, 3)), np.zeros((9, 2, 3))
BAD_USAGE = [
    ({"kinds": ["aum"], "probs": Z, "labels": [0, 0]}, "aum is defined on logits"),
    ({"kinds": ["el2n"], "logits": Z}, "el2n needs labels"),
    ({"kinds": ["forgetting"], "logits": Z, "labels": [0, 0]}, "at least 2 epochs, not 1"),
    ({"kinds": ["variability"], "logits": Z, "labels": [0, 0]}, "at least 2 epochs, not 1"),
    ({"kinds": ["loss-drop"], "logits": Z, "labels": [0, 0]}, "at least 2 epochs, not 1"),
    ({"kinds": ["tdds"], "logits": Z}, "at least 3 epochs, not 1"),
    ({"kinds": ["dual"], "logits": Z}, "dual needs labels"),
    ({"kinds": ["dyn-unc"], "logits": Z9, "labels": [0, 0]}, "a window of 10, and 9 are used"),
    ({"kinds": ["tdds"], "logits": Z9, "window": 2}, "window must be at least 3 for tdds, not 2"),
    ({"kinds": ["dual"], "logits": Z9, "labels": [0, 0], "window": 1}, "at least 2 for dual"),
    ({"kinds": ["knn-distance"], "logits": Z}, "not computed from a model's outputs"),
    ({"kinds": ["el3n"], "logits": Z}, "unknown kind 'el3n'; did you mean el2n"),
    ({"kinds": ["entropy", "entropy"], "logits": Z}, "asked for twice"),
    ({"kinds": [], "logits": Z}, "no kind of score"),
    ({"kinds": ["entropy"]}, "either logits or probs"),
    ({"kinds": ["entropy"], "logits": Z, "probs": Z}, "either logits or probs"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_USAGE)
def test_bad_usage_is_refused(arguments, message):
    arguments = dict(arguments)
    with pytest.raises(UsageError, match=message):
        score_dynamics(arguments.pop("kinds"), **arguments)


def test_the_table_declares_every_kind_of_the_options():
    assert set(KINDS) == set(choices(ScoreKind))
    assert [kind for kind in ALL if KINDS[kind].windowed] == WINDOWED
    assert {KINDS[kind].statistic for kind in ALL} == set(sizes.KEPT)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_have_the_declared_sizes(dtype):
    about = sizes.Outputs(7, 5, 4, np.dtype(dtype).itemsize, 3)
    labels = np.zeros(7, np.int64)
    dynamics = Dynamics(ALL, about, np.dtype(dtype), labels=labels, logits=True, threads=1)
    assert len(dynamics._running) == 6 + len({KINDS[k].mean_of for k in ALL} - {None}) - 1
    for one in dynamics._running.values():
        for name, kept in sizes.KEPT[one.name].items():
            assert one.kept[name].nbytes == 7 * kept.row_bytes(about), (one.name, name)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("el2", "el2n"),
        ("PPL", "perplexity"),
        ("cross_entropy", "loss"),
        ("MRMC", "loss-drop"),
        ("forget", "forgetting"),
        ("dynunc", "dyn-unc"),
        ("normsim", "target-similarity"),
    ],
)
def test_an_unknown_kind_suggests_the_nearest_and_lists_all(name, suggested):
    with pytest.raises(UsageError, match=f"did you mean {suggested}") as caught:
        check_kinds([name])
    assert caught.value.hint == f"there are {', '.join(KINDS)}"
    with pytest.raises(UsageError, match=r"unknown kind 'zzzz'$"):
        check_kinds(["zzzz"])
    assert set(MEANT.values()) <= set(KINDS)
    assert not set(MEANT) & set(KINDS)


def test_directions_of_the_kinds():
    """The table that users rely on, written out a second time."""
    assert {kind: entry.higher_is for kind, entry in KINDS.items()} == {
        **dict.fromkeys(["el2n", "forgetting", "entropy", "loss", "perplexity"], "harder"),
        **dict.fromkeys(["aum", "confidence", "margin", "correctness"], "easier"),
        **dict.fromkeys(["prototypicality", "knn-distance", "label-disagreement"], "harder"),
        **dict.fromkeys(["variability", *WINDOWED, "loss-drop", "target-similarity"], "better"),
    }


def test_mislabelled_rows_are_harder_in_the_recorded_direction():
    """For every kind except entropy and those that are `better`, which do not show wrong labels."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 200)
    z = rng.normal(size=(6, 200, 3))
    z[:, np.arange(200), truth] += np.linspace(0.5, 4, 6)[:, None]
    labels = truth.copy()
    labels[:50] = (labels[:50] + 1) % 3
    kinds = [kind for kind in ALL if kind != "entropy" and KINDS[kind].higher_is != "better"]
    found = score_dynamics(kinds, logits=z, labels=labels)
    assert len(found) == 8
    for kind, scores in found.items():
        sign = -1 if KINDS[kind].higher_is == "easier" else 1
        assert sign * scores[:50].mean() > sign * scores[50:].mean(), kind


# -- what changes from epoch to epoch --------------------------------------------------------------
def learning(p):
    """Logits (epochs, 1, 2) of one row whose label 0 has the probabilities p."""
    p = np.array(p)
    return np.log(np.stack([p, 1 - p], axis=1))[:, None]


def test_dual_is_highest_for_hard_rows_whose_predictions_change():
    rows = {
        "easy": [0.9, 0.99, 0.999, 0.999],
        "never learned": [0.01, 0.02, 0.01, 0.02],
        "learned late": [0.05, 0.1, 0.4, 0.9],
        "learned early": [0.2, 0.8, 0.9, 0.99],
    }
    z = np.concatenate([learning(p) for p in rows.values()], axis=1)
    found = score_dynamics(["dual", "loss-drop"], logits=z, labels=[0] * 4, window=3)
    order = [list(rows)[at] for at in np.argsort(-found["dual"])]
    assert order[:2] == ["learned late", "learned early"]
    order = [list(rows)[at] for at in np.argsort(-found["loss-drop"])]
    assert order[:2] == ["learned late", "learned early"]


def test_rows_that_never_change_score_zero():
    z = np.broadcast_to([[0.3, -0.1, 7.0], [1.0, 1.0, 1.0]], (7, 2, 3))
    found = score_dynamics([*WINDOWED, "loss-drop"], logits=z, labels=[0, 1], window=4)
    for kind in (*WINDOWED, "loss-drop"):
        assert found[kind].tolist() == [0.0, 0.0], kind


@given(outputs())
def test_windowed_scores_over_many_windows(case):
    """The buffers of a window are filled several times."""
    z, y = case
    z = np.concatenate([z, z[::-1], z, z[::-1]])
    found = score_dynamics(WINDOWED, logits=z, labels=y, window=3)
    for kind in WINDOWED:
        wanted = naive_scores.dynamics(kind, z, y, True, 3)
        np.testing.assert_allclose(found[kind], wanted, rtol=1e-12, atol=1e-8)


def test_tdds_of_one_row_by_hand():
    """The first window has steps that change by 0 and by d, the second by d and by 0."""
    p = [0.5, 0.5, 0.9, 0.9]
    d = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.5 / 0.1)
    found = score_dynamics(["tdds"], logits=learning(p), window=3)["tdds"]
    assert found == pytest.approx((0.9 + 0.09) * d / math.sqrt(2), rel=1e-6)


def test_tdds_weights_the_last_window_most():
    still, moving = [0.5] * 4, [0.5, 0.9, 0.3, 0.3]
    early = score_dynamics(["tdds"], logits=learning(moving + still), window=4)["tdds"]
    late = score_dynamics(["tdds"], logits=learning(still + moving), window=4)["tdds"]
    assert late > 10 * early > 0


def test_probabilities_above_one_count_as_one():
    p = np.array([[[1.0, 0.0]], [[1.000001, 0.0]], [[1.0, 0.0]]])
    found = score_dynamics(["dual", "dyn-unc"], probs=p, labels=[0], window=2)
    assert found == {"dual": [0.0], "dyn-unc": [0.0]}


_LOSSES = st.sampled_from([0.0, 1e-12, 1e-3, 0.1, 0.5, 1.0, 2.0, 4.0, 27.6])


@given(st.integers(2, 12), st.data())
def test_decays_are_the_best_fits(epochs, data):
    rows = st.lists(_LOSSES, min_size=epochs, max_size=epochs)
    losses = np.array(data.draw(st.lists(rows, min_size=1, max_size=3)))
    if data.draw(st.booleans()):
        losses += np.random.default_rng(data.draw(st.integers(0, 99))).random(losses.shape)
    found = np.empty((len(losses), 2))
    _trajectories.fit_decays(losses, found)
    for row, (factor, ratio) in zip(losses, found, strict=True):
        assert 0 <= ratio <= 1
        assert factor == pytest.approx(naive_scores.best_factor(row, ratio), rel=1e-12)
        best = naive_scores.best_ratio(row)
        least = naive_scores.squared_error(row, naive_scores.best_factor(row, best), best)
        slack = 1e-12 * (row**2).sum()
        assert naive_scores.squared_error(row, factor, ratio) <= least + slack


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.9, 0.999, 1.0])
def test_a_loss_that_decays_exactly_is_found(ratio):
    losses = 3.0 * ratio ** np.arange(20)
    p = np.exp(-losses)[:, None]
    found = score_dynamics(["loss", "loss-drop"], probs=np.stack([p, 1 - p], axis=2), labels=[0])
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-12)
    assert found["loss-drop"] == pytest.approx(3 * (1 - ratio**20), rel=1e-9, abs=1e-12)


def test_a_loss_that_does_not_fall_drops_by_zero():
    falls, rises = [0.2, 0.4, 0.6], [0.6, 0.4, 0.2]
    z = np.concatenate([learning(p) for p in (falls, rises, [0.5] * 3)], axis=1)
    found = score_dynamics(["loss-drop"], logits=z, labels=[0, 0, 0])["loss-drop"]
    assert found[0] == pytest.approx(naive_scores.dynamics("loss-drop", z, [0] * 3, True)[0])
    assert found[0] > 1
    assert found[1:].tolist() == [0.0, 0.0]


def test_loss_drop_of_huge_losses():
    z = np.array([[[0.0, 1e300]], [[0.0, 1e299]], [[0.0, 0.0]]])
    found = score_dynamics(["loss-drop"], logits=z, labels=[0])["loss-drop"]
    assert found == pytest.approx(1e300, rel=1e-2)
