"""Plans that fill a budget, decoded from one *preference* a site, or one a site and method.

Starting from dense, the site whose next step saves most for its predicted damage is compressed further, until every budget
is met; a preference multiplies the damage of its options by ``exp(preference)``, and damages are raised to a power, the
*sharpness*: at 1 their sum counts (the greedy, or Lagrangian, plan), at 4 nearly the largest alone (the minimax plan). Then
savings that turned out not to be needed are given back. So every suggestion fits, and lands just below its budget.

Legend of shapes: P plans, S sites, O options (0 is dense; rows with fewer options are padded), B budgets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sconv_search.budget import AnyBudget
from sconv_search.budget_amounts import Amounts
from sconv_search.budget_paths import first_fit
from sconv_search.budget_steps import step_down
from sconv_search.plan import CompressionPlan
from sconv_search.search_space import SearchSpace
from sconv_search.space_arrays import Array, Positions, SpaceArrays

SHARPNESS_RANGE = (1.0, 4.0)


def fill(space: SearchSpace, preferences: Mapping[str, float], budget: AnyBudget, sharpness: float = 1.0) -> CompressionPlan:
    """The plan that a vector of preferences stands for; it fits the budget and fills it.

    Args:
        preferences: site -> how much dearer its damage counts, as an exponent; sites that are absent have 0.
        sharpness: power of the damages.

    Raises:
        ValueError: no plan meets the budget.
    """
    arrays = SpaceArrays(space)
    wishes_PS1 = np.array([[[preferences.get(name, 0.0)] for name in arrays.names]])
    return arrays.plan(Filling(arrays, budget).positions(wishes_PS1, np.array([sharpness]))[0])


def greedy(space: SearchSpace, budget: AnyBudget) -> CompressionPlan:
    """The plan of least predicted damage for what it saves, every site alike.

    Raises:
        ValueError: no plan meets the budget.
    """
    return fill(space, {}, budget)


class Filling:
    """Decodes many preferences under one budget at a time; what all plans share is prepared once.

    Raises:
        ValueError: no plan meets the budget.
    """

    def __init__(self, arrays: SpaceArrays, budget: AnyBudget) -> None:
        arrays.space.require_reachable(budget)
        self.arrays, self._budget = arrays, budget
        self._amounts = Amounts(arrays, budget.limits)

    def positions(self, preferences_PSO: Array, sharpness_P: Array) -> Positions:
        """The positions (P, S) of the plans that preferences and sharpnesses stand for, as ``fill`` decodes them.

        Args:
            preferences_PSO: by option, or (P, S, 1) where all options of a site have the same.
        """
        powers_PSO = np.stack([self.arrays.damage_SO ** float(sharpness) for sharpness in sharpness_P])
        damage_PSO = powers_PSO * np.exp(preferences_PSO)
        alone = len(self._amounts.limit_B) == 1 and self._amounts.independent
        at_PS, excess_PB = (first_fit if alone else step_down)(self._amounts, damage_PSO)
        met_P = (excess_PB <= 0).all(axis=1)
        self._give_back_(at_PS, excess_PB, damage_PSO, np.flatnonzero(met_P))
        if not met_P.all():  # several budgets at odds: no single step brings them nearer
            at_PS[~met_P] = self.arrays.positions(self.arrays.space.cheapest(self._budget))
        return at_PS

    def _give_back_(self, at_PS: Positions, excess_PB: Array, damage_PSO: Array, giving_A: Positions) -> None:
        """Undoes as much damage as the budgets' slack allows, site by site, in some of the plans."""
        sites, width = self.arrays.damage_SO.shape
        for _ in range(10 * sites):  # each return undoes damage, so it ends by itself; this bounds rounding
            if not len(giving_A):
                return
            saved_ASOB, damage_ASO = self._amounts.saved(at_PS[giving_A]), damage_PSO[giving_A]
            undone_ASO = np.take_along_axis(damage_ASO, at_PS[giving_A][:, :, None], axis=2) - damage_ASO
            undone_ASO[(excess_PB[giving_A][:, None, None] > saved_ASOB).any(axis=3)] = -np.inf
            undone_AN = undone_ASO.reshape(len(giving_A), -1)
            best_A = undone_AN.argmax(axis=1)
            gives_A = undone_AN[np.arange(len(giving_A)), best_A] > 0
            giving_A, (row_A, option_A) = giving_A[gives_A], divmod(best_A[gives_A], width)
            excess_PB[giving_A] -= saved_ASOB[gives_A, row_A, option_A]
            at_PS[giving_A, row_A] = option_A

    def saved_PS(self, at_PS: Positions) -> Array:
        """What each site saves, in units of the budgets."""
        return self.arrays.taken_PS((self._amounts.saving_SOB / self._amounts.limit_B).sum(axis=2), at_PS)
