"""Plans that fill a budget, decoded from one *preference* a site.

Starting from dense, the site whose next step saves most for its predicted damage is compressed further, until every budget
is met; a site's preference multiplies its damage by ``exp(preference)``, and damages are raised to a power, the *sharpness*:
at 1 their sum counts (the greedy, or Lagrangian, plan), at 4 nearly the largest alone (the minimax plan). Then savings that
turned out not to be needed are given back. So every suggestion fits, and lands just below its budget.

Legend of shapes: S sites, O options (0 is dense; rows with fewer options are padded), B budgets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sconv_search.budget import AnyBudget
from sconv_search.plan import CompressionPlan
from sconv_search.search_space import SearchSpace

SHARPNESS_RANGE = (1.0, 4.0)
LEAST_DAMAGE = 1e-15
Array = NDArray[np.float64]


def fill(space: SearchSpace, preferences: Mapping[str, float], budget: AnyBudget, sharpness: float = 1.0) -> CompressionPlan:
    """The plan that a vector of preferences stands for; it fits the budget and fills it.

    Args:
        preferences: site -> how much dearer its damage counts, as an exponent; sites that are absent have 0.
        sharpness: power of the damages.

    Raises:
        ValueError: no plan meets the budget.
    """
    space.require_reachable(budget)
    state = _State(space, preferences, budget, sharpness)
    while state.violation > 0:
        if not state.step():  # several budgets at odds: no single step brings them nearer
            return space.cheapest(budget)
    for _ in range(10 * len(space.sites)):  # each return undoes damage, so it ends by itself; this bounds rounding
        if not state.give_back():
            break
    return state.plan()


def greedy(space: SearchSpace, budget: AnyBudget) -> CompressionPlan:
    """The plan of least predicted damage for what it saves, every site alike.

    Raises:
        ValueError: no plan meets the budget.
    """
    return fill(space, {}, budget)


class _State:
    """Where each site stands while a plan is decoded, and what every other option would save and harm from there."""

    def __init__(self, space: SearchSpace, preferences: Mapping[str, float], budget: AnyBudget, sharpness: float) -> None:
        self._space, self._names = space, list(space.sites)
        sites, most = len(self._names), 1 + max(map(len, space.sites.values()))
        limits = budget.limits
        self._limit_B = np.array([one.limit for one in limits], dtype=float)
        self._saving_SOB = np.zeros((sites, most, len(limits)))
        self._damage_SO = np.full((sites, most), np.inf)
        for row, (name, options) in enumerate(space.sites.items()):
            self._saving_SOB[row, 1 : 1 + len(options)] = [[-one.of(option.cost) for one in limits] for option in options]
            weighed = np.array([0.0, *(option.damage for option in options)]) ** sharpness
            self._damage_SO[row, : 1 + len(options)] = weighed * np.exp(preferences.get(name, 0.0))
        self._interplay = space.interplay(limits)
        self._at = np.zeros(sites, dtype=np.int64)
        self._excess_B = np.array([one.of(space.dense) - one.limit for one in limits], dtype=float)
        self._saved_SOB, self._harm_SO = self._saving_SOB.copy(), self._damage_SO.copy()
        self._rate_SO = np.full((sites, most), np.inf)
        self._rate(slice(None))

    @property
    def violation(self) -> float:
        """By how much the budgets are exceeded, in units of their limits."""
        return float(np.maximum(self._excess_B, 0.0) @ (1 / self._limit_B))

    def step(self) -> bool:
        """Compresses the site that loses least for what it saves of the exceeded budgets; says whether any could."""
        if len(self._limit_B) > 1:
            self._rate(slice(None))  # which budgets are exceeded changes from step to step
        best = int(self._rate_SO.argmin())
        if not np.isfinite(self._rate_SO.flat[best]):
            return False
        self._take(best)
        return True

    def give_back(self) -> bool:
        """Undoes as much damage as one site can within the slack; says whether any was."""
        fits_SO = (self._excess_B - self._saved_SOB <= 0).all(axis=2) & np.isfinite(self._damage_SO)
        undone_SO = np.where(fits_SO, -self._harm_SO, -np.inf)
        best = int(undone_SO.argmax())
        if undone_SO.flat[best] <= 0:
            return False
        self._take(best)
        return True

    def _rate(self, rows: slice) -> None:
        """Damage for what each option would save of the exceeded budgets; infinite where it brings them no nearer."""
        saved, harm = self._saved_SOB[rows], np.maximum(self._harm_SO[rows], LEAST_DAMAGE)
        useful = saved @ ((self._excess_B > 0) / self._limit_B)
        allowed = useful > 0
        if len(self._limit_B) > 1:
            allowed &= np.maximum(self._excess_B - saved, 0.0) @ (1 / self._limit_B) < self.violation
        self._rate_SO[rows] = np.inf
        np.divide(harm, useful, out=self._rate_SO[rows], where=allowed)

    def _take(self, flat: int) -> None:
        """Moves a site to an option; what its other options save and harm counts from there."""
        row, option = divmod(flat, self._damage_SO.shape[1])
        self._excess_B = self._excess_B - self._saved_SOB[row, option]
        self._at[row] = option
        rows = slice(row, row + 1)
        self._saved_SOB[rows] = self._saving_SOB[rows] - self._saving_SOB[row, option]
        self._harm_SO[rows] = self._damage_SO[rows] - self._damage_SO[row, option]
        if self._interplay is not None:  # what other sites would save changes too
            rows = slice(None)
            self._saved_SOB = self._interplay.saved(self._at[None])[0]
        self._rate(rows)

    def plan(self) -> CompressionPlan:
        """The choices where the sites stand."""
        chosen = {name: self._space.sites[name][at - 1].choice for name, at in zip(self._names, self._at, strict=True) if at}
        return CompressionPlan(sites=chosen)
