from __future__ import annotations

import json
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search import Budget, Choice, CompressionPlan, Cost
from sconv_search.search_space.decoder import fill, greedy
from sconv_search.search_space.heuristics import uniform
from sconv_search.search_space.space import Option, SearchSpace

ROOM = Cost(macs=1000, adds=0, params=100)


def option(rank: int, saved: int, damage: float) -> Option:
    cost = Cost(macs=-saved, adds=0, params=-1)
    return Option(choice=Choice(method="spatial_svd", structure={"rank": rank}), cost=cost, damage=damage)


def space(*sites: list[tuple[int, float]]) -> SearchSpace:
    """Sites a, b, ... with options of (MACs saved, damage)."""
    named = {
        chr(97 + place): [option(rank, *pair) for rank, pair in enumerate(pairs)] for place, pairs in enumerate(sites)
    }
    return SearchSpace(dense=ROOM, sites={name: tuple(options) for name, options in named.items()})


SITES = st.lists(
    st.lists(st.tuples(st.integers(1, 200), st.floats(0, 5)), min_size=1, max_size=4), min_size=1, max_size=4
)


@given(SITES, st.integers(1, 1000), st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(1, 4))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_every_decoded_plan_fits_or_the_budget_is_refused(sites, limit, random_keys, sharpness) -> None:
    found, budget = space(*sites), Budget(limit=limit, quantity="macs")
    wishes = dict(zip("abcd", random_keys, strict=True))
    if found.floor(budget).macs > limit:
        with pytest.raises(ValueError, match="cannot be met: the cheapest plan needs"):
            fill(found, wishes, budget, sharpness)
    else:
        assert found.cost(fill(found, wishes, budget, sharpness)).macs <= limit
        assert found.cost(uniform(found, budget)).macs <= limit


@given(SITES, st.integers(1, 1000))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_the_floor_is_the_least_of_all_plans(sites, limit) -> None:
    found = space(*sites)
    choices = [[0, *(option.cost.macs for option in options)] for options in found.sites.values()]
    least = min(1000 + sum(picked) for picked in product(*choices))
    assert found.floor(Budget(limit=limit, quantity="macs")).macs == least


def test_the_greedy_plan_takes_what_hurts_least_for_what_it_saves() -> None:
    found = space([(100, 1.0)], [(100, 0.1)], [(100, 5.0)])
    assert set(greedy(found, Budget(limit=900, quantity="macs")).sites) == {"b"}
    assert set(greedy(found, Budget(limit=800, quantity="macs")).sites) == {"a", "b"}


def test_a_preference_protects_its_site() -> None:
    found, budget = space([(100, 1.0)], [(100, 0.5)]), Budget(limit=900, quantity="macs")
    assert set(fill(found, {}, budget).sites) == {"b"}
    assert set(fill(found, {"b": 1.0}, budget).sites) == {"a"}


def test_sharpness_spreads_the_damage() -> None:
    """One option of damage 1.0 against two of 0.6: the sum prefers the one, the largest prefers the two."""
    found, budget = space([(200, 1.0)], [(100, 0.6)], [(100, 0.6)]), Budget(limit=800, quantity="macs")
    assert set(fill(found, {}, budget, 1.0).sites) == {"a"}
    assert set(fill(found, {}, budget, 4.0).sites) == {"b", "c"}


def test_slack_is_given_back() -> None:
    """Site a's one great step overshoots the second time; then the small saving of b is not needed any more."""
    found = space([(500, 1.0)], [(100, 0.1)])
    assert set(greedy(found, Budget(limit=900, quantity="macs")).sites) == {"b"}
    assert set(greedy(found, Budget(limit=600, quantity="macs")).sites) == {"a"}


def test_a_budget_of_all_leaves_the_network_dense() -> None:
    budget = Budget(limit=1000, quantity="macs")
    assert greedy(space([(100, 1.0)]), budget) == CompressionPlan(sites={})
    assert uniform(space([(100, 1.0)]), budget) == CompressionPlan(sites={})


def test_the_uniform_plan_keeps_the_same_share_everywhere() -> None:
    ladder = [(saved, 0.0) for saved in range(30, 301, 30)]
    plan = uniform(space(ladder, ladder, ladder), Budget(limit=550, quantity="macs"))
    assert {choice.structure["rank"] for choice in plan.sites.values()} == {4}


def test_the_uniform_plan_takes_an_option_that_saves_more_where_it_harms_less() -> None:
    found = space(
        [(40, 0.5), (60, 0.9), (100, 0.2), (150, 1.5), (300, 2.0)], [(30 * step, step / 10) for step in range(1, 11)]
    )
    plan = uniform(found, Budget(limit=860, quantity="macs"))
    assert {name: choice.structure["rank"] for name, choice in plan.sites.items()} == {"a": 2, "b": 1}


@given(SITES)
@settings(deadline=None, derandomize=True, max_examples=25)
def test_a_space_survives_json(sites) -> None:
    assert SearchSpace.from_json(space(*sites).to_json()) == space(*sites)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "other"}', "[1]", '{"format": "sconv-search space 1", "dense": {}}']
)
def test_damaged_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a search space"):
        SearchSpace.from_json(text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *((name, -1, "must be at least 0") for name in ("damage", "error", "dropped")),
        *((name, 1e101, r"must be at most 1e\+100") for name in ("damage", "error")),
    ],
)
def test_harm_that_nobody_can_have_measured_is_refused(name: str, value: float, said: str) -> None:
    """Squares of it would be no numbers."""
    document = json.loads(space([(3, 0.5)]).to_json())
    document["sites"]["a"][0][name] = value
    with pytest.raises(ValueError, match=rf"not a search space: field 'sites.a\[0\].{name}' {said}, got "):
        SearchSpace.from_json(json.dumps(document))


def test_a_network_without_options_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer of the network can be compressed"):
        SearchSpace(dense=ROOM, sites={})
