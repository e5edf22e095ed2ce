"""Budget filling step by step, for several budgets and sites that interact; many plans are decoded at once.

Legend of shapes: P plans, A those of them that still move, S sites, O options (0 is dense; rows with fewer options are
padded), B budgets, K sites whose savings one step changes.
"""

from __future__ import annotations

import numpy as np

from sconv_search.budget_amounts import Amounts, rates
from sconv_search.space_arrays import Array, Positions


def step_down(amounts: Amounts, damage_PSO: Array) -> tuple[Positions, Array]:
    """Positions (P, S) at the first step down from dense that meets all budgets, and the excess (P, B) that is left there.

    Each step compresses the site that loses least for what it saves of the exceeded budgets. A plan of which no step brings
    the budgets nearer stays where it is, with an excess.
    """
    descent = _Descent(amounts, damage_PSO)
    moving_A = descent.exceeding(np.arange(len(damage_PSO)))
    while len(moving_A):
        moving_A = descent.exceeding(descent.step_(moving_A))
    return descent.at_PS, descent.excess_PB


class _Descent:
    """Where plans stand, and what each option saves and harms from there."""

    def __init__(self, amounts: Amounts, damage_PSO: Array) -> None:
        self._amounts, self._damage_PSO = amounts, damage_PSO
        plans, sites, self._width = damage_PSO.shape
        self.at_PS = np.zeros((plans, sites), dtype=np.intp)
        self.excess_PB = np.tile(amounts.excess_B, (plans, 1))
        self._saved_PSOB, self._harm_PSO = amounts.saved(self.at_PS), damage_PSO.copy()
        self._weight_PB = (self.excess_PB > 0) / amounts.limit_B
        self._rate_PSO = _rated(self._saved_PSOB, self._harm_PSO, self._weight_PB)

    def exceeding(self, plans_A: Positions) -> Positions:
        """Those of the plans that exceed a budget."""
        found: Positions = plans_A[(self.excess_PB[plans_A] > 0).any(axis=1)]
        return found

    def step_(self, moving_A: Positions) -> Positions:
        """One step of each plan; gives those that could make one."""
        flat_A, rate_A = self._cheapest(moving_A)
        can_A = np.isfinite(rate_A)
        moving_A = moving_A[can_A]
        row_A, option_A = divmod(flat_A[can_A], self._width)
        self.excess_PB[moving_A] -= self._saved_PSOB[moving_A, row_A, option_A]
        self.at_PS[moving_A, row_A] = option_A
        harm_AO = self._damage_PSO[moving_A, row_A]
        self._harm_PSO[moving_A, row_A] = harm_AO - harm_AO[np.arange(len(moving_A)), option_A][:, None]
        self._measure(moving_A, self._amounts.changed_SK[row_A])
        return moving_A

    def _cheapest(self, moving_A: Positions) -> tuple[Positions, Array]:
        """The site and option, as one number, that each plan takes next, and its harm for what it saves."""
        flat_PN = self._rate_PSO.reshape(len(self._rate_PSO), -1)
        flat_A = flat_PN.argmin(axis=1)[moving_A]
        rate_A = flat_PN[moving_A, flat_A]
        if len(self._amounts.limit_B) > 1:
            saved_AB = self._saved_PSOB.reshape(*flat_PN.shape, -1)[moving_A, flat_A]
            excess_AB = self.excess_PB[moving_A]
            nearer_A = self._amounts.violation(excess_AB - saved_AB) < self._amounts.violation(excess_AB)
            for place in np.flatnonzero(~nearer_A):  # it saves of one budget and costs more of another
                flat_A[place], rate_A[place] = self._cheapest_of_nearer(int(moving_A[place]))
        return flat_A, rate_A

    def _cheapest_of_nearer(self, plan: int) -> tuple[int, float]:
        """The same for one plan among the options that bring it nearer to all budgets together."""
        after_SO = self._amounts.violation(self.excess_PB[plan] - self._saved_PSOB[plan])
        nearer_SO = after_SO < self._amounts.violation(self.excess_PB[plan])
        rate_SO = np.where(nearer_SO, self._rate_PSO[plan], np.inf)
        best = int(rate_SO.argmin())
        return best, float(rate_SO.flat[best])

    def _measure(self, moved_A: Positions, rows_AK: Positions) -> None:
        """What options of the changed sites save now; all sites are rated anew where another set of budgets is exceeded."""
        each_A1 = moved_A[:, None]
        self._saved_PSOB[each_A1, rows_AK] = self._amounts.saved(self.at_PS[moved_A], rows_AK)
        weight_AB = (self.excess_PB[moved_A] > 0) / self._amounts.limit_B
        other_A = moved_A[(weight_AB != self._weight_PB[moved_A]).any(axis=1)]
        self._weight_PB[moved_A] = weight_AB
        self._rate_PSO[each_A1, rows_AK] = _rated(
            self._saved_PSOB[each_A1, rows_AK], self._harm_PSO[each_A1, rows_AK], weight_AB
        )
        self._rate_PSO[other_A] = _rated(self._saved_PSOB[other_A], self._harm_PSO[other_A], self._weight_PB[other_A])


def _rated(saved_PKOB: Array, harm_PKO: Array, weight_PB: Array) -> Array:
    return rates(harm_PKO, (saved_PKOB * weight_PB[:, None, None]).sum(axis=-1))
