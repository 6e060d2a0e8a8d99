"""Budgets, class quotas and the cutoff β, against plain loops and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError, UsageError
from d2cli.selection.budgets import budget_of, class_quotas, cutoff_count, hardest
from tests import naive

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any)


@given(COUNTS, st.sampled_from(["proportional", "uniform"]), st.data())
def test_quotas_equal_the_plain_loop(available, balance, data):
    budget = data.draw(st.integers(1, sum(available)))
    none = np.zeros(len(available), np.int64)
    quotas = class_quotas(np.array(available), budget, balance, none)
    twin = naive.proportional_quotas if balance == "proportional" else naive.uniform_quotas
    assert quotas.tolist() == twin(available, budget)
    assert quotas.sum() == budget
    assert (quotas <= available).all()


@given(COUNTS, st.sampled_from(["proportional", "uniform"]), st.data())
def test_quotas_with_included_rows_equal_the_plain_loop(available, balance, data):
    included = np.array([data.draw(st.integers(0, a)) for a in available])
    budget = data.draw(st.integers(max(1, int(included.sum())), sum(available)))
    quotas = class_quotas(np.array(available), budget, balance, included)
    twin = naive.proportional_quotas if balance == "proportional" else naive.uniform_quotas
    assert quotas.tolist() == naive.quotas_with(included.tolist(), twin, available, budget)
    assert quotas.sum() == budget
    assert (quotas <= available).all()
    assert (quotas >= included).all()


def test_quotas_by_hand():
    counts, none = np.array([50, 30, 20]), np.zeros(3, np.int64)
    assert class_quotas(counts, 10, "proportional", none).tolist() == [5, 3, 2]
    assert class_quotas(counts, 11, "proportional", none).tolist() == [6, 3, 2]
    assert class_quotas(counts, 70, "uniform", none).tolist() == [25, 25, 20]
    assert class_quotas(counts, 10, "uniform", none).tolist() == [4, 3, 3]
    held = np.array([0, 0, 9])
    assert class_quotas(counts, 10, "uniform", held).tolist() == [1, 0, 9]


def test_budget_above_the_available_rows_is_refused():
    with pytest.raises(DataError, match="cannot be picked"):
        class_quotas(np.array([1, 2]), 4, "uniform", np.array([0, 0]))


@pytest.mark.parametrize(
    ("ratio", "n", "size"),
    [
        *((0.5, 5, 3), (0.5, 4, 2), (0.25, 10, 3), (0.24, 10, 2), (1e-9, 10, 1), (1.0, 7, 7)),
        # Exactly one half in decimal, a little less in binary.
        *((0.29, 50, 15), (0.57, 50, 29), (0.145, 100, 15), ("0.29", 50, 15)),
    ],
)
def test_budget_rounds_half_up_to_at_least_1(ratio, n, size):
    assert budget_of(ratio, n) == size


@given(st.integers(1, 1000), st.integers(1, 10_000))
def test_budget_is_exact_for_decimal_ratios(thousandths, n):
    assert budget_of(thousandths / 1000, n) == max(1, (2 * thousandths * n + 1000) // 2000)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        budget_of(ratio, 10)


def test_hardest_by_hand():
    values = np.array([1.0, 5.0, 5.0, 2.0, 5.0, 0.0])
    eligible = np.ones(6, bool)
    assert np.flatnonzero(hardest(values, 2, eligible)).tolist() == [1, 2]
    assert not hardest(values, 0, eligible).any()
    eligible[1] = False
    assert np.flatnonzero(hardest(values, 2, eligible)).tolist() == [2, 4]
    assert (hardest(values, 6, eligible) == eligible).all()


@given(st.integers(0, 99), st.integers(1, 50))
def test_cutoff_is_exact_for_decimal_shares(percent, n):
    assert cutoff_count(percent / 100, n) == percent * n // 100


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_cutoff_out_of_range_is_refused(beta):
    with pytest.raises(UsageError, match="cutoff"):
        cutoff_count(beta, 3)
