"""Plans that fit the budget when built, also where choices interact and their predicted costs do not add up."""

from __future__ import annotations

from collections.abc import Callable

from sconv_search.measurement import measure_cost
from sconv_search.plan import CompressionPlan
from sconv_search.records import Budget
from sconv_search.search_space import SearchSpace
from studies.methods import METHODS, compress
from studies.start import Start

MOST_TIGHTENED = 10


def fitting(start: Start, space: SearchSpace, budget: Budget, decode: Callable[[Budget], CompressionPlan]) -> CompressionPlan:
    """The plan that ``decode`` makes of the budget; where pruned layers share neighbours, of a tighter one until it fits.

    Two pruned groups that meet in one layer save less together than the sum of both. Other methods' costs add up exactly,
    and their plans are not built here. The cheapest plan is the last resort; it may be over the budget too.
    """
    limit = budget
    for _ in range(MOST_TIGHTENED):
        plan = decode(limit)
        if not any(METHODS[name].reshapes_neighbours for name in plan.methods):
            return plan
        built = budget.of(measure_cost(compress(start.network, plan), start.task.input_shape))
        if built <= budget.limit:
            return plan
        tighter = limit.limit * budget.limit // built
        if tighter < max(1, budget.of(space.floor(budget))):
            break
        limit = Budget(limit=tighter, quantity=budget.quantity)
    return space.cheapest(budget)
