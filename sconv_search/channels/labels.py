"""Channels of all layers as numbers (labels), which of them go together, and which must stay.

A tensor's labels are a tensor too, of one entry an axis along which they are all alike: those of an image are (1, C, 1,
1). Label 0 is no channel: an entry that no pruning takes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.int64]


@dataclass
class Bonds:
    """What one forward tells of labels: pairs that go together, and labels that stay, with the reason."""

    joined: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    held: list[tuple[Numbers, str]] = field(default_factory=list)

    def join(self, first: Tensor, second: Tensor) -> None:
        """Channels that go together, place by place; where only one of both is a channel, it stays."""
        a, b = (numbers(labels) for labels in torch.broadcast_tensors(first, second))
        both = (a > 0) & (b > 0)
        if both.any():
            self.joined.append((a[both], b[both]))
        self.hold(np.concatenate([a[(a > 0) & ~both], b[(b > 0) & ~both]]), "they meet what cannot be pruned")

    def hold(self, labels: Tensor | Numbers, reason: str) -> None:
        """Channels that stay."""
        own = np.unique(numbers(labels) if isinstance(labels, Tensor) else labels)
        own = own[own > 0]
        if own.size:
            self.held.append((own, reason))


class Components:
    """Sets of labels that go together, after all that is known.

    Args:
        count: labels in all, 0 included.
    """

    def __init__(self, count: int, bonds: Sequence[Bonds]) -> None:
        from scipy.sparse import coo_matrix  # type: ignore[import-untyped]  # here: it takes long to import
        from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

        pairs = [pair for bond in bonds for pair in bond.joined]
        none = np.zeros(0, dtype=np.int64)
        rows, columns = (np.concatenate([none, *(pair[side] for pair in pairs)]) for side in (0, 1))
        graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
        self.of_label: Numbers = connected_components(graph, directed=False)[1].astype(np.int64)
        self._reasons: dict[int, str] = {}
        for bond in bonds:
            for labels, reason in bond.held:
                for component in np.unique(self.of_label[labels]).tolist():
                    self._reasons.setdefault(component, reason)

    def reason(self, components: Numbers) -> str | None:
        """Why the first of them that stays does; None if none does."""
        return next((self._reasons[own] for own in components.tolist() if own in self._reasons), None)


def numbers(labels: Tensor) -> Numbers:
    """The labels one after another."""
    return labels.reshape(-1).numpy().astype(np.int64)


def collapsed(labels: Tensor) -> Tensor:
    """The same with one entry for each axis along which all are alike."""
    for axis in reversed(range(labels.dim())):
        if labels.size(axis) > 1:
            first = labels.narrow(axis, 0, 1)
            if bool((labels == first).all()):
                labels = first
    return labels


def axes(labels: Tensor) -> set[int]:
    """Those along which labels differ."""
    return {axis for axis, size in enumerate(labels.shape) if size > 1}
