"""A model of what plans score, built on what is known of them beforehand, and the plans it would try next.

Optuna's samplers see a plan as a list of numbers without meaning. Here a Gaussian process predicts a plan's score: its mean
falls with the plan's predicted damage, and its kernel compares what each site saves and how much harm that is predicted to
do, so that a few dozen scores say which sites are more robust than the damage table believes.

Legend of shapes: K known plans, P proposed ones, S sites.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sconv_search.plan import CompressionPlan
from sconv_search.search_space import SearchSpace

FEWEST_KNOWN = 3
NOISE = 0.01
LINEAR_SHARE = 0.3
OPTIMISM = 1.0
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plan with the preferences of groups and the sharpness that it was decoded from."""

    preferences: Mapping[str, float]
    sharpness: float
    plan: CompressionPlan


class Surrogate:
    """Predicts scores of plans from those of others."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._most_S = np.array([max(abs(option.cost.flops) for option in options) for options in space.sites.values()])
        self._scores: dict[str, float] = {}
        self._traits: dict[str, tuple[Array, Array]] = {}

    def learn(self, plan: str, score: float) -> None:
        """Notes a plan's score, higher is better; of several for one plan the best counts."""
        self._scores[plan] = max(score, self._scores.get(plan, score))

    @property
    def best(self) -> str:
        """The plan with the highest score, as JSON text."""
        return max(self._scores, key=lambda plan: self._scores[plan])

    @property
    def plans(self) -> Iterable[str]:
        """The plans that have a score, as JSON texts."""
        return self._scores.keys()

    @property
    def is_ready(self) -> bool:
        """Whether enough plans are known to predict anything."""
        return len(self._scores) >= FEWEST_KNOWN

    def pick(self, candidates: Sequence[Candidate], running: Sequence[CompressionPlan] = ()) -> Candidate:
        """The candidate with the highest upper confidence bound; plans that run count as if they scored as predicted."""
        known = list(self._scores)
        values_K = _regrets(np.array(list(self._scores.values())))
        if running:
            texts = [plan.to_json() for plan in running]
            values_K = np.concatenate([values_K, self._predicted(known, values_K, texts)[0]])
            known = [*known, *texts]
        mean_P, deviation_P = self._predicted(known, values_K, [candidate.plan.to_json() for candidate in candidates])
        return candidates[int(np.argmin(mean_P - OPTIMISM * deviation_P))]

    def _predicted(self, known: Sequence[str], values_K: Array, proposed: Sequence[str]) -> tuple[Array, Array]:
        """Mean and standard deviation of the proposed plans' regrets."""
        saved_KS, harm_KS = self._described(known)
        saved_PS, harm_PS = self._described(proposed)
        trend = _line(harm_KS.sum(1), values_K)
        rest_K = values_K - np.polyval(trend, harm_KS.sum(1))
        length, scale = np.median(_distances(saved_KS, saved_KS)) + 1e-9, np.square(harm_KS.sum(1)).max() + 1e-12

        def kernel(saved: Array, harm: Array) -> Array:
            near = np.exp(-_distances(saved, saved_KS) / (2 * length))
            value: Array = (1 - LINEAR_SHARE) * near + LINEAR_SHARE * harm @ harm_KS.T / scale
            return value

        inverse_KK = np.linalg.inv(kernel(saved_KS, harm_KS) + NOISE * np.eye(len(known)))
        across_PK = kernel(saved_PS, harm_PS)
        own_P = (1 - LINEAR_SHARE) + LINEAR_SHARE * np.square(harm_PS).sum(1) / scale
        explained_P = ((across_PK @ inverse_KK) * across_PK).sum(1)
        mean_P = np.polyval(trend, harm_PS.sum(1)) + across_PK @ (inverse_KK @ rest_K)
        return mean_P, np.sqrt(rest_K.var() * np.maximum(own_P - explained_P, 0.0))

    def _described(self, plans: Sequence[str]) -> tuple[Array, Array]:
        """What each site saves, as a share of the most it could, and its predicted damage; both (plans, S)."""
        traits = [self._traits_of(plan) for plan in plans]
        return np.array([saved_S for saved_S, _ in traits]), np.array([harm_S for _, harm_S in traits])

    def _traits_of(self, text: str) -> tuple[Array, Array]:
        if text not in self._traits:
            plan = CompressionPlan.from_json(text)
            taken = [self._space.option(name, plan.sites[name]) if name in plan.sites else None for name in self._space.sites]
            saved_S = np.array([-option.cost.flops if option else 0.0 for option in taken])
            harm_S = np.array([option.damage if option else 0.0 for option in taken])
            self._traits[text] = saved_S / self._most_S, harm_S
        return self._traits[text]


def _regrets(scores: Array) -> Array:
    """How far scores lie behind the best, on a scale on which collapsed plans do not hide differences among good ones."""
    behind = scores.max() - scores
    scale = float(np.quantile(behind, 0.25)) or float(behind.max()) or 1.0
    return np.asarray(np.log1p(behind / scale))


def _line(x: Array, y: Array) -> Array:
    """The coefficients of the regression line, which does not fall: more predicted damage is no better."""
    slope, offset = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, y.mean())
    return np.array([slope, offset]) if slope > 0 else np.array([0.0, y.mean()])


def _distances(first: Array, second: Array) -> Array:
    """Squared distances between all rows."""
    squares = np.square(first).sum(1)[:, None] + np.square(second).sum(1) - 2 * first @ second.T
    return np.asarray(np.maximum(squares, 0.0))
