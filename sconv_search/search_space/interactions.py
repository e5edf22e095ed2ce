"""What every option of a space would save from where the sites stand, where choices change each other's layers.

Legend of shapes: P plans, S sites, O options (0 is dense; rows with fewer options are padded), B budgets, L narrowed
layers, K pairs of a site and a narrowed layer whose cost the site's choice changes, A amounts of a cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sconv_search.budget import Budget
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.narrowing import AMOUNTS, Narrowing, Side

if TYPE_CHECKING:
    from sconv_search.search_space.space import SearchSpace

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


class Interplay:
    """The exact savings of single moves in a space with couplings or narrowings, for budgets of some quantities.

    Args:
        limits: budgets, of which the quantities alone count.
    """

    def __init__(self, space: SearchSpace, limits: Sequence[Budget]) -> None:
        self._space = space
        self._place = {name: row for row, name in enumerate(space.sites)}
        sites, most = len(space.sites), 1 + max(map(len, space.sites.values()))
        self._rows = np.arange(sites)
        self._saving_SOB = np.zeros((sites, most, len(limits)))
        self._dropped_SO = np.zeros((sites, most), dtype=np.int64)
        self.exists_SO = np.zeros((sites, most), dtype=bool)
        for row, options in enumerate(space.sites.values()):
            self._saving_SOB[row, 1 : 1 + len(options)] = [
                [-limit.of(option.cost) for limit in limits] for option in options
            ]
            self._dropped_SO[row, 1 : 1 + len(options)] = [option.dropped for option in options]
            self.exists_SO[row, : 1 + len(options)] = True
        self._coupled_SSB = np.zeros((sites, sites, len(limits)))
        for pair in space.couplings:
            if pair.first in self._place and pair.second in self._place:
                first, second = self._place[pair.first], self._place[pair.second]
                self._coupled_SSB[first, second] = self._coupled_SSB[second, first] = [
                    limit.of(pair.cost) / pair.pairs for limit in limits
                ]
        self._narrowed = _Narrowed(space, self._place, self._dropped_SO, limits) if space.narrowings else None

    def saved(self, at_PS: Whole) -> Array:
        """What each option would save of each budget if its site alone moved there: (P, S, O, B).

        Args:
            at_PS: the option at which each site stands.
        """
        dropped_PS = self._dropped_SO[self._rows, at_PS]
        less_PSB = np.einsum("stb,pt->psb", self._coupled_SSB, dropped_PS)
        saved_PSOB = self._saving_SOB - self._saving_SOB[self._rows, at_PS][:, :, None]
        saved_PSOB -= (self._dropped_SO - dropped_PS[:, :, None])[..., None] * less_PSB[:, :, None]
        if self._narrowed is not None:
            saved_PSOB -= self._narrowed.dearer(at_PS, dropped_PS)
        return saved_PSOB

    def descended(self, plan: CompressionPlan, weight_B: Array) -> CompressionPlan:
        """The plan at which no single move saves more of the weighted quantities, reached by the moves that save
        most.
        """
        at_S = np.zeros(len(self._rows), dtype=np.int64)
        for name, choice in plan.sites.items():
            at_S[self._place[name]] = 1 + [option.choice for option in self._space.sites[name]].index(choice)
        least = 1e-9 * float(np.abs(self._saving_SOB @ weight_B).max())  # what rounding can pretend
        while True:
            saved_SO = np.where(self.exists_SO, self.saved(at_S[None])[0] @ weight_B, -np.inf)
            row, option = np.unravel_index(int(saved_SO.argmax()), saved_SO.shape)
            if saved_SO[row, option] <= least:
                break
            at_S[row] = option
        chosen = zip(self._space.sites.items(), at_S, strict=True)
        return CompressionPlan(sites={name: options[at - 1].choice for (name, options), at in chosen if at})


class _Narrowed:
    """Tables of what choices cost beyond their sum, looked up for all moves at once."""

    def __init__(
        self, space: SearchSpace, index_of: Mapping[str, int], dropped_SO: Whole, limits: Sequence[Budget]
    ) -> None:
        known = {name: limit for name, limit in space.narrowings.items() if name in index_of}
        self._dropped_SO, weight_AB = dropped_SO, _weights(limits)
        self._own_L = np.array([index_of[name] for name in known], dtype=np.int64)
        self._inputs = _Widths(
            [(limit.inputs, {pair[0] for pair in limit.widths}) for limit in known.values()], index_of
        )
        self._outputs = _Widths(
            [(limit.outputs, {pair[1] for pair in limit.widths}) for limit in known.values()], index_of
        )
        grids = [self._grid(layer, name, limit, space) @ weight_AB for layer, (name, limit) in enumerate(known.items())]
        self._across_L = np.array([grid.shape[1] for grid in grids], dtype=np.int64)
        self._start_L = np.cumsum([0, *(grid[..., 0].size for grid in grids)])[:-1]
        self._table = np.concatenate([grid.reshape(-1, len(limits)) for grid in grids])
        changes_LS = (self._inputs.lost_LS + self._outputs.lost_LS) > 0
        changes_LS[np.arange(len(known)), self._own_L] = True
        self._layer_K, self._site_K = np.nonzero(changes_LS)
        self._is_of_SK = (np.arange(len(index_of))[:, None] == self._site_K).astype(float)

    def _grid(self, layer: int, name: str, narrowing: Narrowing, space: SearchSpace) -> Array:
        """A layer's corrections by place of its inputs, place of its outputs, option and amount."""
        rows, columns = (
            side.place_LW[layer, [pair[axis] for pair in narrowing.widths]]
            for axis, side in enumerate((self._inputs, self._outputs))
        )
        grid = np.zeros((rows.max() + 1, columns.max() + 1, self._dropped_SO.shape[1], len(AMOUNTS)))
        for number, option in enumerate(space.sites[name], start=1):
            if (costs := narrowing.beyond.get(option.choice)) is not None:
                grid[rows, columns, number] = [[getattr(cost, amount) for amount in AMOUNTS] for cost in costs]
        return grid

    def dearer(self, at_PS: Whole, dropped_PS: Whole) -> Array:
        """What each move costs beyond the sums of its site's costs and couplings: (P, S, O, B)."""
        layer_K, site_K = self._layer_K, self._site_K
        own_K = self._own_L[layer_K]
        inputs_PK, outputs_PK = (side.left(dropped_PS)[:, layer_K] for side in (self._inputs, self._outputs))
        before_PKB = self._looked_up(layer_K, inputs_PK, outputs_PK, at_PS[:, own_K])
        more_PKO = self._dropped_SO[site_K] - dropped_PS[:, site_K, None]
        option_PKO = np.where((own_K == site_K)[:, None], np.arange(self._dropped_SO.shape[1]), at_PS[:, own_K, None])
        after_PKOB = self._looked_up(
            layer_K[:, None],
            inputs_PK[..., None] - self._inputs.lost_LS[layer_K, site_K, None] * more_PKO,
            outputs_PK[..., None] - self._outputs.lost_LS[layer_K, site_K, None] * more_PKO,
            option_PKO,
        )
        change_PKOB = after_PKOB - before_PKB[:, :, None]
        return np.asarray(np.tensordot(self._is_of_SK, change_PKOB, (1, 1)).swapaxes(0, 1))

    def _looked_up(self, layer: Whole, inputs: Whole, outputs: Whole, option: Whole) -> Array:
        row, column = self._inputs.place_LW[layer, inputs], self._outputs.place_LW[layer, outputs]
        cell = (row * self._across_L[layer] + column) * self._dropped_SO.shape[1] + option
        amounts: Array = self._table[self._start_L[layer] + cell]
        return amounts


