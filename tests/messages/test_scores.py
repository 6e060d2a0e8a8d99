"""Utility: direction and transform of scores."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError, UsageError
from d2cli.messages.utility import utility

FLOATS = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=30)


@given(
    FLOATS,
    st.sampled_from(["harder", "easier", "better"]),
    st.sampled_from(["shift", "minmax", "rank"]),
)
def test_transforms_keep_the_order_and_give_at_least_0(values, higher_is, transform):
    s = np.array(values)
    before = s.copy()
    out = utility(s, higher_is, transform)
    np.testing.assert_array_equal(s, before)
    assert (out >= 0).all()
    sign = -1 if higher_is == "easier" else 1
    for i in range(s.size):
        for j in range(s.size):
            if sign * s[i] < sign * s[j]:
                assert out[i] <= out[j]
            if s[i] == s[j]:
                assert out[i] == out[j]


def test_utility_by_hand():
    s = [1.0, 3.0, 3.0, -2.0]
    assert utility(s, "harder", "shift").tolist() == [3.0, 5.0, 5.0, 0.0]
    assert utility(s, "harder", "minmax").tolist() == [0.6, 1.0, 1.0, 0.0]
    assert utility(s, "harder", "rank").tolist() == [0.5, 0.875, 0.875, 0.25]
    assert utility(s, "easier", "rank").tolist() == [0.75, 0.375, 0.375, 1.0]
    assert utility([2.0, 2.0], "harder", "minmax").tolist() == [1.0, 1.0]
    assert utility([1e308, -1e308], "harder", "minmax").tolist() == [1.0, 0.0]
    assert not np.signbit(utility([0.0], "easier")).any()


def test_negative_scores_are_refused_with_a_hint():
    with pytest.raises(DataError, match="negative") as caught:
        utility([1.0, -1.0])
    assert caught.value.row == 1
    assert "shift, minmax or rank" in caught.value.hint
    assert "--higher-is easier" in caught.value.hint
    with pytest.raises(DataError, match="score is negative"):
        utility([1.0, -1.0], "harder", "none")
    with pytest.raises(DataError, match="higher for easier") as caught:
        utility([1.0, 2.0], "easier")
    assert "shift, minmax or rank" in caught.value.hint


@given(FLOATS, st.sampled_from(["harder", "easier", "better"]))
def test_center_subtracts_the_exact_mean(values, higher_is):
    turned = [0.0 - x if higher_is == "easier" else x for x in values]
    mean = float(sum(map(Fraction, turned)) / len(turned))
    found = utility(np.array(values), higher_is, "center")
    assert found.tolist() == [x - mean for x in turned]


@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e300, -1.7e308])
def test_center_of_equal_scores_is_0(value):
    assert utility(np.full(7, value), "better", "center").tolist() == [0.0] * 7


def test_better_scores_are_centred_if_some_are_negative():
    assert utility([1.0, -0.5, 0.1], "better").tolist() == [0.8, -0.7, -0.1]
    assert utility([1.0, -0.0, 0.5], "better").tolist() == [1.0, 0.0, 0.5]
    assert utility([1.0, -0.5], "better", "none").tolist() == [1.0, -0.5]
    assert utility([1.0, -0.5], "better", "shift").tolist() == [1.5, 0.0]
    assert utility([1.0, -0.5], "better", allow_negative=True).tolist() == [1.0, -0.5]


@pytest.mark.parametrize("transform", ["center", "shift"])
def test_transforms_beyond_float64_are_refused(transform):
    with pytest.raises(DataError, match=f"beyond float64 after {transform}") as caught:
        utility([1.7e308, -1.7e308, -1.7e308], "better", transform)
    assert caught.value.row == 0


def test_scores_that_are_not_finite_are_refused_before_the_transform():
    for transform in (None, "none", "center", "shift", "minmax", "rank"):
        with pytest.raises(DataError, match="score is nan") as caught:
            utility([1.0, np.nan], "harder", transform)
        assert caught.value.row == 1


def test_unknown_options_are_refused():
    with pytest.raises(UsageError, match="harder, easier, better"):
        utility([1.0], "high")
    with pytest.raises(UsageError, match="none, center, shift, minmax, rank"):
        utility([1.0], "harder", "log")


def test_allow_negative_admits_negative_scores():
    assert utility([1.0, -2.0], allow_negative=True).tolist() == [1.0, -2.0]
    assert utility([1.0, -2.0], "easier", allow_negative=True).tolist() == [-1.0, 2.0]
    with pytest.raises(DataError, match="score is nan"):
        utility([1.0, np.nan], allow_negative=True)
