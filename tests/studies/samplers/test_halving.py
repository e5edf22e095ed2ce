"""One rung of successive halving: Optuna's pruner with one objective, ranks by dominance with several."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search.studies.samplers.halving import Halving, promoted

PROPERTY = settings(deadline=None, derandomize=True, max_examples=20)


def trained(values: list[float], reduction: int) -> list[bool]:
    """What a study of one objective trains that judges these one after the other."""
    halving = Halving(reduction, 1)
    return [halving.promotes([value]) for value in values]


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=15))
@PROPERTY
def test_without_reduction_all_are_trained(values: list[float]) -> None:
    assert all(trained(values, 1))


@given(st.permutations(range(24)), st.integers(2, 6))
@PROPERTY
def test_the_best_share_of_all_so_far_is_trained_and_at_least_the_best(values: list[int], reduction: int) -> None:
    expected = []
    for place in range(len(values)):
        seen = values[: place + 1]
        rank = sorted(seen, reverse=True).index(seen[-1])
        expected.append(rank < max(1, len(seen) // reduction))
    assert trained([float(value) for value in values], reduction) == expected


def test_of_plans_that_come_in_any_order_about_one_in_so_many_is_trained() -> None:
    values = [float(value) for value in range(300)]
    random.Random(0).shuffle(values)
    assert 1 / 3 <= sum(trained(values, 3)) / 300 <= 0.4


@pytest.mark.parametrize("objectives", [1, 2])
def test_what_was_judged_before_an_interruption_counts_once(objectives: int) -> None:
    """A study that goes on is told the values on record, and promotes what an uninterrupted one does."""
    drawn = random.Random(1)
    values = [tuple(drawn.random() for _ in range(objectives)) for _ in range(30)]
    whole, first, again = (Halving(3, objectives) for _ in range(3))
    wanted = [whole.promotes(value) for value in values]
    for value in values[:17]:
        first.promotes(value)
    for value in values[:12]:
        again.promotes(value)
    assert [again.promotes(value) for value in values[12:]] == wanted[12:]


def test_with_several_objectives_dominance_decides() -> None:
    values = [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.4, 0.4), (0.0, 0.0), (2.0, 2.0)]
    halving = Halving(2, 2)
    assert [halving.promotes(value) for value in values] == [promoted(values[: k + 1], 2) for k in range(len(values))]
