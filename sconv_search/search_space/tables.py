"""A search space as arrays, for code that looks at many plans at once.

A plan is then its *positions*: at each site 0, which is dense, or the place of an option, counted from 1.

Legend of shapes: P plans, S sites, O options (0 is dense; rows with fewer options are padded), M methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sconv_search.budget import Budget
from sconv_search.plan import CompressionPlan
from sconv_search.records import Quantity
from sconv_search.search_space.space import SearchSpace

# What the options of a space save of the budgeted quantities, for plans at any positions.
#
# Legend of shapes: P plans, S sites, O options (0 is dense; rows with fewer options are padded), B budgets, K sites
# whose savings one step changes: the site itself and those coupled with it.

LEAST_DAMAGE = 1e-15


class Amounts:
    """Savings, limits, and how much of what two sites save is counted twice.

    Attributes:
        limit_B: limits of the budgets.
        saving_SOB: what an option alone saves.
        excess_B: by how much the dense network exceeds the limits.
        coupled_SSB: what two dropped channels at two sites cost beyond the sum of both; None where sites are
            independent.
        independent: whether what a site saves is the same wherever the others stand.
        changed_SK: each site, then those coupled with it, rows with fewer repeating the site; where pruning narrows
            layers that have choices of their own, all sites.
    """

    def __init__(self, arrays: SpaceArrays, limits: Sequence[Budget]) -> None:
        self.limit_B = np.array([option.limit for option in limits], dtype=float)
        self.saving_SOB = np.stack([arrays.saving_SO(option.quantity) for option in limits], axis=2)
        self.excess_B = np.array([option.of(arrays.space.dense) - option.limit for option in limits], dtype=float)
        self.dropped_SO = arrays.dropped_SO
        coupled_SSB = np.stack([arrays.coupled_SS(option.quantity) for option in limits], axis=2)
        self.coupled_SSB = coupled_SSB if coupled_SSB.any() else None
        self._interplay = arrays.space.interplay(tuple(limits))
        self.independent = self.coupled_SSB is None and self._interplay is None
        every_S = np.arange(len(coupled_SSB))
        self.changed_SK = _changed(coupled_SSB) if self._interplay is None else np.tile(every_S, (len(every_S), 1))

    def violation(self, excess: Array) -> Array:
        """By how much excesses (..., B) are over 0, in units of the limits (...)."""
        total: Array = (np.maximum(excess, 0.0) * (1 / self.limit_B)).sum(axis=-1)
        return total

    def saved(self, at_PS: Positions, rows_PK: Positions | None = None) -> Array:
        """What every option saves of the amounts that plans have, (P, K, O, B); rows are all sites unless named."""
        if self._interplay is not None:
            saved_PSOB = self._interplay.saved(at_PS)
            return saved_PSOB if rows_PK is None else np.take_along_axis(saved_PSOB, rows_PK[:, :, None, None], axis=1)
        sites_1S = np.arange(at_PS.shape[1])[None]
        rows_PK, at_PK = (sites_1S, at_PS) if rows_PK is None else (rows_PK, np.take_along_axis(at_PS, rows_PK, axis=1))
        saved_PKOB: Array = self.saving_SOB[rows_PK] - self.saving_SOB[rows_PK, at_PK][:, :, None]
        if self.coupled_SSB is not None:
            dropped_PS = self.dropped_SO[sites_1S, at_PS]
            less_PKB = np.einsum("pktb,pt->pkb", self.coupled_SSB[rows_PK], dropped_PS)
            more_PKO = self.dropped_SO[rows_PK] - self.dropped_SO[rows_PK, at_PK][:, :, None]
            saved_PKOB -= more_PKO[..., None] * less_PKB[:, :, None]
        return saved_PKOB


def _changed(coupled_SSB: Array) -> Positions:
    others = [np.flatnonzero(row_SB.any(axis=1)) for row_SB in coupled_SSB]
    positions = np.tile(np.arange(len(others))[:, None], (1, 1 + max(map(len, others))))
    for row, coupled in enumerate(others):
        positions[row, 1 : 1 + len(coupled)] = coupled
    return positions


def rates(harm: Array, useful: Array) -> Array:
    """Harm for what is useful, none counting a little; infinite where an option is of no use."""
    ratio = np.full(np.broadcast_shapes(harm.shape, useful.shape), np.inf)
    np.divide(np.maximum(harm, LEAST_DAMAGE), useful, out=ratio, where=useful > 0)
    return ratio


Array = NDArray[np.float64]
Positions = NDArray[np.intp]


class SpaceArrays:
    """What a space says of each option, by site and place.

    Attributes:
        names: sites in the order of the arrays.
        damage_SO: predicted damage; infinite where a row is padded.
        dropped_SO: channels that an option removes.
        methods: the methods of all options.
        method_SO: place of an option's method among them; 0 for dense and where a row is padded.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.names = space, tuple(space.sites)
        self._row = {name: row for row, name in enumerate(self.names)}
        self._width = 1 + max(map(len, space.sites.values()))
        self.damage_SO = self._table(
            ((option.damage for option in options) for options in space.sites.values()), padding=np.inf
        )
        self.dropped_SO = self._table((option.dropped for option in options) for options in space.sites.values())
        named = [[option.choice.method for option in options] for options in space.sites.values()]
        self.methods = tuple(dict.fromkeys(method for methods in named for method in methods))
        method_indices = ([float(self.methods.index(method)) for method in methods] for methods in named)
        self.method_SO: Positions = self._table(method_indices).astype(np.intp)

    def _table(self, rows: Iterable[Iterable[float]], padding: float = 0.0) -> Array:
        table = np.full((len(self.names), self._width), padding)
        for row, values in enumerate(rows):
            known = [0.0, *values]
            table[row, : len(known)] = known
        return table

    def saving_SO(self, quantity: Quantity) -> Array:
        """What each option saves of a quantity beside dense."""
        sites = self.space.sites.values()
        return self._table((0.0 - float(getattr(option.cost, quantity)) for option in options) for options in sites)

    def coupled_SS(self, quantity: Quantity) -> Array:
        """What two dropped channels at two sites cost beyond the sum of both."""
        coupling = np.zeros((len(self.names), len(self.names)))
        for pair in self.space.couplings:
            if pair.first in self._row and pair.second in self._row:
                first, second = self._row[pair.first], self._row[pair.second]
                coupling[first, second] = coupling[second, first] = getattr(pair.cost, quantity) / pair.pairs
        return coupling

    def by_option(self, values_SM: Array) -> Array:
        """Values (..., S, O) by option of values (..., S, M) by method; dense has those of the first."""
        values: Array = values_SM[..., np.arange(len(self.names))[:, None], self.method_SO]
        return values

    def positions(self, plan: CompressionPlan) -> Positions:
        """The plan's positions (S,).

        Raises:
            ValueError: the space lacks a choice of the plan.
        """
        chosen = np.zeros(len(self.names), dtype=np.intp)
        for name, choice in plan.sites.items():
            chosen[self._row[name]] = 1 + self.space.place(name, choice)
        return chosen

    def plan(self, at_S: Positions) -> CompressionPlan:
        """The plan that has these positions."""
        rows = zip(self.names, self.space.sites.values(), at_S.tolist(), strict=True)
        return CompressionPlan(sites={name: options[at - 1].choice for name, options, at in rows if at})

    def taken_PS(self, values_SO: Array, at_PS: Positions) -> Array:
        """The values of the options that plans take."""
        taken: Array = values_SO[np.arange(len(self.names)), at_PS]
        return taken
