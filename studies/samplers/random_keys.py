"""The preferences of a study by name, as a sampler suggests them: one a group of sites, or one a group and method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sconv_search.search_space.tables import Array, SpaceArrays


class RandomKeys:
    """Names preferences, and tells which options each of them is about.

    Where several methods are searched, a group has a preference for each of those that its sites can be compressed by:
        else
    the damage table alone would decide which method a site takes.

    Legend of shapes: P plans, G preferences, S sites, O options, M methods.

    Args:
        groups: site -> the group that it belongs to.

    Attributes:
        names: of the preferences, in the order of the sites.
    """

    def __init__(self, arrays: SpaceArrays, groups: Mapping[str, str]) -> None:
        self._arrays = arrays
        offered = {
            (site, arrays.methods.index(option.choice.method))
            for site, options in arrays.space.sites.items()
            for option in options
        }
        named = {
            (row, method): groups[site] if len(arrays.methods) == 1 else f"{groups[site]}/{arrays.methods[method]}"
            for row, site in enumerate(arrays.names)
            for method in range(len(arrays.methods))
            if (site, method) in offered
        }
        self.names = tuple(dict.fromkeys(named.values()))
        self._members = tuple(named)
        self._group_N = np.array([self.names.index(name) for name in named.values()])

    def by_option(self, values_PG: Array) -> Array:
        """The preferences (P, S, O) of all options."""
        values_PSM = np.zeros((len(values_PG), len(self._arrays.names), len(self._arrays.methods)))
        rows, methods = np.array(self._members).T
        values_PSM[:, rows, methods] = values_PG[:, self._group_N]
        return self._arrays.by_option(values_PSM)

    def by_name(self, values_SM: Array) -> dict[str, float]:
        """The mean over the sites of each group, by name."""
        rows, methods = np.array(self._members).T
        sums = np.bincount(self._group_N, values_SM[rows, methods])
        return dict(zip(self.names, (sums / np.bincount(self._group_N)).tolist(), strict=True))
