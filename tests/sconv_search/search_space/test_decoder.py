"""Plans that fill several budgets, coupled sites among them; single budgets are tested with the search space, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search import Choice, CompressionPlan, Cost
from sconv_search.budget import AnyBudget, Budget, Budgets
from sconv_search.search_space.decoder import Filling, fill, first_fit, step_down
from sconv_search.search_space.space import Coupling, Option, SearchSpace
from sconv_search.search_space.tables import LEAST_DAMAGE, Amounts, SpaceArrays
from tests.sconv_search.search_space.test_interactions import CHAINS as MIXED_CHAINS
from tests.sconv_search.search_space.test_interactions import mixed

CHANNELS = 12
PROPERTY = settings(deadline=None, derandomize=True, max_examples=100)


def option(structure: int, macs: int, params: int, damage: float, dropped: int = 0) -> Option:
    choice = Choice(method="channel_pruning", structure={"keep": structure})
    return Option(choice=choice, cost=Cost(macs=-macs, adds=0, params=-params), damage=damage, dropped=dropped)


def independent(sites: list[list[tuple[int, int, float]]]) -> SearchSpace:
    """Sites a, b, ... with options of (MACs saved, parameters saved, damage)."""
    named = {
        chr(97 + place): tuple(option(n, *o) for n, o in enumerate(options)) for place, options in enumerate(sites)
    }
    return SearchSpace(dense=Cost(macs=1000, adds=0, params=1000), sites=named)


def chain(damages: list[dict[int, float]], pixels: list[int]) -> SearchSpace:
    """A chain of layers of 12 channels each, of which a site drops some; layer i reads site i - 1 and makes site i."""
    names = [f"layer{place}" for place in range(len(damages))]
    area = sum(pixels[: len(names) + 1])
    dense = Cost(macs=CHANNELS**2 * area, adds=0, params=CHANNELS**2 * (len(names) + 1))
    sites = {
        name: tuple(
            option(CHANNELS - drop, CHANNELS * drop * (pixels[i] + pixels[i + 1]), 2 * CHANNELS * drop, damage, drop)
            for drop, damage in damages[i].items()
        )
        for i, name in enumerate(names)
    }
    pairs = [
        Coupling(first=one, second=two, cost=Cost(macs=3 * pixels[i + 1], adds=0, params=3), pairs=3)
        for i, (one, two) in enumerate(pairwise(names))
    ]
    return SearchSpace(dense=dense, sites=sites, couplings=tuple(pairs))


def built_cost(space: SearchSpace, plan: CompressionPlan, pixels: list[int]) -> Cost:
    """The chain's cost by the channels that are left, without sums of differences."""
    left = [
        CHANNELS,
        *(plan.sites[name].structure["keep"] if name in plan.sites else CHANNELS for name in space.sites),
        CHANNELS,
    ]
    weights = [read * made for read, made in pairwise(left)]
    return Cost(macs=sum(w * area for w, area in zip(weights, pixels, strict=False)), adds=0, params=sum(weights))


def all_plans(space: SearchSpace) -> list[CompressionPlan]:
    found = []
    for picked in product(*([None, *options] for options in space.sites.values())):
        chosen = zip(space.sites, picked, strict=True)
        found.append(CompressionPlan(sites={name: option.choice for name, option in chosen if option is not None}))
    return found


def neighbors(space: SearchSpace, plan: CompressionPlan) -> list[CompressionPlan]:
    """Plans that differ at one site."""
    found = []
    for name, options in space.sites.items():
        rest = {other: choice for other, choice in plan.sites.items() if other != name}
        found += [CompressionPlan(sites=rest), *(CompressionPlan(sites={**rest, name: o.choice}) for o in options)]
    return found


