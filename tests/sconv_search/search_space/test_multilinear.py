"""Functions that are linear in each variable are exact everywhere that their points span."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search.search_space.multilinear import Multilinear, products, spanning

PROPERTY = settings(deadline=None, derandomize=True, max_examples=50)
FACTORS = st.lists(st.integers(-(10**6), 10**6), min_size=8, max_size=8)
POINTS = st.lists(st.tuples(*[st.integers(1, 2048)] * 3), min_size=1, max_size=40)
SMALL = np.array([(i, o, r) for i in range(1, 4) for o in range(1, 4) for r in range(1, 3)])


def values(points: np.ndarray, factors: list[int]) -> np.ndarray:
    return products(points) @ np.array(factors)[:, None]


@given(FACTORS, POINTS)
@PROPERTY
def test_eight_points_tell_the_function_of_three_variables_everywhere(factors, points) -> None:
    chosen, far = spanning(SMALL), np.array(points)
    assert len(chosen) == 8
    found = Multilinear.through(SMALL[chosen], values(SMALL[chosen], factors))
    assert found.knows(far)
    assert found(far).tolist() == values(far, factors).tolist()


@given(FACTORS, POINTS)
@PROPERTY
def test_any_points_tell_the_function_at_all_points_that_they_span(factors, points) -> None:
    every = np.array(points)
    chosen = spanning(every)
    found = Multilinear.through(every[chosen], values(every[chosen], factors))
    assert found.knows(every)
    assert found(every).tolist() == values(every, factors).tolist()


def test_points_on_a_line_do_not_tell_what_lies_beside_it() -> None:
    line = np.array([(size, size) for size in range(2, 7)])
    chosen = spanning(line)
    found = Multilinear.through(line[chosen], 7 * line[chosen, :1])
    assert len(chosen) == 3  # 1, the size and its square
    assert found.knows(np.array([[64, 64]]))
    assert found(np.array([[64, 64]])).tolist() == [[448]]
    assert not found.knows(np.array([[64, 63]]))


def test_great_values_do_not_overflow() -> None:
    points = np.array([(1,), (2,)])
    found = Multilinear.through(points, np.array([[0], [2**40]]))
    assert found(np.array([[2**20 + 1]])).tolist() == [[2**60]]


def test_dependent_points_are_refused() -> None:
    with pytest.raises(ValueError, match="3 points were given, of which 2 are independent"):
        Multilinear.through(np.array([(1,), (2,), (3,)]), np.array([[1], [2], [3]]))


def test_a_fraction_says_that_the_function_is_none_of_these() -> None:
    found = Multilinear.through(np.array([(1,), (3,)]), np.array([[0], [1]]))
    with pytest.raises(ValueError, match="not linear in each variable"):
        found(np.array([[2]]))
