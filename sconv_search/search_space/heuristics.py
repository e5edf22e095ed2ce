"""Plans by rule, without a search: what a study starts from and has to beat.

Each rule gives a plan that fits the budget, or None where it has nothing to say.

Legend of shapes: S sites, M methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sconv_search.budget import AnyBudget
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.search_space.decoder import SHARPNESS_RANGE, Filling, fill, greedy
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.search_space.tables import Array, Positions

DEPTHS = 201
PRICES = 60
"""Bisections."""
SMALL_SHARE = 0.25
"""Of the sites' mean possible saving; what could save less stays dense in a uniform plan."""
MOST_PREFERENCE = 3.0
IMITATIONS = 30


def uniform(space: SearchSpace, budget: AnyBudget) -> CompressionPlan:
    """The plan in which every site saves the same share of what it could, or more where that harms less.

    The share is the least that fits the budget; where options are coarse, sites take the next milder one while that
    fits, those first that are spared most damage. Under several budgets the first one's quantity is shared out. Sites
    that could save less than a quarter of what the mean site could stay dense where the others can meet the budget: the
    first layer harms as much as any, for next to nothing (ResNet-20 at half of its FLOPs, fitted in sequence: 83.7 %
    top-1 with it, 87.5 % without).

    Raises:
        ValueError: no plan meets the budget.
    """
    space.require_reachable(budget)
    of = budget.limits[0].of
    most = {name: -min(of(option.cost) for option in options) for name, options in space.sites.items()}
    large = {name: saving for name, saving in most.items() if saving * len(most) >= SMALL_SHARE * sum(most.values())}
    plan = _sharing(space, budget, large) or _sharing(space, budget, most)
    return space.cheapest(budget) if plan is None else plan


def _sharing(space: SearchSpace, budget: AnyBudget, most: Mapping[str, float]) -> CompressionPlan | None:
    """The uniform plan of the sites that are named with the most that each could save; None where it does not fit."""
    of = budget.limits[0].of
    saved = {
        name: [(option.damage, -of(option.cost) / most[name], option.choice) for option in options]
        for name, options in space.sites.items()
        if most.get(name, 0) > 0
    }

    def saving_share(depth: float) -> CompressionPlan:
        """Each site saves at least ``depth`` of what it could, by the least harmful option that does."""
        enough = {name: [option for option in options if option[1] >= depth > 0] for name, options in saved.items()}
        return CompressionPlan(
            sites={name: min(them, key=lambda option: option[:2])[2] for name, them in enough.items() if them}
        )

    milder = CompressionPlan()
    for depth in np.linspace(0, 1, DEPTHS):
        plan = saving_share(float(depth))
        if budget.excess(space.cost(plan)) <= 0:
            return _relieved(space, budget, plan, milder)
        milder = plan
    return None


def _relieved(space: SearchSpace, budget: AnyBudget, plan: CompressionPlan, milder: CompressionPlan) -> CompressionPlan:
    """The plan with the milder one's choices at the sites that this spares most damage, while it fits."""

    def spared(name: str) -> float:
        before = space.option(name, milder.sites[name]).damage if name in milder.sites else 0.0
        return space.option(name, plan.sites[name]).damage - before

    changed = [name for name, choice in plan.sites.items() if milder.sites.get(name) != choice]
    for name in sorted(changed, key=spared, reverse=True):
        others = {site: choice for site, choice in plan.sites.items() if site != name}
        given = {name: milder.sites[name]} if name in milder.sites else {}
        relieved = CompressionPlan(sites={**others, **given})
        if budget.excess(space.cost(relieved)) <= 0:
            plan = relieved
    return plan


def minimax(space: SearchSpace, budget: AnyBudget) -> CompressionPlan:
    """The plan whose most damaged site is damaged least, nearly.

    Raises:
        ValueError: no plan meets the budget.
    """
    return fill(space, {}, budget, sharpness=SHARPNESS_RANGE[1])


def least_error(space: SearchSpace, budget: AnyBudget) -> CompressionPlan | None:
    """The plan with the least bound on every layer's relative output error that fits the budget.

    One threshold for all layers is what ALDS minimizes (Liebenwein et al., NeurIPS 2021, arXiv 2107.11442) and what
    keeping the same share of each layer's energy means for SVDs. None where options have no error of their own layer.
    """
    known = {name: [o for o in options if o.error is not None] for name, options in space.sites.items()}
    thresholds = sorted({option.error for options in known.values() for option in options if option.error is not None})
    low, high = 0, len(thresholds)
    while low < high:  # fewer layers' worth of error never fits where more does not
        middle = (low + high) // 2
        plan = _within(known, thresholds[middle], budget)
        low, high = (low, middle) if budget.excess(space.cost(plan)) <= 0 else (middle + 1, high)
    if low == len(thresholds):
        return None
    best_plan = _within(known, thresholds[low], budget)
    return best_plan if budget.excess(space.cost(best_plan)) <= 0 else None