SITES = st.lists(
    st.lists(st.tuples(st.integers(1, 200), st.integers(-50, 200), st.floats(0, 5)), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)
DROPS = st.dictionaries(st.integers(1, CHANNELS - 1), st.floats(0, 5), min_size=1, max_size=3)
CHAINS = st.lists(DROPS, min_size=1, max_size=4)
PIXELS = st.lists(st.integers(1, 9), min_size=5, max_size=5)
WISHES = st.lists(st.floats(-3, 3), min_size=4, max_size=4)
SHARPNESS = st.floats(1, 4)


def fits_or_is_refused(
    space: SearchSpace, wishes: list[float], budget: AnyBudget, sharpness: float
) -> CompressionPlan | None:
    """The filled plan; None, checked with the message, where the floor does not fit."""
    random_keys = dict(zip(space.sites, wishes, strict=False))
    if any(one.excess(space.floor(one)) > 0 for one in budget.limits) or budget.excess(space.floor(budget)) > 0:
        with pytest.raises(ValueError, match="cannot be met"):
            fill(space, random_keys, budget, sharpness)
        return None
    plan = fill(space, random_keys, budget, sharpness)
    assert budget.excess(space.cost(plan)) <= 0
    return plan


@given(SITES, st.integers(1, 1000), st.integers(1, 1000), WISHES, SHARPNESS)
@PROPERTY
def test_plans_under_two_budgets_fit_both_or_are_refused(sites, macs, params, wishes, sharpness) -> None:
    """Options that add parameters while they save operations are among them."""
    space = independent(sites)
    budgets = Budgets(limits=(Budget(limit=macs, quantity="macs"), Budget(limit=params, quantity="params")))
    fits_or_is_refused(space, wishes, budgets, sharpness)


@given(CHAINS, PIXELS, st.floats(0.05, 1), st.floats(0.05, 1), WISHES, SHARPNESS)
@PROPERTY
def test_coupled_plans_fit_what_the_chain_costs_as_built(damages, pixels, macs, params, wishes, sharpness) -> None:
    space = chain(damages, pixels)
    limits = [Budget(limit=max(1, int(macs * space.dense.macs)), quantity="macs")]
    limits.append(Budget(limit=max(1, int(params * space.dense.params)), quantity="params"))
    for budget in (limits[0], Budgets(limits=tuple(limits))):
        plan = fits_or_is_refused(space, wishes, budget, sharpness)
        assert plan is None or budget.excess(built_cost(space, plan, pixels)) <= 0


@given(CHAINS, PIXELS)
@settings(deadline=None, derandomize=True, max_examples=20)
def test_the_cost_of_every_coupled_plan_is_that_of_the_channels_left(damages, pixels) -> None:
    space = chain(damages, pixels)
    plans = all_plans(space)
    assert [space.cost(plan) for plan in plans] == [built_cost(space, plan, pixels) for plan in plans]


@given(CHAINS, PIXELS, st.floats(0.05, 1))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_a_single_budget_is_refused_only_if_no_plan_at_all_fits(damages, pixels, share) -> None:
    space = chain(damages, pixels)
    budget = Budget(limit=max(1, int(share * space.dense.macs)), quantity="macs")
    least = min(space.cost(plan).macs for plan in all_plans(space))
    assert space.floor(budget).macs == least
    plan = fits_or_is_refused(space, [], budget, 1.0)
    assert (plan is None) == (least > budget.limit)


def weighed(space: SearchSpace, plan: CompressionPlan, wishes: list[float], sharpness: float) -> float:
    random_keys = dict(zip(space.sites, wishes, strict=False))
    taken = {name: space.option(name, choice).damage for name, choice in plan.sites.items()}
    return sum(damage**sharpness * exp(random_keys[name]) for name, damage in taken.items())


@given(st.one_of(SITES.map(independent), st.builds(chain, CHAINS, PIXELS)), st.floats(0.05, 1), WISHES, SHARPNESS)
@PROPERTY
def test_nothing_more_can_be_given_back(space, share, wishes, sharpness) -> None:
    """No plan that differs at one site fits and harms less."""
    budget = Budget(limit=max(1, int(share * space.dense.macs)), quantity="macs")
    plan = fits_or_is_refused(space, wishes, budget, sharpness)
    if plan is None:
        return
    harm = weighed(space, plan, wishes, sharpness)
    for other in neighbors(space, plan):
        if budget.excess(space.cost(other)) <= 0:
            assert weighed(space, other, wishes, sharpness) >= harm - 1e-9 * max(1.0, harm)


def test_two_coupled_sites_are_stepped_on_until_the_sum_fits() -> None:
    """Each alone saves 6 of 12 channels: half; both leave 36 of the middle layer's 144, not 0."""
    space = chain([{6: 1.0}, {6: 1.0}], [1, 10, 1])
    assert space.cost(all_plans(space)[-1]).macs == 6 * 12 + 10 * 36 + 6 * 12
    assert len(fill(space, {}, Budget(limit=936, quantity="macs")).sites) == 1
    assert len(fill(space, {}, Budget(limit=935, quantity="macs")).sites) == 2
    assert len(fill(space, {}, Budget(limit=504, quantity="macs")).sites) == 2
    with pytest.raises(ValueError, match="the cheapest plan needs 504 macs"):
        fill(space, {}, Budget(limit=503, quantity="macs"))


def test_budgets_at_odds_are_met_by_the_plan_that_meets_both() -> None:
    """Site a saves operations for parameters, b the reverse, c a little of both: c alone fits the tight pair."""
    space = independent([[(300, -100, 0.1)], [(-100, 300, 0.1)], [(60, 60, 5.0)]])
    limits = (Budget(limit=940, quantity="macs"), Budget(limit=940, quantity="params"))
    plan = fill(space, {}, Budgets(limits=limits))
    assert Budgets(limits=limits).excess(space.cost(plan)) <= 0


def test_budgets_that_no_plan_meets_together_are_refused() -> None:
    space = independent([[(500, -200, 0.1), (-200, 500, 0.1)]])
    limits = [Budget(limit=600, quantity=quantity) for quantity in ("macs", "params")]
    for one in limits:
        assert one.excess(space.cost(fill(space, {}, one))) <= 0
    with pytest.raises(
        ValueError, match=r"the budgets cannot be met together: the nearest plan found exceeds one by \d+\.\d%"
    ):
        fill(space, {}, Budgets(limits=tuple(limits)))


def test_a_range_must_be_reachable_together_with_the_other_limit_down_to_its_lower_end() -> None:
    """At the upper end of the range both are met by leaving the network dense."""
    space = independent([[(500, -200, 0.1)], [(-200, 500, 0.1)]])
    ranged = Budgets(limits=(Budget(limit=1000, least=550, quantity="macs"), Budget(limit=1000, quantity="params")))
    with pytest.raises(ValueError, match="the budgets cannot be met together"):
        space.require_reachable(ranged)
    for one in ranged.limits:
        space.require_reachable(one)


def test_a_site_without_preference_counts_as_zero() -> None:
    space = independent([[(100, 0, 1.0)], [(100, 0, 1.1)]])
    budget = Budget(limit=900, quantity="macs")
    assert fill(space, {"b": -0.2}, budget) == fill(space, {"a": 0.0, "b": -0.2}, budget)
    assert set(fill(space, {"b": -0.2}, budget).sites) == {"b"}


def test_the_couplings_count_in_whatever_order_the_sites_are_named() -> None:
    space = chain([{6: 1.0, 3: 0.2}, {6: 1.0, 3: 0.3}, {6: 2.0}], [3, 4, 5, 1])
    turned = [replace(pair, first=pair.second, second=pair.first) for pair in reversed(space.couplings)]
    other = SearchSpace(dense=space.dense, sites=space.sites, couplings=tuple(turned))
    for share in (0.4, 0.6, 0.8):
        budget = Budget(limit=int(share * space.dense.macs), quantity="macs")
        assert fill(space, {}, budget) == fill(other, {}, budget)


def step_by_step(space: SearchSpace, wishes: list[float], budget: AnyBudget, sharpness: float) -> CompressionPlan:
    """What decoding means, each step by the costs of whole plans."""
    weights = [1 / one.limit for one in budget.limits]
    options = {name: [None, *found] for name, found in space.sites.items()}
    scale = {name: np.exp(wish) for name, wish in zip(options, wishes, strict=False)}
    at = dict.fromkeys(options, 0)

    def excesses(places: dict[str, int]) -> list[float]:
        taken = {name: options[name][place] for name, place in places.items()}
        cost = space.cost(CompressionPlan(sites={name: o.choice for name, o in taken.items() if o is not None}))
        return [one.of(cost) - one.limit for one in budget.limits]

    def violation(excess: list[float]) -> float:
        return sum(max(over, 0.0) * weight for over, weight in zip(excess, weights, strict=True))

    def damage(name: str, place: int) -> float:
        found = options[name][place]
        return 0.0 if found is None else float(np.float64(found.damage) ** sharpness * scale[name])

    def others() -> Iterator[tuple[str, int, list[float], float]]:
        for name, found in options.items():
            for place in range(len(found)):
                yield name, place, excesses({**at, name: place}), damage(name, place) - damage(name, at[name])

    while violation(now := excesses(at)) > 0:
        rates = {}
        for name, place, after, harm in others():
            over = zip(now, after, weights, strict=True)
            useful = sum((before - left) * weight for before, left, weight in over if before > 0)
            if useful > 0 and (len(weights) == 1 or violation(after) < violation(now)):
                rates[name, place] = max(harm, LEAST_DAMAGE) / useful
        if not rates:
            return space.cheapest(budget)
        name, place = min(rates, key=lambda key: rates[key])
        at[name] = place
    while True:
        fitting = {(name, place): harm for name, place, after, harm in others() if max(after) <= 0}
        name, place = min(fitting, key=lambda key: fitting[key])
        if fitting[name, place] >= 0:
            chosen = {name: options[name][place] for name, place in at.items()}
            return CompressionPlan(sites={name: o.choice for name, o in chosen.items() if o is not None})
        at[name] = place


MIXED = st.builds(lambda damages, pixels: mixed(damages, pixels[: len(damages)]), MIXED_CHAINS, PIXELS)


@given(
    st.one_of(SITES.map(independent), st.builds(chain, CHAINS, PIXELS), MIXED),
    st.floats(0.2, 1),
    st.none() | st.floats(0.2, 1),
    st.lists(st.tuples(WISHES, SHARPNESS), min_size=1, max_size=4),
)
@PROPERTY
def test_many_plans_decoded_at_once_are_those_of_decoding_step_by_step(space, macs, params, many) -> None:
    limits = [Budget(limit=max(1, int(macs * space.dense.macs)), quantity="macs")]
    if params is not None:
        limits.append(Budget(limit=max(1, int(params * space.dense.params)), quantity="params"))
    budget = Budgets(limits=tuple(limits))
    if budget.excess(space.floor(budget)) > 0 or any(one.excess(space.floor(one)) > 0 for one in limits):
        return
    filling = Filling(SpaceArrays(space), budget)
    wishes_PS = np.array([wishes[: len(space.sites)] for wishes, _ in many])
    found = filling.positions(wishes_PS[:, :, None], np.array([sharpness for _, sharpness in many]))
    assert [filling.arrays.plan(at) for at in found] == [
        step_by_step(space, wishes, budget, sharpness) for wishes, sharpness in many
    ]


@given(SITES.map(independent), st.floats(0.05, 1), st.lists(st.tuples(WISHES, SHARPNESS), min_size=1, max_size=4))
@PROPERTY
def test_merged_paths_of_independent_sites_are_those_of_steps(space, share, many) -> None:
    arrays = SpaceArrays(space)
    amounts = Amounts(arrays, [Budget(limit=max(1, int(share * space.dense.macs)), quantity="macs")])
    damage_PSO = np.stack(
        [arrays.damage_SO**sharpness * np.exp(wishes[: len(space.sites)])[:, None] for wishes, sharpness in many]
    )
    for one, other in zip(first_fit(amounts, damage_PSO), step_down(amounts, damage_PSO), strict=True):
        np.testing.assert_array_equal(one, other)
