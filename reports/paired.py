"""Paired tests over seeds, and rank correlation: small and exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev

import numpy as np
import pandas as pd
from scipy.stats import rankdata  # type: ignore[import-untyped]

FEWEST = 3
"""A t-test on fewer pairs says nothing that a reader should lean on."""
MOST_FLIPPED = 14
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The difference of two methods over the seeds that both were trained with.

    Args:
        n: number of pairs.
        difference: mean of the differences, in points.
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
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        return None
    return two_sided_p(mean / (deviation / math.sqrt(n)), n - 1)


def two_sided_p(t: float, freedom: int) -> float:
    """P(|T| >= |t|) of Student's distribution with whole degrees of freedom: Abramowitz & Stegun 26.7.3 and 26.7.4."""
    theta = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = freedom % 2
    term, total = (cosine, cosine if freedom > 1 else 0.0) if odd else (1.0, 1.0)
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    within = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return min(1.0, max(0.0, 1.0 - within))


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the exact permutation test: the share of all 2^n sign patterns whose mean is at least as far from
    0.
    """
    observed = abs(math.fsum(differences)) * (1 - 1e-12)
    patterns = product((1, -1), repeat=len(differences))
    extreme = sum(
        abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in patterns
    )
    return float(extreme / 2 ** len(differences))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values made comparable with one level although several were tested (Holm 1979); None stays None."""
    order = sorted((p, place) for place, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted


def spearman(first: pd.Series[float], second: pd.Series[float]) -> float | None:
    """Rank correlation of two aligned series, pairs with a missing value left out; None where one of them does not
    vary.
    """
    both = np.array([series.to_numpy("float64", na_value=math.nan) for series in (first, second)])
    both = both[:, ~np.isnan(both).any(axis=0)]
    if both.shape[1] < 2 or (both == both[:, :1]).all(axis=1).any():
        return None
    return float(np.corrcoef(rankdata(both, axis=1))[0, 1])
