"""Plans that prune and factorize one chain of layers: costs, single moves and decoded plans are those of what is
built.
"""

from __future__ import annotations

import random
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search import Choice, CompressionPlan, Cost
from sconv_search.budget import Budget, Budgets
from sconv_search.search_space.decoder import fill
from sconv_search.search_space.interactions import Interplay
from sconv_search.search_space.narrowing import Narrowing, Side
from sconv_search.search_space.space import Coupling, Option, SearchSpace

CHANNELS, DENSE_RANK = 12, 5
PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)
NOTHING = Cost(macs=0, adds=0, params=0)


def pruned(keep: int) -> Choice:
    return Choice(method="channel_pruning", structure={"keep": keep})


def factorized(rank: int) -> Choice:
    return Choice(method="weight_svd", structure={"rank": rank})


def layer_cost(read: int, made: int, pixels: int, rank: int | None) -> Cost:
    """A layer, or two of a rank that keeps its share of the narrower side, with an addition for each rank and
    output.
    """
    if rank is None:
        return Cost(macs=read * made * pixels, adds=0, params=read * made, activations=made * pixels)
    left = max(1, round(rank * min(read, made) / CHANNELS))
    each = left * (read + made)
    return Cost(macs=each * pixels, adds=left * made, params=each, activations=(left + made) * pixels)


def built_cost(choices: list[Choice | None], pixels: list[int]) -> Cost:
    """The chain's cost, layer by layer: layer i reads what layer i - 1 makes; the last makes what is never pruned."""
    keeps = [choice.structure.get("keep", CHANNELS) if choice else CHANNELS for choice in choices]
    ranks = [choice.structure.get("rank") if choice else None for choice in choices]
    sides = pairwise([CHANNELS, *keeps])
    return sum(
        (layer_cost(*side, area, rank) for side, area, rank in zip(sides, pixels, ranks, strict=True)), start=NOTHING
    )


def mixed(damages: list[dict[tuple[str, int], float]], pixels: list[int]) -> SearchSpace:
    """The chain's space, its tables filled from costs of single choices and of layers alone; the last layer is never
    pruned.
    """
    names = [f"layer{place}" for place in range(len(damages))]
    dense: list[Choice | None] = [None] * len(names)
    whole = built_cost(dense, pixels)
    sites, narrowings = {}, {}
    for place, (name, options) in enumerate(zip(names, damages, strict=True)):
        found = []
        for (kind, size), damage in options.items():
            choice = factorized(size) if kind == "rank" or place == len(names) - 1 else pruned(size)
            cost = built_cost([*dense[:place], choice, *dense[place + 1 :]], pixels) - whole
            dropped = CHANNELS - size if choice.method == "channel_pruning" else 0
            found.append(Option(choice=choice, cost=cost, damage=damage, dropped=dropped))
        sites[name] = tuple({option.choice: option for option in found}.values())
        before = Side(channels=CHANNELS, lost={names[place - 1]: 1} if place else {})
        widths = tuple((read, CHANNELS) for read in (range(CHANNELS, 0, -1) if place else [CHANNELS]))
        beyond = {
            option.choice: tuple(beyond_cost(read, option.choice, pixels[place]) for read, _ in widths)
            for option in sites[name]
            if not option.dropped
        }
        narrowings[name] = Narrowing(inputs=before, outputs=Side(channels=CHANNELS), widths=widths, beyond=beyond)
    pairs = [
        Coupling(first=one, second=two, cost=Cost(macs=3 * pixels[i + 1], adds=0, params=3), pairs=3)
        for i, (one, two) in enumerate(pairwise(names))
    ]
    return SearchSpace(dense=whole, sites=sites, couplings=tuple(pairs), narrowings=narrowings)


def beyond_cost(read: int, choice: Choice, pixels: int) -> Cost:
    """What replacing the layer saves on so many inputs, less what replacing the dense one does."""
    saved = [
        layer_cost(inputs, CHANNELS, pixels, choice.structure["rank"]) - layer_cost(inputs, CHANNELS, pixels, None)
        for inputs in (read, CHANNELS)
    ]
    return saved[0] - saved[1]


def plan_at(space: SearchSpace, at: list[int]) -> CompressionPlan:
    return CompressionPlan(
        sites={n: options[i - 1].choice for (n, options), i in zip(space.sites.items(), at, strict=True) if i}
    )


def all_places(space: SearchSpace) -> list[list[int]]:
    return [list(at) for at in product(*(range(1 + len(options)) for options in space.sites.values()))]


OPTION = st.tuples(st.sampled_from(["keep", "rank"]), st.integers(1, DENSE_RANK + 3))
CHAINS = st.lists(st.dictionaries(OPTION, st.floats(0, 5), min_size=1, max_size=4), min_size=1, max_size=4)
PIXELS = st.lists(st.integers(1, 9), min_size=4, max_size=4)
WISHES = st.lists(st.floats(-3, 3), min_size=4, max_size=4)