class _Widths:
    """The inputs, or the outputs, of all narrowed layers: how many are left, and at which place of a table that is."""

    def __init__(self, sides: Sequence[tuple[Side, Set[int]]], index_of: Mapping[str, int]) -> None:
        self._channels_L = np.array([side.channels for side, _ in sides], dtype=np.int64)
        self.lost_LS = np.zeros((len(sides), len(index_of)), dtype=np.int64)
        self.place_LW = np.zeros((len(sides), 1 + int(self._channels_L.max())), dtype=np.int64)
        for layer, (side, widths) in enumerate(sides):
            for name in side.lost.keys() & index_of.keys():
                self.lost_LS[layer, index_of[name]] = side.lost[name]
            self.place_LW[layer, sorted(widths)] = np.arange(len(widths))

    def left(self, dropped_PS: Whole) -> Whole:
        """The channels that stay in each layer, (P, L)."""
        channels: Whole = self._channels_L - dropped_PS @ self.lost_LS.T
        return channels


def _weights(limits: Sequence[Budget]) -> Array:
    """What one of each amount counts in each budget, (A, B)."""
    nothing = dict.fromkeys(("macs", "adds", "params"), 0)
    units = [Cost(**{**nothing, amount: 1}) for amount in AMOUNTS]
    return np.array([[limit.of(unit) for limit in limits] for unit in units], dtype=float)
