"""The small laws of figures' data."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconv_search.records import Metric
from sconv_search.reports.drawing.chart import (
    Axis,
    Chart,
    Trace,
    point_of,
    robust_limits,
    split_at_edge,
    spread_apart,
    thinned,
)

ACCURACY, ERROR = Metric("top-1", unit="%"), Metric("error", unit="%", better="lower")
LOSS = Metric("val loss", unit="nat", better="lower")


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_spread_heights_keep_their_order_their_distance_and_the_limits(heights: list[float]) -> None:
    moved = spread_apart(heights, 1.0, (0.0, 10.0))
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    for first, second in pairwise(order):
        assert moved[second] - moved[first] >= 1 - 1e-9
    assert all(-1e-9 <= height <= 10 + 1e-9 for height in moved)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True))
def test_heights_that_are_apart_are_not_moved(heights: list[int]) -> None:
    assert spread_apart([float(height) for height in heights], 1.0, (0.0, 10.0)) == heights


@given(st.integers(1, 500), st.integers(2, 60))
def test_thinning_keeps_the_ends_and_the_limit(count: int, most: int) -> None:
    places = thinned(count, most)
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, count - 1)
    assert len(places) == min(count, most)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_robust_limits_hold_the_best_half(scores: list[float]) -> None:
    for metric in (ACCURACY, ERROR):
        low, high = robust_limits(scores, metric)
        inside = [score for score in scores if low <= score <= high]
        assert len(inside) >= len(scores) / 2
        assert max(scores, key=metric.quality) in inside


def test_a_trace_splits_at_the_edge_and_loses_nothing() -> None:
    trace = Trace(
        name="a",
        style="a",
        kind="strong",
        x=[1, 2, 3],
        y=[9.0, 1.0, 8.0],
        errors=[1, 2, None],
        texts=["p", "q", "r"],
        keys=(),
    )
    inside, below = split_at_edge(trace, (5.0, 10.0), ACCURACY)
    assert (inside.x, inside.y, inside.errors, inside.texts) == ([1, 3], [9, 8], [1, None], ["p", "r"])
    assert (below.kind, below.x, below.y, below.errors, below.texts) == ("below", [2], [5], (), ["q"])
    (whole,) = split_at_edge(trace, (0.0, 10.0), ACCURACY)
    assert (whole.kind, whole.x, whole.y) == ("strong", trace.x, trace.y)
    _, above = split_at_edge(trace, (0.0, 8.5), LOSS)
    assert (above.kind, above.x, above.y) == ("above", [1], [8.5])


def test_a_point_is_a_hundredth_of_scores_that_are_not_in_percent() -> None:
    assert point_of([90.0, 95.0], ACCURACY) == 1
    assert point_of([0.2, 0.3, 0.9], LOSS) == pytest.approx(0.003)


def test_a_line_has_small_points_unless_larger_ones_of_its_name_lie_upon_it() -> None:
    line = Trace(name="a", style="a", kind="line", x=[1.0, 2.0], y=[1.0, 2.0], texts=["", ""])
    points = Trace(name="a", style="a", kind="hollow", x=[1.0, 2.0], y=[1.0, 2.0])
    other, front = replace(line, name="b"), replace(line, name="c", texts=())
    chart = Chart(title="t", x=Axis(label="x"), y=Axis(label="y"), traces=[line, points, other, front])
    assert [chart.dotted(trace) for trace in (line, other, front)] == [False, True, False]
