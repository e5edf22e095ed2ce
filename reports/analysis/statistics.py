"""Paired tests over seeds, and rank correlation, by SciPy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, spearmanr, ttest_1samp  # type: ignore[import-untyped]

FEWEST = 3
"""A t-test on fewer pairs says nothing that a reader should lean on."""
MOST_FLIPPED = 14
"""All sign patterns of so many pairs are tried; of more they would take seconds."""
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The difference of two methods over the seeds that both were trained with.

    Args:
        n: number of pairs.
        difference: mean of the differences, in the metric's unit.
        t_test: two-sided p of the paired t-test; None with fewer than three pairs, or where all differences are equal.
        sign_flip: two-sided p of the exact permutation test that flips each pair; with n pairs at least 2 / 2^n.
    """

    n: int
    difference: float
    t_test: float | None
    sign_flip: float | None


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """Compares scores by seed; None where no seed is common."""
    differences = [first[seed] - second[seed] for seed in sorted(set(first) & set(second))]
    if not differences:
        return None
    enough = len(differences) >= FEWEST
    return Paired(
        n=len(differences),
        difference=fmean(differences),
        t_test=t_test(differences) if enough else None,
        sign_flip=sign_flip(differences) if enough and len(differences) <= MOST_FLIPPED else None,
    )


def t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of Student's t-test that the mean difference is 0; None where the differences do not vary."""
    if stdev(differences) <= 1e-12 * max(1.0, abs(fmean(differences))):  # but for rounding
        return None
    return float(ttest_1samp(differences, 0.0).pvalue)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the exact permutation test: the share of all 2^n sign patterns whose mean is at least as far from
    0.
    """
    test = permutation_test(
        (differences,),
        lambda flipped, axis: np.abs(np.mean(flipped, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    )
    return float(test.pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values made comparable with one level although several were tested (Holm 1979); None stays None."""
    order = sorted((p, position) for position, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, position) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[position] = largest
    return adjusted


def spearman(first: pd.Series[float], second: pd.Series[float]) -> float | None:
    """Rank correlation of two aligned series, pairs with a missing value left out; None where one of them does not
    vary.
    """
    both = np.array([series.to_numpy("float64", na_value=math.nan) for series in (first, second)])
    both = both[:, ~np.isnan(both).any(axis=0)]
    if both.shape[1] < 2 or (both == both[:, :1]).all(axis=1).any():
        return None
    return float(spearmanr(*both).statistic)
