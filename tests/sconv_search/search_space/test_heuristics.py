"""The rules' plans; the uniform rule's choices are tested with the search space, too."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search import Choice, CompressionPlan, Cost
from sconv_search.budget import AnyBudget, Budget, Budgets
from sconv_search.search_space.decoder import Filling, fill
from sconv_search.search_space.heuristics import (
    MOST_PREFERENCE,
    RULES,
    imitating,
    least_error,
    least_squares,
    minimax,
    spatial_structure,
    uniform,
)
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.search_space.tables import SpaceArrays

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)
DENSE = Cost(macs=1000, adds=0, params=1000)
OPTIONS = st.tuples(st.integers(1, 250), st.integers(1, 250), st.floats(0, 5), st.none() | st.floats(0, 1))
SITES = st.lists(st.lists(OPTIONS, min_size=1, max_size=3), min_size=1, max_size=4)


def option(structure: dict[str, int], macs: int, params: int, damage: float, error: float | None) -> Option:
    choice = Choice(method="any", structure=structure)
    return Option(choice=choice, cost=Cost(macs=-macs, adds=0, params=-params), damage=damage, error=error)


def space(sites: list[list[tuple[int, int, float, float | None]]]) -> SearchSpace:
    """Sites a, b, ... with options of (MACs saved, parameters saved, damage, error)."""
    named = {
        chr(97 + i): tuple(option({"rank": n}, *o) for n, o in enumerate(options)) for i, options in enumerate(sites)
    }
    return SearchSpace(dense=DENSE, sites=named)


def macs(limit: int) -> Budget:
    return Budget(limit=limit, quantity="macs")


def budgets_of(first: int, second: int) -> tuple[AnyBudget, ...]:
    return macs(first), Budgets(limits=(macs(first), Budget(limit=second, quantity="params")))


@pytest.mark.parametrize("name", list(RULES))
@given(sites=SITES, first=st.integers(1, 1000), second=st.integers(1, 1000))
@PROPERTY
def test_a_rule_gives_a_plan_that_fits_or_none_or_refuses(name, sites, first, second) -> None:
    """Refused by a rule that always has a plan is only what cannot be met."""
    found = space(sites)
    for budget in budgets_of(first, second):
        reachable = (
            all(one.excess(found.floor(one)) <= 0 for one in budget.limits) and budget.excess(found.floor(budget)) <= 0
        )
        if not reachable and name in ("greedy", "minimax", "uniform"):
            with pytest.raises(ValueError, match="cannot be met"):
                RULES[name](found, budget)
            continue
        plan = RULES[name](found, budget)
        assert plan is None or budget.excess(found.cost(plan)) <= 0
        assert plan is not None or name in ("least_error", "least_squares", "spatial_structure")


def largest_error(found: SearchSpace, plan: CompressionPlan) -> float:
    errors = [found.option(name, choice).error for name, choice in plan.sites.items()]
    assert all(error is not None for error in errors)
    return max((error for error in errors if error is not None), default=0.0)


@given(SITES, st.integers(1, 999))
@PROPERTY
def test_the_least_error_is_that_of_brute_force(sites, limit) -> None:
    found, budget = space(sites), macs(limit)
    known = [[None, *(o for o in options if o.error is not None)] for options in found.sites.values()]
    fitting = []
    for picked in product(*known):
        taken = [one for one in picked if one is not None]
        if 1000 + sum(one.cost.macs for one in taken) <= limit:
            fitting.append(max(one.error for one in taken))
    plan = least_error(found, budget)
    assert (plan is None) == (not fitting)
    if plan is not None:
        assert largest_error(found, plan) == min(fitting)


def test_the_least_error_knows_sites_with_errors_alone() -> None:
    found = space([[(300, 1, 0.1, None)], [(200, 1, 0.1, 0.5)]])
    assert set((least_error(found, macs(800)) or CompressionPlan()).sites) == {"b"}
    assert least_error(found, macs(700)) is None


def squares(found: SearchSpace, plan: CompressionPlan) -> float:
    return sum((found.option(name, choice).error or 0.0) ** 2 for name, choice in plan.sites.items())


@given(SITES, st.integers(1, 999))
@PROPERTY
def test_no_cheaper_plan_has_a_lesser_sum_of_squared_errors(sites, limit) -> None:
    """By brute force: what one price for all layers gives is the best among the plans that cost as much or less."""
    found, budget = space(sites), macs(limit)
    known = [[None, *(o for o in options if o.error is not None)] for options in found.sites.values()]
    plans = [[one for one in picked if one is not None] for picked in product(*known)]
    plan = least_squares(found, budget)
    assert (plan is None) == all(1000 + sum(one.cost.macs for one in taken) > limit for taken in plans)
    if plan is not None:
        cost = found.cost(plan).macs
        least = min(sum(o.error**2 for o in taken) for taken in plans if 1000 + sum(o.cost.macs for o in taken) <= cost)
        assert squares(found, plan) <= least + 1e-6


def test_the_least_squares_save_where_an_error_is_small_for_what_it_saves() -> None:
    found = space([[(300, 1, 0.1, 0.5)], [(150, 1, 0.1, 0.2)], [(150, 1, 0.1, 0.2)], [(40, 1, 0.1, 0.3)]])
    assert set((least_squares(found, macs(700)) or CompressionPlan()).sites) == {"b", "c"}


def test_the_minimax_plan_spares_the_most_damaged_site() -> None:
    found = space([[(200, 1, 1.0, None)], [(100, 1, 0.6, None)], [(100, 1, 0.6, None)]])
    assert set(minimax(found, macs(800)).sites) == {"b", "c"}


def test_the_uniform_plan_shares_out_the_first_budgets_quantity_until_all_are_met() -> None:
    ladder = [(step * 30, step * 10, 0.1 * step, None) for step in range(1, 11)]
    budgets = Budgets(limits=(macs(1000), Budget(limit=840, quantity="params")))
    plan = uniform(space([ladder, ladder]), budgets)
    assert {choice.structure["rank"] for choice in plan.sites.values()} == {7}, "8 of 10 steps at both sites"


def test_where_steps_are_coarse_the_uniform_plan_fills_the_budget_by_what_spares_most_damage() -> None:
    """All at the second step save 600, where 450 are wanted: b stays at the first, then c would be too much."""
    found = space([[(100, 1, 0.1, None), (200, 1, damage, None)] for damage in (0.2, 0.9, 0.5)])
    plan = uniform(found, macs(550))
    assert {name: choice.structure["rank"] for name, choice in plan.sites.items()} == {"a": 1, "b": 0, "c": 1}
    assert [choice.structure["rank"] for choice in uniform(found, macs(400)).sites.values()] == [1, 1, 1]


def test_the_uniform_plan_spares_a_site_that_could_save_next_to_nothing_while_the_others_suffice() -> None:
    """c could save 20 where the mean site could save 173."""
    ladder = [(step * 25, 1, 0.1 * step, None) for step in range(1, 11)]
    found = space([ladder, ladder, [(20, 1, 0.1, None)]])
    assert set(uniform(found, macs(800)).sites) == {"a", "b"}
    assert set(uniform(found, macs(490)).sites) == {"a", "b", "c"}


def test_the_structured_rule_keeps_channels_and_takes_two_taps() -> None:
    offered = [{"c": 8, "n": 2}, {"c": 4, "n": 2}, {"c": 8, "n": 1}, {"c": 8, "n": 2, "merged": 1}]
    structured = tuple(option(structure, 200, 1, 0.1, None) for structure in offered)
    other = (option({"rank": 3}, 300, 1, 0.1, None),)
    found = SearchSpace(dense=DENSE, sites={"a": structured, "b": other})
    assert spatial_structure(found, macs(800)) == CompressionPlan(
        sites={"a": Choice(method="any", structure=offered[0])}
    )
    assert spatial_structure(found, macs(799)) is None
    assert spatial_structure(SearchSpace(dense=DENSE, sites={"b": other}), macs(1000)) is None


def preferences_of(found: SearchSpace, plan: CompressionPlan, budget: Budget) -> dict[str, float]:
    filling = Filling(SpaceArrays(found), budget)
    return dict(zip(found.sites, imitating(filling, filling.arrays.positions(plan))[:, 0].tolist(), strict=True))


def savings(found: SearchSpace, plan: CompressionPlan) -> dict[str, int]:
    return {name: -found.option(name, choice).cost.macs for name, choice in plan.sites.items()}


def ladders(sites: list[tuple[float, int]]) -> SearchSpace:
    """Sites with six ever more harmful steps: (scale of the damages, MACs of a step)."""
    return space([[(step * n, 1, scale * step**2 / 10, None) for step in range(1, 7)] for scale, n in sites])


LADDERS = st.lists(st.tuples(st.floats(0.1, 3), st.integers(5, 30)), min_size=2, max_size=4).map(ladders)


@given(LADDERS, st.floats(0.1, 0.9))
@PROPERTY
def test_the_greedy_plan_needs_no_preference(found, depth) -> None:
    budget = macs(int(1000 + depth * (found.floor(macs(1)).macs - 1000)))
    plan = fill(found, {}, budget)
    assert preferences_of(found, plan, budget) == dict.fromkeys(found.sites, 0.0)


@given(LADDERS, st.floats(0.1, 0.9), st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4))
@PROPERTY
def test_preferences_bring_the_decoder_as_near_as_none_or_nearer(found, depth, wishes) -> None:
    budget = macs(int(1000 + depth * (found.floor(macs(1)).macs - 1000)))
    wanted = fill(found, dict(zip(found.sites, wishes, strict=False)), budget)
    random_keys = preferences_of(found, wanted, budget)
    assert set(random_keys) == set(found.sites)
    assert all(abs(value) <= MOST_PREFERENCE for value in random_keys.values())

    def distance(plan: CompressionPlan) -> int:
        ours, theirs = savings(found, plan), savings(found, wanted)
        return sum(abs(ours.get(name, 0) - theirs.get(name, 0)) for name in found.sites)

    assert distance(fill(found, random_keys, budget)) <= distance(fill(found, {}, budget))


def test_preferences_reproduce_a_plan_that_only_preferences_make() -> None:
    """The decoder finds its way back to a plan with the damages' order turned around."""
    ladder = [(step * 20, 1, step**2 / 10, None) for step in range(1, 9)]
    found, budget = space([ladder, ladder, ladder]), macs(780)
    for wishes in ({"a": 1.5, "b": 0.0, "c": -1.5}, {"a": -2.0, "b": 2.0, "c": 0.0}):
        wanted = fill(found, wishes, budget)
        assert wanted != fill(found, {}, budget)
        assert fill(found, preferences_of(found, wanted, budget), budget) == wanted


def test_preferences_of_a_plan_from_elsewhere_follow_what_it_saves() -> None:
    """A plan that compresses the damaging site most gives it the lowest preference."""
    gentle, harsh = ([(step * 20, 1, scale * step, None) for step in range(1, 9)] for scale in (0.1, 0.3))
    found, budget = space([gentle, harsh]), macs(840)
    wanted = CompressionPlan(sites={"b": found.sites["b"][-1].choice})
    random_keys = preferences_of(found, wanted, budget)
    assert random_keys["b"] < 0 < random_keys["a"]
    assert fill(found, random_keys, budget) == wanted


def test_a_choice_that_the_space_lacks_is_named() -> None:
    found = space([[(100, 1, 0.1, None)]])
    foreign = CompressionPlan(sites={"a": replace(found.sites["a"][0].choice, method="other")})
    with pytest.raises(ValueError, match=r"the search space offers no other \{'rank': 0\} at site 'a'"):
        preferences_of(found, foreign, macs(900))
