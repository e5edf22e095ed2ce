"""Paired tests and rank correlation against scipy."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sconv_search.reports.paired import holm, paired, sign_flip, spearman, t_test, two_sided_p

differences = st.lists(st.floats(-50, 50), min_size=3, max_size=9).filter(lambda found: np.std(found) > 1e-3)


@given(differences)
def test_the_t_test_is_scipy_s(found: list[float]) -> None:
    assert t_test(found) == pytest.approx(stats.ttest_1samp(found, 0).pvalue, abs=1e-9)


@given(st.floats(-30, 30), st.integers(1, 60))
def test_student_s_distribution_is_scipy_s(t: float, freedom: int) -> None:
    # scipy itself is 5e-11 off at t = 1e-7 with one degree, where the exact value is 1 - 2/pi atan(t).
    assert two_sided_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-9)


# Multiples of 1/64 add up exactly: differences that are nearly equal are ties or not by each library's own tolerance.
@given(st.lists(st.integers(-3200, 3200).map(lambda steps: steps / 64), min_size=3, max_size=8))
def test_sign_flips_are_scipy_s_exact_permutations(found: list[float]) -> None:
    scipy = stats.permutation_test(
        (np.array(found), np.zeros(len(found))),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert sign_flip(found) == pytest.approx(scipy.pvalue)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20))
def test_rank_correlation_is_scipy_s_ties_included(pairs: list[tuple[int, int]]) -> None:
    first, second = (pd.Series([pair[place] for pair in pairs], dtype="Float64") for place in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.spearmanr(first.astype(float), second.astype(float)).statistic
    found = spearman(first, second)
    assert found is None if np.isnan(expected) else found == pytest.approx(expected)


def test_missing_values_are_left_out_of_a_correlation() -> None:
    assert spearman(
        pd.Series([1, 2, 3, None], dtype="Float64"), pd.Series([1, 2, 3, 0], dtype="Float64")
    ) == pytest.approx(1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_by_its_definition(values: list[float]) -> None:
    order = np.argsort(values, kind="stable")
    steps = [min(1.0, (len(values) - rank) * values[place]) for rank, place in enumerate(order)]
    expected = np.empty(len(values))
    expected[order] = np.maximum.accumulate(steps)
    assert holm(values) == pytest.approx(expected.tolist())


def test_holm_leaves_missing_values_out() -> None:
    assert holm([None, 0.02, None, 0.04]) == [None, 0.04, None, 0.04]


def test_pairs_are_by_seed_and_few_are_not_tested() -> None:
    found = paired({0: 90.0, 1: 91.0, 7: 5.0}, {0: 89.0, 1: 89.0, 8: 5.0})
    assert found is not None
    assert (found.n, found.difference, found.t_test, found.sign_flip) == (2, 1.5, None, None)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_differences_that_do_not_vary_have_no_t_test() -> None:
    found = paired({seed: 90.0 for seed in range(4)}, {seed: 89.0 for seed in range(4)})
    assert found is not None
    assert found.t_test is None
    assert found.sign_flip == 2 / 2**4
