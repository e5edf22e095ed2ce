"""Paired tests and rank correlation against their definitions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconv_search.reports.analysis.statistics import holm, paired, sign_flip, spearman, t_test

differences = st.lists(st.floats(-50, 50), min_size=3, max_size=9).filter(lambda found: np.std(found) > 1e-3)


@given(differences)
def test_the_t_test_is_by_student_s_distribution(found: list[float]) -> None:
    """P(|T| >= |t|), t = mean / (s / sqrt(n)), for whole degrees of freedom: Abramowitz & Stegun 26.7.3 and 26.7.4."""
    n = len(found)
    theta = math.atan2(abs(np.mean(found)) * math.sqrt(n), np.std(found, ddof=1) * math.sqrt(n - 1))
    sine, cosine, odd = math.sin(theta), math.cos(theta), (n - 1) % 2
    term = total = cosine if odd else 1.0
    for k in range(3 if odd else 2, n - 2, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    within = 2 / math.pi * (theta + sine * total * (n > 2)) if odd else sine * total
    assert t_test(found) == pytest.approx(1 - within, abs=1e-9)


# Multiples of 1/64 add up exactly: what is nearly equal would be a tie or not by the tolerance.
@given(st.lists(st.integers(-3200, 3200).map(lambda steps: steps / 64), min_size=3, max_size=8))
def test_sign_flips_are_all_patterns_counted(found: list[float]) -> None:
    patterns = list(product((1, -1), repeat=len(found)))
    extreme = sum(abs(sum(s * d for s, d in zip(signs, found, strict=True))) >= abs(sum(found)) for signs in patterns)
    assert sign_flip(found) == pytest.approx(extreme / len(patterns))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20))
def test_rank_correlation_is_that_of_the_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    first, second = (pd.Series([pair[place] for pair in pairs], dtype="Float64") for place in (0, 1))
    ranks = [series.rank(method="average").to_numpy("float64") for series in (first, second)]
    found = spearman(first, second)
    if first.nunique() == 1 or second.nunique() == 1:
        assert found is None
    else:
        assert found == pytest.approx(np.corrcoef(*ranks)[0, 1])


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
