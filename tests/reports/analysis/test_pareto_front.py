"""The Pareto front against its definition."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconv_search.reports import pareto_front

# Few values, so that ties are common.
numbers = st.one_of(st.none(), st.integers(0, 5).map(float))
points = st.lists(st.tuples(numbers, numbers), max_size=12)


def frame(
    rows: list[tuple[float | None, float | None]], cost: str = "flops", score: str = "test_score"
) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[cost, score]).astype({cost: "Float64", score: "Float64"})


def brute_force(rows: list[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    known = {(cost, score) for cost, score in rows if cost is not None and score is not None}
    beaten = {(c, s) for c, s in known if any(a <= c and b >= s and (a, b) != (c, s) for a, b in known)}
    return sorted(known - beaten)


@given(points)
def test_the_front_is_what_no_other_row_beats(rows: list[tuple[float | None, float | None]]) -> None:
    front = pareto_front(frame(rows), "flops", "test_score")
    assert list(front.itertuples(index=False, name=None)) == brute_force(rows)


@given(points)
def test_the_direction_of_a_score_is_its_metric_s(rows: list[tuple[float | None, float | None]]) -> None:
    negated = [(cost, None if score is None else -score) for cost, score in rows]
    front = pareto_front(frame(negated).assign(metric_better="lower"), "flops", "test_score")
    assert [(cost, -score) for cost, score in zip(front["flops"], front["test_score"], strict=True)] == brute_force(
        rows
    )


def test_metrics_that_differ_have_no_common_front() -> None:
    table = frame([(1, 2), (2, 3)]).assign(metric_better=["lower", "higher"])
    with pytest.raises(ValueError, match="differ in which way is better"):
        pareto_front(table, "flops", "test_score")


@given(points)
def test_directions_come_from_the_columns(rows: list[tuple[float | None, float | None]]) -> None:
    """A score of which less is better (residual) gives the front of the negated score."""
    negated = [(cost, None if score is None else -score) for cost, score in rows]
    front = pareto_front(frame(negated, score="residual"), "flops", "residual")
    assert [(cost, -score) for cost, score in front.itertuples(index=False, name=None)] == brute_force(rows)


def test_of_equal_rows_the_first_stays_and_the_argument_is_unchanged() -> None:
    table = frame([(1, 80), (2, 70), (1, 80)])
    before = table.copy()
    assert pareto_front(table, "flops", "test_score").index.to_list() == [0]
    pd.testing.assert_frame_equal(table, before)


def test_rows_are_found_by_place_where_index_labels_repeat() -> None:
    table = frame([(3, 90), (1, 80), (2, 70)]).set_index(pd.Index([7, 7, 7]))
    assert pareto_front(table, "flops", "test_score")["flops"].to_list() == [1, 3]


@pytest.mark.parametrize("name", ["study", "color", "latency_ms"])
def test_a_column_without_direction_or_not_there_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*flops, test_score"):
        pareto_front(frame([(1, 2)]), name, "test_score")
