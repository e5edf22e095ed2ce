"""The dense kernel that comes closest to given outputs for given patches, with a ridge that held-out patches choose.

Legend: g groups, O outputs and F = C * taps patch features of one group.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sconv_search.calibration.moments import ridge_solved

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Relative to the mean second moment."""


class Pairs(NamedTuple):
    """Sums over patches x of the compressed network and outputs y of the dense one, in float64.

    Attributes:
        x: (g, F).
        xx: of x x^T, (g, F, F).
        y: (g, O).
        yx: of y x^T, (g, O, F).
        positions: how many patches.
    """

    x: Tensor
    xx: Tensor
    y: Tensor
    yx: Tensor
    positions: int

    def plus(self, other: Pairs | None) -> Pairs:
        """The sums over both."""
        if other is None:
            return self
        return Pairs(
            x=self.x + other.x,
            xx=self.xx + other.xx,
            y=self.y + other.y,
            yx=self.yx + other.yx,
            positions=self.positions + other.positions,
        )

    def averages(self, *, centered: bool) -> tuple[Tensor, Tensor]:
        """Of x x^T and y x^T, about the means or about 0."""
        xx, yx = self.xx / self.positions, self.yx / self.positions
        if not centered:
            return xx, yx
        x, y = self.x / self.positions, self.y / self.positions
        return xx - x[:, :, None] * x[:, None], yx - y[:, :, None] * x[:, None]


def retargeted(kernel_gOF: Tensor, fitted: Pairs, held: Pairs | None, *, centered: bool) -> Tensor:
    """The kernel that meets the outputs best, (g, O, F); of each ridge, and of no change, the one that held-out pairs
    prefer.
    """
    second, cross = fitted.plus(held).averages(centered=centered)
    if held is None:
        return kernel_gOF + ridge_solved(second, cross - kernel_gOF @ second, RIDGES[1])
    own_second, own_cross = fitted.averages(centered=centered)
    held_second, held_cross = held.averages(centered=centered)
    wrong = own_cross - kernel_gOF @ own_second

    def error(kernel: Tensor) -> float:
        return float((((kernel @ held_second) - 2 * held_cross) * kernel).sum())

    errors = {ridge: error(kernel_gOF + ridge_solved(own_second, wrong, ridge)) for ridge in RIDGES}
    best = min(errors, key=lambda ridge: errors[ridge])
    if error(kernel_gOF) <= errors[best]:
        return kernel_gOF
    return kernel_gOF + ridge_solved(second, cross - kernel_gOF @ second, best)
