"""Hypervolumes by a sum of rectangles, and by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconv_search.records import Metric
from sconv_search.reports.analysis.fronts import hypervolume, hypervolume_curve, worst_score

ACCURACY, ERROR = Metric("top-1", unit="%"), Metric("error", unit="%", better="lower")

# Few values, so that ties are common, and some outside of the reference point.
costs = st.one_of(st.integers(0, 13).map(lambda ten: 10.0 * ten), st.floats(0, 130))
scores = st.one_of(st.integers(-1, 10).map(lambda ten: 10.0 * ten), st.floats(-10, 100))
points = st.lists(st.tuples(costs, scores), min_size=1, max_size=25)


def area(found: list[tuple[float, float]], metric: Metric = ACCURACY) -> float:
    made = hypervolume([cost for cost, _ in found], [score for _, score in found], metric)
    assert made is not None
    return made


@given(points)
def test_it_is_the_sum_of_rectangles_between_the_sorted_costs(found: list[tuple[float, float]]) -> None:
    """As the area was computed before a library did it."""
    inside = [(cost, score) for cost, score in found if cost < 100 and score > 0]
    costs = [*sorted({cost for cost, _ in inside}), 100.0]
    expected = sum(
        (right - left) * max(score for cost, score in inside if cost <= left) for left, right in pairwise(costs)
    )
    assert area(found) == pytest.approx(expected / 100, abs=1e-8)


@given(points)
def test_the_curve_is_the_hypervolume_of_every_beginning(found: list[tuple[float, float]]) -> None:
    curve = hypervolume_curve(*zip(*found, strict=True), ACCURACY)
    assert curve == pytest.approx([area(found[: end + 1]) for end in range(len(found))], abs=1e-8)
    assert curve == sorted(curve)


@given(points)
def test_an_error_has_the_area_of_the_accuracy_that_it_leaves(found: list[tuple[float, float]]) -> None:
    assert area([(cost, 100 - score) for cost, score in found], ERROR) == pytest.approx(area(found), abs=1e-8)


@given(points, st.randoms())
def test_the_order_of_points_does_not_matter(found: list[tuple[float, float]], rng) -> None:
    mixed = list(found)
    rng.shuffle(mixed)
    assert area(mixed) == pytest.approx(area(found), abs=1e-8)


def test_by_hand() -> None:
    assert area([]) == 0
    assert area([(50, 80), (25, 60), (60, 70)]) == pytest.approx((50 * 80 + 25 * 60) / 100)
    assert area([(100, 90), (50, 0)]) == 0


def test_scores_without_a_worst_value_have_no_area() -> None:
    loss = Metric("val loss", unit="nat", better="lower")
    assert worst_score(loss) is None
    assert hypervolume([50.0], [0.3], loss) is None
