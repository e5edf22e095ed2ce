"""Whole-number functions that are linear in each variable: known everywhere once they are known at a few points.

A layer's cost is such a function of its channels and ranks. The few points are chosen so that the products of the
variables there span those at every other point; all arithmetic is exact.

Legend of shapes: N points, V variables, M = 2^V products of variables, R points that span all, Q values a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, combinations
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRIME = 2**31 - 1
"""Ranks are those modulo it: never greater than the true ones, and products of two residues fit into 64 bits."""
Whole = NDArray[np.int64]


def products(points_NV: Whole) -> Whole:
    """The products of each subset of the variables, (N, M); the first is the empty one, 1."""
    variables = range(points_NV.shape[1])
    subsets = chain.from_iterable(combinations(variables, size) for size in range(points_NV.shape[1] + 1))
    return np.stack([points_NV[:, list(subset)].prod(axis=1) for subset in subsets], axis=1)


def spanning(points_NV: Whole) -> list[int]:
    """Places of few points, the first possible ones, whose products span those of all."""
    return _eliminated(products(points_NV) % PRIME)[0]


@dataclass(frozen=True, kw_only=True)
class Multilinear:
    """A function of whole numbers that is linear in each, as a sum of products.

    Args:
        points: those that it was made from, (R, V); it is known where their products span those of a point.
        columns: the products in it.
        factors: of each, (R, Q), over one denominator.
    """

    points: Whole
    columns: tuple[int, ...]
    factors: tuple[tuple[int, ...], ...]
    denominator: int

    @classmethod
    def through(cls, points_RV: Whole, values_RQ: Whole) -> Multilinear:
        """The function with these values at these points.

        Raises:
            ValueError: the points' products are not independent.
        """
        rows_RM = products(points_RV)
        chosen, columns, _ = _eliminated(rows_RM % PRIME)
        if len(chosen) < len(points_RV):
            raise ValueError(f"{len(points_RV)} points were given, of which {len(chosen)} are independent")
        solved = _solved(rows_RM[:, columns].tolist(), values_RQ.tolist())
        denominator = lcm(*(value.denominator for row in solved for value in row))
        factors = tuple(tuple(int(value * denominator) for value in row) for row in solved)
        return cls(points=points_RV, columns=tuple(columns), factors=factors, denominator=denominator)

    def knows(self, points_NV: Whole) -> bool:
        """Whether its values at all these points follow from those that it was made from."""
        _, columns, basis_RM = _eliminated(products(self.points) % PRIME)
        rest_NM = products(points_NV) % PRIME
        for row, column in enumerate(columns):
            rest_NM = (rest_NM - rest_NM[:, column, None] * basis_RM[row]) % PRIME
        return not rest_NM.any()

    def __call__(self, points_NV: Whole) -> Whole:
        """The values at points that it knows, (N, Q).

        Raises:
            ValueError: a value is no whole number: it is not such a function.
        """
        rows_NR, factors_RQ = products(points_NV)[:, list(self.columns)], np.array(self.factors, dtype=object)
        largest = (
            max(abs(factor) for row in self.factors for factor in row) * int(rows_NR.max(initial=1)) * rows_NR.shape[1]
        )
        kind: type = np.int64 if largest < 2**62 else object
        scaled: NDArray[Any] = rows_NR.astype(kind) @ factors_RQ.astype(kind)
        if (scaled % self.denominator).any():
            raise ValueError(f"not linear in each variable: values through {self.points.tolist()} are no whole numbers")
        return np.asarray(scaled // self.denominator).astype(np.int64)


def _eliminated(rows_NM: Whole) -> tuple[list[int], list[int], Whole]:
    """Independent rows modulo the prime, the columns that show it, and the reduced rows of these columns."""
    left, chosen, columns = rows_NM.copy(), list[int](), list[int]()
    for column in range(left.shape[1]):
        usable = np.flatnonzero(left[:, column])
        row_index = next((int(row) for row in usable if int(row) not in chosen), None)
        if row_index is None:
            continue
        left[row_index] = left[row_index] * pow(int(left[row_index, column]), -1, PRIME) % PRIME
        others = usable[usable != row_index]
        left[others] = (left[others] - left[others, column, None] * left[row_index]) % PRIME
        chosen.append(row_index)
        columns.append(column)
    return chosen, columns, left[chosen]


def _solved(matrix: Sequence[Sequence[int]], values: Sequence[Sequence[int]]) -> list[list[Fraction]]:
    """The exact solution of a regular system, a row an unknown."""
    size = len(matrix)
    rows = [[Fraction(x) for x in (*left, *right)] for left, right in zip(matrix, values, strict=True)]
    for column in range(size):
        pivot = next(row for row in range(column, size) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [x / rows[column][column] for x in rows[column]]
        for row in range(size):
            if row != column and (factor := rows[row][column]):
                rows[row] = [x - factor * y for x, y in zip(rows[row], rows[column], strict=True)]
    return [row[size:] for row in rows]
