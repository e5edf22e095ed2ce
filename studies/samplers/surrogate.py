"""A model of what plans score, built on what is known of them beforehand, and the plans it would try next.

Optuna's samplers see a plan as a list of numbers without meaning. Here a Gaussian process predicts a plan's score: its
mean falls with the plan's predicted damage, and its kernel compares what each site saves and how much harm that is
predicted to do, so that a few dozen scores say which sites are more robust than the damage table believes.

Legend of shapes: K known plans, P proposed ones, R running ones, S sites, O options (0 is dense), F features.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular  # type: ignore[import-untyped]

from sconv_search.search_space.tables import Array, Positions, SpaceArrays

FEWEST_KNOWN = 3
NOISE = 0.01
LINEAR_SHARE = 0.3
OPTIMISM = 1.0
UNLIKE_METHODS = 0.5
"""Squared distance of two methods that save as much at a site, in units of that between dense and one of them,
halved.
"""


class Surrogate:
    """Predicts scores of plans, given as positions, from those of others."""

    def __init__(self, arrays: SpaceArrays) -> None:
        flops_SO = arrays.saving_SO("flops")
        self._arrays = arrays
        self._saved_SO = flops_SO / np.maximum(np.abs(flops_SO).max(axis=1, keepdims=True), 1.0)
        self._harm_SO = np.where(np.isfinite(arrays.damage_SO), arrays.damage_SO, 0.0)
        self._scores: dict[bytes, float] = {}
        self._known: list[Positions] = []

    def learn(self, at_S: Positions, score: float) -> None:
        """Notes a plan's score, higher is better; of several for one plan the best counts."""
        key = at_S.tobytes()
        if key not in self._scores:
            self._known.append(at_S)
        self._scores[key] = max(score, self._scores.get(key, score))

    @property
    def best(self) -> Positions:
        """The plan with the highest score, the first of equals."""
        return self._known[int(np.argmax(list(self._scores.values())))]

    def knows(self, at_S: Positions) -> bool:
        """Whether the plan has a score."""
        return at_S.tobytes() in self._scores

    @property
    def is_ready(self) -> bool:
        """Whether enough plans are known to predict anything."""
        return len(self._scores) >= FEWEST_KNOWN

    def pick(self, proposed_PS: Positions, running_RS: Positions | None = None) -> int:
        """Which proposed plan has the highest upper confidence bound; plans that run count as if they scored as
        predicted.
        """
        known_KS, values_K = np.stack(self._known), _regrets(np.array(list(self._scores.values())))
        if running_RS is not None and len(running_RS):
            values_K = np.concatenate([values_K, self._predicted(known_KS, values_K, running_RS)[0]])
            known_KS = np.concatenate([known_KS, running_RS])
        mean_P, deviation_P = self._predicted(known_KS, values_K, proposed_PS)
        return int(np.argmin(mean_P - OPTIMISM * deviation_P))

    def _predicted(self, known_KS: Positions, values_K: Array, proposed_PS: Positions) -> tuple[Array, Array]:
        """Mean and standard deviation of the proposed plans' regrets."""
        (saved_KF, harm_KS), (saved_PF, harm_PS) = self._described(known_KS), self._described(proposed_PS)
        trend = _line(harm_KS.sum(1), values_K)
        rest_K = values_K - np.polyval(trend, harm_KS.sum(1))
        among_KK = _distances(saved_KF, saved_KF)
        length, scale = np.median(among_KK) + 1e-9, np.square(harm_KS.sum(1)).max() + 1e-12

        def kernel(distances: Array, harm: Array) -> Array:
            value: Array = (1 - LINEAR_SHARE) * np.exp(
                -distances / (2 * length)
            ) + LINEAR_SHARE * harm @ harm_KS.T / scale
            return value

        factor_KK = cho_factor(kernel(among_KK, harm_KS) + NOISE * np.eye(len(known_KS)), lower=True)
        across_PK = kernel(_distances(saved_PF, saved_KF), harm_PS)
        own_P = (1 - LINEAR_SHARE) + LINEAR_SHARE * np.square(harm_PS).sum(1) / scale
        explained_P = np.square(solve_triangular(factor_KK[0], across_PK.T, lower=True)).sum(0)
        mean_P = np.polyval(trend, harm_PS.sum(1)) + across_PK @ cho_solve(factor_KK, rest_K)
        return mean_P, np.sqrt(rest_K.var() * np.maximum(own_P - explained_P, 0.0))

    def _described(self, at_PS: Positions) -> tuple[Array, Array]:
        """What each site saves, as a share of the most it could, (P, F), and its predicted damage, (P, S).

        Features of several methods are what each site saves, and what it saves by each of them.
        """
        saved_PS, harm_PS = (self._arrays.taken_PS(values_SO, at_PS) for values_SO in (self._saved_SO, self._harm_SO))
        methods = range(len(self._arrays.methods))
        if len(methods) == 1:
            return saved_PS, harm_PS
        by_PS = self._arrays.taken_PS(self._arrays.method_SO.astype(np.float64), at_PS)
        shared, own = np.sqrt(1 - UNLIKE_METHODS), np.sqrt(UNLIKE_METHODS)
        return np.hstack([shared * saved_PS, *(own * saved_PS * (by_PS == method) for method in methods)]), harm_PS


def _regrets(scores: Array) -> Array:
    """How far scores lie behind the best, on a scale on which collapsed plans do not hide differences among good
    ones.
    """
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