def space_of(damages: list[dict[tuple[str, int], float]], pixels: list[int]) -> tuple[SearchSpace, list[int]]:
    pixels = pixels[: len(damages)]
    return mixed(damages, pixels), pixels


@given(CHAINS, PIXELS)
@PROPERTY
def test_the_cost_of_every_mixed_plan_is_that_of_what_is_built(damages, pixels) -> None:
    space, pixels = space_of(damages, pixels)
    for at in all_places(space):
        plan = plan_at(space, at)
        assert space.cost(plan) == built_cost([plan.sites.get(name) for name in space.sites], pixels)


@given(CHAINS, PIXELS, st.integers(0, 10**6))
@PROPERTY
def test_what_single_moves_save_is_the_difference_of_the_plans_costs(damages, pixels, seed) -> None:
    space, pixels = space_of(damages, pixels)
    limits = tuple(Budget(limit=1, quantity=quantity) for quantity in ("flops", "params", "activations"))
    every = all_places(space)
    some = random.Random(seed).sample(every, min(5, len(every)))
    saved_PSOB = Interplay(space, limits).saved(np.array(some))
    for at, saved_SOB in zip(some, saved_PSOB, strict=True):
        before = space.cost(plan_at(space, at))
        for row, options in enumerate(space.sites.values()):
            for option in range(1 + len(options)):
                after = space.cost(plan_at(space, [*at[:row], option, *at[row + 1 :]]))
                assert saved_SOB[row, option].tolist() == [one.of(before) - one.of(after) for one in limits]


@given(CHAINS, PIXELS, WISHES, st.floats(1, 4), st.floats(0.05, 1), st.floats(0.05, 1))
@PROPERTY
def test_every_mixed_plan_fits_its_budgets_as_built_or_they_are_refused(
    damages, pixels, wishes, sharpness, share, other
) -> None:
    space, pixels = space_of(damages, pixels)
    flops = Budget(limit=max(1, int(share * space.dense.flops)))
    params = Budget(limit=max(1, int(other * space.dense.params)), quantity="params")
    for budget in (flops, Budgets(limits=(flops, params))):
        random_keys = dict(zip(space.sites, wishes, strict=False))
        if any(one.excess(space.floor(one)) > 0 for one in (*budget.limits, budget)):
            with pytest.raises(ValueError, match="cannot be met"):
                fill(space, random_keys, budget, sharpness)
        else:
            plan = fill(space, random_keys, budget, sharpness)
            assert budget.excess(built_cost([plan.sites.get(name) for name in space.sites], pixels)) <= 0


@given(CHAINS, PIXELS)
@PROPERTY
def test_no_move_makes_the_cheapest_mixed_plan_cheaper(damages, pixels) -> None:
    space, _ = space_of(damages, pixels)
    found = space.cheapest(Budget(limit=1))
    for name, options in space.sites.items():
        rest = {other: choice for other, choice in found.sites.items() if other != name}
        for moved in (rest, *({**rest, name: option.choice} for option in options)):
            assert space.cost(CompressionPlan(sites=moved)).flops >= space.cost(found).flops


def test_a_floor_that_choices_reach_only_together_is_found() -> None:
    """Alone, the rank saves more at the second layer; beside a first layer of one channel, nothing is left to
    factorize.
    """
    damages = [{("keep", 1): 1.0}, {("keep", 1): 1.0, ("rank", 1): 1.0}, {("rank", 3): 1.0}]
    space = mixed(damages, [1, 1, 1])
    found = space.cheapest(Budget(limit=1))
    assert space.cost(found).flops == min(space.cost(plan_at(space, at)).flops for at in all_places(space))
    assert {choice.method for choice in found.sites.values()} == {"channel_pruning"}


def test_a_mixed_space_is_read_as_it_was_written() -> None:
    space = mixed([{("keep", 3): 1.0, ("rank", 2): 0.5}, {("rank", 2): 1.0}], [4, 5])
    again = SearchSpace.from_json(space.to_json())
    assert again == space
    plan = CompressionPlan(sites={"layer0": pruned(3), "layer1": factorized(2)})
    assert again.cost(plan) == built_cost([pruned(3), factorized(2)], [4, 5])


def test_a_table_without_a_cost_for_each_width_is_refused() -> None:
    side = Side(channels=2)
    with pytest.raises(ValueError, match=r"weight_svd\(rank=1\) has 1 costs for 2 pairs of widths"):
        Narrowing(inputs=side, outputs=side, widths=((2, 2), (1, 2)), beyond={factorized(1): (NOTHING,)})
