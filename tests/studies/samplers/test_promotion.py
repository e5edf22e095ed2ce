from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search.studies.samplers.halving import promoted

PROPERTY = settings(deadline=None, derandomize=True)
PLAN = st.tuples(st.integers(-5, 5), st.integers(-5, 5))


def trained(scores: list[tuple[float, ...]], reduction: int) -> list[bool]:
    """What a study that judges one after the other trains."""
    return [promoted(scores[: place + 1], reduction) for place in range(len(scores))]


@given(st.lists(PLAN, min_size=1, max_size=20))
@PROPERTY
def test_without_reduction_all_are_trained(judged) -> None:
    assert all(trained(judged, 1))


@given(st.lists(PLAN, min_size=1, max_size=20), st.integers(2, 5))
@PROPERTY
def test_the_first_is_always_trained_and_so_is_one_that_nothing_beats(judged, reduction) -> None:
    assert promoted(judged[:1], reduction)
    best = (max(a for a, _ in judged), max(b for _, b in judged))
    assert promoted([*judged, best], reduction)


@given(st.permutations(range(1, 31)), st.integers(2, 6))
@PROPERTY
def test_with_one_objective_the_best_share_of_all_so_far_is_trained(values, reduction) -> None:
    for place in range(len(values)):
        seen = values[: place + 1]
        rank = sorted(seen, reverse=True).index(seen[-1])
        assert promoted([(value,) for value in seen], reduction) == (rank < len(seen) / reduction)


def test_of_plans_that_get_worse_one_in_so_many_is_trained() -> None:
    """The worst of all so far never is, but the first."""
    assert trained([(-float(n),) for n in range(12)], 3) == [True] + [False] * 11
    assert trained([(float(n),) for n in range(12)], 3) == [True] * 12


def test_equal_plans_do_not_beat_each_other() -> None:
    assert trained([(1.0,)] * 5, 4) == [True] * 5


@pytest.mark.parametrize(("own", "wanted"), [((2, 0), True), ((0, 0), False), ((1, 1), True), ((1, 0), False)])
def test_with_two_objectives_only_what_is_better_in_both_counts(own: tuple[int, int], wanted: bool) -> None:
    """(1, 1) and (1, 2) are at least as good as (0, 0) and as (1, 0) in both."""
    assert promoted([(1, 1), (1, 2), own], 2) == wanted
