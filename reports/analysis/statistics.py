"""Paired tests over seeds, and rank correlation.

By ``scipy.special`` and pandas: importing ``scipy.stats`` takes a second, a twentieth of a report of 100,000 rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import pandas as pd
from scipy.special import stdtr  # type: ignore[import-untyped]

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
    n, mean, deviation = len(differences), fmean(differences), stdev(differences)
    if deviation <= 1e-12 * max(1.0, abs(mean)):  # but for rounding
        return None
    return float(2 * stdtr(n - 1, -abs(mean) / (deviation / math.sqrt(n))))


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the exact permutation test: the share of all 2^n sign patterns whose mean is at least as far from
    0.
    """
    signs = 1 - 2 * (np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences)) & 1)
    means = np.abs(signs @ np.asarray(differences)) / len(differences)
    within_rounding = (1 - 1e-12) * abs(fmean(differences))
    return float(np.mean(means >= within_rounding))


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
    both = pd.DataFrame({"first": first.to_numpy("float64", na_value=math.nan)})
    both["second"] = second.to_numpy("float64", na_value=math.nan)
    both = both.dropna()
    if len(both) < 2 or (both.nunique() == 1).any():
        return None
    return float(both.corr(method="spearman").to_numpy()[0, 1])
