"""Hypervolumes against an independent library, and by hand."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sconv_search.reports.hypervolume import REFERENCE, hypervolume, hypervolume_course

# Few values, so that ties are common, and some outside of the reference point.
costs = st.one_of(st.integers(0, 13).map(lambda ten: 10.0 * ten), st.floats(0, 130))
scores = st.one_of(st.integers(-1, 10).map(lambda ten: 10.0 * ten), st.floats(-10, 100))
points = st.lists(st.tuples(costs, scores), min_size=1, max_size=25)


@given(points)
def test_it_is_moocore_s(found: list[tuple[float, float]]) -> None:
    ours = np.array([[cost, -score] for cost, score in found])
    assert hypervolume(found) == pytest.approx(moocore.hypervolume(ours, ref=np.array([100.0, 0.0])), abs=1e-8)


@given(points)
def test_the_course_is_the_hypervolume_of_every_beginning(found: list[tuple[float, float]]) -> None:
    course = hypervolume_course(found)
    assert course == pytest.approx([hypervolume(found[: place + 1]) for place in range(len(found))], abs=1e-8)
    assert course == sorted(course)


@given(points, st.randoms())
def test_the_order_of_points_does_not_matter(found: list[tuple[float, float]], rng) -> None:
    mixed = list(found)
    rng.shuffle(mixed)
    assert hypervolume(mixed) == pytest.approx(hypervolume(found), abs=1e-8)


def test_by_hand() -> None:
    assert REFERENCE == (100, 0)
    assert hypervolume([]) == 0
    assert hypervolume([(50, 80), (25, 60), (60, 70)]) == 50 * 80 + 25 * 60
    assert hypervolume([(100, 90), (50, 0)]) == 0
