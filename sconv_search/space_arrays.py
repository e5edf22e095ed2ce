"""A search space as arrays, for code that looks at many plans at once.

A plan is then its *positions*: at each site 0, which is dense, or the place of an option, counted from 1.

Legend of shapes: P plans, S sites, O options (0 is dense; rows with fewer options are padded), M methods.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sconv_search.plan import CompressionPlan
from sconv_search.records import Quantity
from sconv_search.search_space import SearchSpace

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
        self.damage_SO = self._table(((one.damage for one in options) for options in space.sites.values()), padding=np.inf)
        self.dropped_SO = self._table((one.dropped for one in options) for options in space.sites.values())
        named = [[one.choice.method for one in options] for options in space.sites.values()]
        self.methods = tuple(dict.fromkeys(method for methods in named for method in methods))
        places = ([float(self.methods.index(method)) for method in methods] for methods in named)
        self.method_SO: Positions = self._table(places).astype(np.intp)

    def _table(self, rows: Iterable[Iterable[float]], padding: float = 0.0) -> Array:
        found = np.full((len(self.names), self._width), padding)
        for row, values in enumerate(rows):
            known = [0.0, *values]
            found[row, : len(known)] = known
        return found

    def saving_SO(self, quantity: Quantity) -> Array:
        """What each option saves of a quantity beside dense."""
        sites = self.space.sites.values()
        return self._table((0.0 - float(getattr(one.cost, quantity)) for one in options) for options in sites)

    def coupled_SS(self, quantity: Quantity) -> Array:
        """What two dropped channels at two sites cost beyond the sum of both."""
        found = np.zeros((len(self.names), len(self.names)))
        for pair in self.space.couplings:
            if pair.first in self._row and pair.second in self._row:
                first, second = self._row[pair.first], self._row[pair.second]
                found[first, second] = found[second, first] = getattr(pair.cost, quantity)
        return found

    def by_option(self, values_SM: Array) -> Array:
        """Values (..., S, O) by option of values (..., S, M) by method; dense has those of the first."""
        found: Array = values_SM[..., np.arange(len(self.names))[:, None], self.method_SO]
        return found

    def positions(self, plan: CompressionPlan) -> Positions:
        """The plan's positions (S,).

        Raises:
            ValueError: the space lacks a choice of the plan.
        """
        found = np.zeros(len(self.names), dtype=np.intp)
        for name, choice in plan.sites.items():
            found[self._row[name]] = 1 + self.space.place(name, choice)
        return found

    def plan(self, at_S: Positions) -> CompressionPlan:
        """The plan that has these positions."""
        rows = zip(self.names, self.space.sites.values(), at_S.tolist(), strict=True)
        return CompressionPlan(sites={name: options[at - 1].choice for name, options, at in rows if at})

    def taken_PS(self, values_SO: Array, at_PS: Positions) -> Array:
        """The values of the options that plans take."""
        found: Array = values_SO[np.arange(len(self.names)), at_PS]
        return found
