"""Moves of single channels between groups: what each would change, kept up to date at the cost of what a move touches.

Legend: C channels, c groups; gram_CC the inner products of the channels' kernel vectors.

A move changes two groups: two columns of the table, and the rows of those groups' members. All other entries stand, to
the last bit, so the moves are those that a table computed anew before each of them would name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Moves:
    """By how much the squared residual changes when a channel joins another group, for all channels and groups.

    Args:
        gram_CC: inner products.
        members: group of each channel, (C,).
        signs: with which each channel enters its group's sum, (C,) of 1 and -1.
        count: number of groups, c; none is empty.
        signed: whether a channel may change its sign when it moves.
    """

    def __init__(self, gram_CC: Floats, members: Counts, signs: Floats, count: int, *, signed: bool) -> None:
        self.members, self.signs = members.copy(), signs.copy()
        self._gram, self._signed = np.ascontiguousarray(gram_CC.T), signed  # products are not symmetric to the last bit
        self._norms = np.ascontiguousarray(gram_CC.diagonal())
        self._sizes = np.bincount(members, minlength=count).astype(np.float64)
        # <sum of group r, w_i>; a group is a row, so that it is read at once
        self._sums_cC = np.zeros((count, len(members)))
        for channel, group in enumerate(members):
            self._sums_cC[group] += signs[channel] * self._gram[channel]
        self._squared = np.array([self._square(group) for group in range(count)])
        everything = np.arange(len(members))
        self._leaving = np.empty(len(members))
        self._change_Cc = np.empty((len(members), count))
        self._best, self._best_group = np.empty(len(members)), np.empty(len(members), dtype=np.int64)
        self._renew_rows_(everything)

    def best(self) -> tuple[float, int, int]:
        """The change of the best move, the channel, and the group that it joins; infinite where no channel can move."""
        channel = int(self._best.argmin())
        return float(self._best[channel]), channel, int(self._best_group[channel])

    def move_(self, channel: int, target: int) -> None:
        """Lets the channel join that group."""
        source, sign = int(self.members[channel]), self.signs[channel]
        if self._signed:
            self.signs[channel] = -1.0 if self._sums_cC[target, channel] < 0 else 1.0
        self._sums_cC[source] -= sign * self._gram[channel]
        self._sums_cC[target] += self.signs[channel] * self._gram[channel]
        self._sizes[source] -= 1
        self._sizes[target] += 1
        self.members[channel] = target
        pair = (source, target)
        self._squared[[source, target]] = [self._square(group) for group in pair]
        touched = (self.members == source) | (self.members == target)
        self._renew_columns_(pair, ~touched)
        self._renew_rows_(touched.nonzero()[0])

    def _square(self, group: int) -> float:
        """The squared norm of a group's sum: added in order, as rounding must not depend on what was moved before."""
        own = (self.members == group).nonzero()[0]
        return float(np.add.accumulate(self.signs[own] * self._sums_cC[group, own])[-1])

    def _joining(self, groups: Sequence[int] | slice, channels: Counts | slice) -> Floats:
        """What joining changes in the group that is joined, (groups, channels)."""
        squared, sizes = self._squared[groups, None], self._sizes[groups, None]
        sums = self._sums_cC[groups][:, channels]
        along = np.abs(sums) if self._signed else sums
        joined: Floats = squared / sizes - (squared + 2 * along + self._norms[channels]) / (sizes + 1)
        return joined

    def _renew_rows_(self, channels: Counts) -> None:
        """The rows of channels whose own group has changed."""
        group = self.members[channels]
        squared, size = self._squared[group], self._sizes[group]
        own = self.signs[channels] * self._sums_cC[group, channels]
        without = (squared - 2 * own + self._norms[channels]) / np.maximum(size - 1, 1)
        leaving = squared / size - without
        leaving[size == 1] = np.inf
        self._leaving[channels] = leaving
        rows = self._joining(slice(None), channels).T + leaving[:, None]
        rows[np.arange(len(channels)), group] = np.inf
        self._change_Cc[channels] = rows
        self._look_again_(channels)

    def _renew_columns_(self, groups: Sequence[int], untouched: NDArray[np.bool_]) -> None:
        """The columns of groups that have changed, for channels of other groups."""
        look_again = np.zeros(len(untouched), dtype=bool)
        for group, joining in zip(groups, self._joining(list(groups), slice(None)), strict=True):
            column = joining + self._leaving
            look_again |= (self._best_group == group) & (column > self._best)
            better = (column < self._best) | ((column == self._best) & (group < self._best_group))
            better &= untouched
            self._best[better], self._best_group[better] = column[better], group
            self._change_Cc[untouched, group] = column[untouched]
        self._look_again_((look_again & untouched).nonzero()[0])

    def _look_again_(self, channels: Counts) -> None:
        rows = self._change_Cc[channels]
        self._best_group[channels] = rows.argmin(1)
        self._best[channels] = rows[np.arange(len(channels)), self._best_group[channels]]
