from __future__ import annotations

import numpy as np
import pytest

from sconv_search import Choice, CompressionPlan, Cost
from sconv_search.search_space.space import Coupling, Option, SearchSpace
from sconv_search.search_space.tables import SpaceArrays


def option(keep: int, macs: int, damage: float, dropped: int = 0) -> Option:
    choice = Choice(method="channel_pruning", structure={"keep": keep})
    return Option(choice=choice, cost=Cost(macs=-macs, adds=3, params=0), damage=damage, dropped=dropped)


SPACE = SearchSpace(
    dense=Cost(macs=1000, adds=0, params=10),
    sites={"b": (option(1, 50, 0.5, 2), option(2, 20, 0.1, 1)), "a": (option(4, 70, 0.7, 3),)},
    couplings=(Coupling(first="a", second="b", cost=Cost(macs=10, adds=2, params=0), pairs=2),),
)


def test_the_arrays_follow_the_spaces_order_with_dense_first() -> None:
    arrays = SpaceArrays(SPACE)
    assert arrays.names == ("b", "a")
    np.testing.assert_array_equal(arrays.damage_SO, [[0, 0.5, 0.1], [0, 0.7, np.inf]])
    np.testing.assert_array_equal(arrays.dropped_SO, [[0, 2, 1], [0, 3, 0]])
    np.testing.assert_array_equal(arrays.saving_SO("flops"), [[0, 97, 37], [0, 137, 0]])
    np.testing.assert_array_equal(arrays.coupled_SS("flops"), [[0, 11], [11, 0]])


def test_every_plan_has_its_own_positions_and_comes_back_from_them() -> None:
    arrays, seen = SpaceArrays(SPACE), set()
    for at_S in ([b, a] for b in range(3) for a in range(2)):
        plan = arrays.plan(np.array(at_S))
        seen.add(plan)
        np.testing.assert_array_equal(arrays.positions(CompressionPlan.from_json(plan.to_json())), at_S)
        (damage,) = arrays.taken_PS(arrays.damage_SO, np.array([at_S])).sum(axis=1)
        assert damage == pytest.approx(SPACE.damage(plan))
    assert len(seen) == 6


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_plan_that_the_space_does_not_offer_is_refused(name: str) -> None:
    other = CompressionPlan(sites={name: Choice(method="channel_pruning", structure={"keep": 2})})
    with pytest.raises(ValueError, match=rf"the search space offers no channel_pruning .* at site '{name}'"):
        SpaceArrays(SPACE).positions(other)


def test_of_equal_choices_at_a_site_the_first_counts() -> None:
    twice = SearchSpace(dense=SPACE.dense, sites={"a": (option(4, 70, 0.7), option(4, 10, 0.1))})
    plan = CompressionPlan(sites={"a": option(4, 0, 0).choice})
    assert SpaceArrays(twice).positions(plan).tolist() == [1]
    assert twice.damage(plan) == 0.7