def _within(known: Mapping[str, list[Option]], threshold: float, budget: AnyBudget) -> CompressionPlan:
    """The cheapest option of each site among those whose error is at most the threshold."""
    sites = {}
    for name, options in known.items():
        allowed = [option for option in options if option.error is not None and option.error <= threshold]
        if allowed:
            sites[name] = min(
                allowed, key=lambda option: sum(b.of(option.cost) / b.limit for b in budget.limits)
            ).choice
    return CompressionPlan(sites=sites)


def least_squares(space: SearchSpace, budget: AnyBudget) -> CompressionPlan | None:
    """The plan with nearly the least sum of squares of the layers' relative output errors that fits the budget.

    One price of what is budgeted for all layers, found by bisection: each takes the option, or stays dense, with the
    least squared error and price together. None where options have no error of their own layer.

    Source: Everett, Generalized Lagrange Multiplier Method, Operations Research 1963.
    """
    known = {name: [o for o in options if o.error is not None] for name, options in space.sites.items()}
    low, high, best = 0.0, 1e6, None
    for _ in range(PRICES):
        price = (low + high) / 2
        plan = _at_price(known, price, budget)
        fits = budget.excess(space.cost(plan)) <= 0
        best, low, high = (plan, low, price) if fits else (best, price, high)
    return best


def _at_price(known: Mapping[str, list[Option]], price: float, budget: AnyBudget) -> CompressionPlan:
    """Of each site the choice with the least squared error and price of its cost; dense sites have 0 of both."""
    sites = {}
    for name, options in known.items():
        totals = [
            (option.error or 0.0) ** 2 + price * sum(b.of(option.cost) / b.limit for b in budget.limits)
            for option in options
        ]
        if totals and min(totals) < 0:
            sites[name] = options[totals.index(min(totals))].choice
    return CompressionPlan(sites=sites)


def spatial_structure(space: SearchSpace, budget: AnyBudget) -> CompressionPlan | None:
    """The structured convolution's own rule: all channels and 2 of 3 taps an axis, wherever that is offered.

    The mildest plan of Bhalgat et al., NeurIPS 2020, arXiv 2008.02454. None where nothing is offered or it does not
    fit.
    """
    sites: dict[str, Choice] = {}
    for name, options in space.sites.items():
        most = max((option.choice.structure.get("c", 0) for option in options), default=0)
        for option in options:
            if option.choice.structure.get("n") == 2 and option.choice.structure.get("c", 0) == most:
                sites.setdefault(name, option.choice)
    plan = CompressionPlan(sites=sites)
    return plan if sites and budget.excess(space.cost(plan)) <= 0 else None


RULES: Mapping[str, Callable[[SearchSpace, AnyBudget], CompressionPlan | None]] = {
    "greedy": greedy,
    "minimax": minimax,
    "uniform": uniform,
    "least_error": least_error,
    "least_squares": least_squares,
    "spatial_structure": spatial_structure,
}
"""Name -> rule, in the order in which a study tries them."""


def imitating(filling: Filling, at_S: Positions) -> Array:
    """Preferences (S, M) by site and method, each in -3..3, under which decoding comes near a plan's positions.

    Found by repetition: a site that saves more than in the plan is preferred less, one that saves less is preferred
    more, and a method that is not the plan's gives way to the one that is, by ever smaller steps; the nearest so far is
    kept.
    """
    arrays = filling.arrays
    preferences_SM = np.zeros((len(at_S), len(arrays.methods)))
    best_SM, nearest = preferences_SM, float("inf")
    for step in np.geomspace(1.0, 0.1, IMITATIONS):
        found_S = filling.positions(arrays.by_option(preferences_SM)[None], np.ones(1))[0]
        distance, move_SM = _compared(filling, found_S, at_S)
        if distance < nearest:
            best_SM, nearest = preferences_SM, distance
        if distance == 0:
            break
        preferences_SM = np.clip(preferences_SM + step * move_SM, -MOST_PREFERENCE, MOST_PREFERENCE)
    return best_SM


def _compared(filling: Filling, found_S: Positions, wanted_S: Positions) -> tuple[float, Array]:
    """How far two plans' savings are apart, site by site and method by method, and where preferences (S, M) have to
    move.
    """
    saved_S, wished_S = filling.saved_PS(np.stack([found_S, wanted_S]))
    sites, methods = np.arange(len(found_S)), filling.arrays.method_SO
    taken_S, other_S = methods[sites, wanted_S], (found_S > 0) & (wanted_S > 0)
    other_S &= methods[sites, found_S] != taken_S
    distance = float(np.where(other_S, np.maximum(saved_S, wished_S), np.abs(saved_S - wished_S)).sum())
    move_SM = np.repeat(np.sign(saved_S - wished_S)[:, None], len(filling.arrays.methods), axis=1)
    move_SM[other_S] = 1.0
    move_SM[sites[other_S], taken_S[other_S]] = -1.0
    return distance, move_SM
