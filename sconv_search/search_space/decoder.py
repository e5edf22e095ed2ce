"""Plans that fill a budget, decoded from one *preference* a site, or one a site and method.

Starting from dense, the site whose next step saves most for its predicted damage is compressed further, until every
budget is met; a preference multiplies the damage of its options by ``exp(preference)``, and damages are raised to a
power, the
*sharpness*: at 1 their sum counts (the greedy, or Lagrangian, plan), at 4 nearly the largest alone (the minimax plan).
Then savings that turned out not to be needed are given back. So every suggestion fits, and lands just below its budget.

Legend of shapes: P plans, S sites, O options (0 is dense; rows with fewer options are padded), B budgets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sconv_search.budget import AnyBudget
from sconv_search.plan import CompressionPlan
from sconv_search.search_space.space import SearchSpace
from sconv_search.search_space.tables import Amounts, Array, Positions, SpaceArrays, rates

# Budget filling where sites do not interact: under one budget, without couplings.
#
# A site then takes its steps in an order of its own, whatever the others do, so all sites' steps are found first and
# then merged by what they harm for what they save. The plans are those of step-by-step decoding.
#
# Legend of shapes: P plans, S sites, O options (0 is dense), D steps down a site's path, N = S * D.


def first_fit(amounts: Amounts, damage_PSO: Array) -> tuple[Positions, Array]:
    """Positions (P, S) at the first step down from dense that meets the budget, and the excess (P, 1) that is left
    there.

    Where none meets it, the positions are those after the last step.
    """
    rate_PSD, saved_PSD, option_PSD = _paths(amounts, damage_PSO)
    plans, sites, depth = rate_PSD.shape
    # A step is taken once it is the cheapest that any site offers: as soon as the dearest so far of its own site is.
    order_PN = np.maximum.accumulate(rate_PSD, axis=2).reshape(plans, -1).argsort(axis=1, kind="stable")
    saved_PN = np.take_along_axis(saved_PSD.reshape(plans, -1), order_PN, axis=1)
    start_P1 = np.full((plans, 1), amounts.excess_B[0])
    left_PN = np.subtract.accumulate(np.concatenate([start_P1, saved_PN], axis=1), axis=1)
    met_PN = left_PN <= 0
    steps_P = np.where(met_PN.any(axis=1), met_PN.argmax(axis=1), sites * depth)
    rank_PN = np.empty_like(order_PN)
    np.put_along_axis(rank_PN, order_PN, np.arange(sites * depth)[None], axis=1)
    taken_PSD = (rank_PN < steps_P[:, None]).reshape(plans, sites, depth) & np.isfinite(rate_PSD)
    last_PS = taken_PSD.sum(axis=2)
    at_PSD = np.concatenate([np.zeros((plans, sites, 1), dtype=np.intp), option_PSD], axis=2)
    at_PS = np.take_along_axis(at_PSD, last_PS[:, :, None], axis=2)[:, :, 0]
    return at_PS, np.take_along_axis(left_PN, steps_P[:, None], axis=1)


def _paths(amounts: Amounts, damage_PSO: Array) -> tuple[Array, Array, Positions]:
    """Damage for saving, saving and option of each step of each site alone, (P, S, D); infinite after a path's end."""
    plans, sites, width = damage_PSO.shape
    damage_GO, weight = damage_PSO.reshape(-1, width), 1.0 / amounts.limit_B[0]
    saving_GO = np.broadcast_to(amounts.saving_SOB[:, :, 0], damage_PSO.shape).reshape(-1, width)
    going_G, at_G = np.arange(plans * sites), np.zeros(plans * sites, dtype=np.intp)
    rates_D: list[Array] = []
    saved_D: list[Array] = []
    options_D: list[Positions] = []
    while len(going_G) or not rates_D:
        every_G = np.arange(len(going_G))
        saved_GO = saving_GO - saving_GO[every_G, at_G][:, None]
        rate_GO = rates(damage_GO - damage_GO[every_G, at_G][:, None], saved_GO * weight)
        at_G = rate_GO.argmin(axis=1)
        goes_on_G = np.isfinite(rate_GO[every_G, at_G])
        going_G, at_G, damage_GO, saving_GO = (part[goes_on_G] for part in (going_G, at_G, damage_GO, saving_GO))
        for steps, values_GO, rest in ((rates_D, rate_GO, np.inf), (saved_D, saved_GO, 0.0)):
            steps.append(np.full(plans * sites, rest))
            steps[-1][going_G] = values_GO[goes_on_G][np.arange(len(going_G)), at_G]
        options_D.append(np.zeros(plans * sites, dtype=np.intp))
        options_D[-1][going_G] = at_G
    shape = (plans, sites, len(rates_D))
    option_PSD: Positions = np.stack(options_D, axis=1).reshape(shape)
    return np.stack(rates_D, axis=1).reshape(shape), np.stack(saved_D, axis=1).reshape(shape), option_PSD


# Budget filling step by step, for several budgets and sites that interact; many plans are decoded at once.
#
# Legend of shapes: P plans, A those of them that still move, S sites, O options (0 is dense; rows with fewer options
# are padded), B budgets, K sites whose savings one step changes.


def step_down(amounts: Amounts, damage_PSO: Array) -> tuple[Positions, Array]:
    """Positions (P, S) at the first step down from dense that meets all budgets, and the excess (P, B) that is left
    there.

    Each step compresses the site that loses least for what it saves of the exceeded budgets. A plan of which no step
    brings the budgets nearer stays where it is, with an excess.
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
        positions: Positions = plans_A[(self.excess_PB[plans_A] > 0).any(axis=1)]
        return positions

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
            for index in np.flatnonzero(~nearer_A):  # it saves of one budget and costs more of another
                flat_A[index], rate_A[index] = self._cheapest_of_nearer(int(moving_A[index]))
        return flat_A, rate_A

    def _cheapest_of_nearer(self, plan: int) -> tuple[int, float]:
        """The same for one plan among the options that bring it nearer to all budgets together."""
        after_SO = self._amounts.violation(self.excess_PB[plan] - self._saved_PSOB[plan])
        nearer_SO = after_SO < self._amounts.violation(self.excess_PB[plan])
        rate_SO = np.where(nearer_SO, self._rate_PSO[plan], np.inf)
        best = int(rate_SO.argmin())
        return best, float(rate_SO.flat[best])

    def _measure(self, moved_A: Positions, rows_AK: Positions) -> None:
        """What options of the changed sites save now; all sites are rated anew where another set of budgets is
        exceeded.
        """
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


SHARPNESS_RANGE = (1.0, 4.0)


def fill(
    space: SearchSpace, random_keys: Mapping[str, float], budget: AnyBudget, sharpness: float = 1.0
) -> CompressionPlan:
    """The plan that a vector of preferences stands for; it fits the budget and fills it.

    Args:
        preferences: site -> how much dearer its damage counts, as an exponent; sites that are absent have 0.
        sharpness: power of the damages.

    Raises:
        ValueError: no plan meets the budget.
    """
    arrays = SpaceArrays(space)
    wishes_PS1 = np.array([[[random_keys.get(name, 0.0)] for name in arrays.names]])
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
