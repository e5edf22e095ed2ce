"""Where several methods are searched, preferences reach plans that the damage table alone would never make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sconv_search.budget import Budget
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.decoder import Filling
from sconv_search.search_space.heuristics import imitating
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.search_space.tables import SpaceArrays
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.surrogate import Surrogate

GENTLE, HARSH = "structured_conv", "weight_svd"
"""Of equal cost at each step; the damage table believes the second to do twice the harm."""


def option(method: str, step: int) -> Option:
    damage = step**2 / 50 * (1 if method == GENTLE else 2)
    return Option(
        choice=Choice(method=method, structure={"c": step}),
        cost=Cost(macs=-100 * step, adds=0, params=0),
        damage=damage,
    )


BOTH = tuple(option(method, step) for method in (GENTLE, HARSH) for step in range(1, 7))
ONE = tuple(one for one in BOTH if one.choice.method == HARSH)
SPACE = SearchSpace(dense=Cost(macs=4000, adds=0, params=10), sites={"a": BOTH, "b": BOTH, "c": BOTH, "d": ONE})
ARRAYS = SpaceArrays(SPACE)
FILLING = Filling(ARRAYS, Budget(limit=5200))
SINGLE_PROCESS = RandomKeys(ARRAYS, {name: name for name in SPACE.sites})


def methods(plan: CompressionPlan) -> dict[str, str]:
    return {name: choice.method for name, choice in plan.sites.items()}


def decoded(values: dict[str, float]) -> CompressionPlan:
    values_PG = np.array([[values.get(name, 0.0) for name in SINGLE_PROCESS.names]])
    return ARRAYS.plan(FILLING.positions(SINGLE_PROCESS.by_option(values_PG), np.ones(1))[0])


def test_a_site_has_a_preference_for_each_method_that_it_offers() -> None:
    assert SINGLE_PROCESS.names == (
        "a/structured_conv",
        "a/weight_svd",
        "b/structured_conv",
        "b/weight_svd",
        "c/structured_conv",
        "c/weight_svd",
        "d/weight_svd",
    )


def test_one_method_needs_none_of_its_own() -> None:
    alone = SearchSpace(dense=SPACE.dense, sites={name: SPACE.sites["d"] for name in "abc"})
    random_keys = RandomKeys(SpaceArrays(alone), {"a": "first", "b": "first", "c": "second"})
    assert random_keys.names == ("first", "second")
    assert random_keys.by_name(np.array([[1.0], [2.0], [5.0]])) == {"first": 1.5, "second": 5.0}


def test_a_group_has_the_mean_of_the_sites_that_offer_the_method() -> None:
    random_keys = RandomKeys(ARRAYS, {"a": "first", "b": "first", "c": "second", "d": "second"})
    values_SM = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 50.0], [99.0, 70.0]])
    assert random_keys.by_name(values_SM) == {
        "first/structured_conv": 2.0,
        "first/weight_svd": 20.0,
        "second/structured_conv": 5.0,
        "second/weight_svd": 60.0,
    }


def test_no_preference_takes_the_method_of_least_damage_and_a_preference_another() -> None:
    assert methods(decoded({})) == {"a": GENTLE, "b": GENTLE, "c": GENTLE, "d": HARSH}
    assert methods(decoded({"b/weight_svd": -1.5})) == {"a": GENTLE, "b": HARSH, "c": GENTLE, "d": HARSH}


@pytest.mark.parametrize(
    "values", [{"b/weight_svd": -1.5}, {"a/weight_svd": -2.0, "c/weight_svd": -1.0, "b/structured_conv": 1.0}]
)
def test_imitation_finds_preferences_for_the_methods_of_a_plan(values: dict[str, float]) -> None:
    wanted = decoded(values)
    assert methods(wanted) != methods(decoded({}))
    assert decoded(SINGLE_PROCESS.by_name(imitating(FILLING, ARRAYS.positions(wanted)))) == wanted


def test_imitation_swaps_the_method_of_a_site_that_saves_less_than_in_the_plan() -> None:
    wanted = decoded(
        {"b/weight_svd": -2.5, "b/structured_conv": 1.0, "a/structured_conv": 1.0, "c/structured_conv": 1.0}
    )
    found = SINGLE_PROCESS.by_name(imitating(FILLING, ARRAYS.positions(wanted)))
    assert methods(decoded(found))["b"] == methods(wanted)["b"] == HARSH
    assert found["b/weight_svd"] < 0 < found["b/structured_conv"]


def test_the_surrogate_learns_that_a_site_bears_a_method_better_than_the_table_believes() -> None:
    """The table makes no difference between methods, all plans save the same everywhere, and yet they are told
    apart.
    """
    alike = tuple(replace(one, damage=0.3) for one in BOTH)
    arrays = SpaceArrays(SearchSpace(dense=SPACE.dense, sites={"a": alike, "b": alike, "c": alike}))
    rng, surrogate = np.random.default_rng(0), Surrogate(arrays)

    def plan(taken: str) -> CompressionPlan:
        known = dict(zip("abc", taken, strict=True))
        return CompressionPlan(
            sites={
                name: Choice(method=GENTLE if letter == "g" else HARSH, structure={"c": 4})
                for name, letter in known.items()
            }
        )

    for taken in ("ggg", "hgg", "ghg", "ggh", "hhg", "ghh"):
        score = 80 + 4 * (taken[0] == "h") - taken[1:].count("h") + rng.normal(0, 0.01)
        surrogate.learn(arrays.positions(plan(taken)), score)
    assert surrogate.pick(np.array([arrays.positions(plan(taken)) for taken in ("hhh", "hgh")])) == 1
