"""Suggestions by the surrogate: preferences around the best plan and at random, of which the model takes the most promising."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sconv_search.budget import Budgets
from sconv_search.budget_filling import SHARPNESS_RANGE
from sconv_search.plan import CompressionPlan
from sconv_search.plan_rules import preferences_of
from sconv_search.records import TrialRecord
from sconv_search.search_space import SearchSpace
from studies.surrogate import Candidate, Surrogate

CANDIDATES = 48
SPREAD_RANGE = (0.25, 2.0)
STEP, MOVED_SHARE = 0.5, 0.25
Decode = Callable[[Mapping[str, float], float], CompressionPlan]


class Informed:
    """Learns from records what plans score, and suggests the next; equal records give equal suggestions.

    Args:
        groups: names, each of which has a preference.
        of_groups: from preferences by site to preferences by group.
        screened: whether all plans are scored untrained first, which then is what is predicted.
    """

    def __init__(
        self, space: SearchSpace, groups: Sequence[str], of_groups: Callable[[Mapping[str, float]], Mapping[str, float]],
        seed: int, *, screened: bool,
    ) -> None:  # fmt: skip
        self._space, self._groups, self._of_groups, self._seed, self._screened = space, groups, of_groups, seed, screened
        self._surrogate = Surrogate(space)
        self._without_score: set[str] = set()
        self._running: dict[int, CompressionPlan] = {}

    def learn(self, found: TrialRecord) -> None:
        """Notes what a trial gave."""
        if found.number is not None:
            self._running.pop(found.number, None)
        if found.plan is None:
            return
        score = found.screen_top1 if self._screened else found.val_top1
        if score is None or found.status not in ("complete", "screened"):
            self._without_score.add(found.plan)
        else:
            self._surrogate.learn(found.plan, score)

    def began(self, number: int, plan: CompressionPlan) -> None:
        """Notes that a plan is being evaluated: others keep away from it."""
        self._running[number] = plan

    def suggest(self, number: int, budgets: Budgets, decode: Decode) -> Candidate | None:
        """The candidate that promises most under the budgets; None while too little is known, or nothing new was found."""
        if not self._surrogate.is_ready:
            return None
        best = CompressionPlan.from_json(self._surrogate.best)
        around = self._of_groups(preferences_of(self._space, best, budgets))
        known = {*self._surrogate.plans, *self._without_score, *(plan.to_json() for plan in self._running.values())}
        found = self._candidates(around, decode, known, np.random.default_rng([self._seed, number]))
        return self._surrogate.pick(found, list(self._running.values())) if found else None

    def _candidates(
        self, around: Mapping[str, float], decode: Decode, known: set[str], luck: np.random.Generator
    ) -> list[Candidate]:
        """Plans that are not known: one half from preferences drawn at random, one near those of the best plan."""
        found: dict[str, Candidate] = {}
        for number in range(CANDIDATES):
            values = self._moved(around, luck) if number % 2 else self._drawn(luck)
            preferences, sharpness = dict(zip(self._groups, values.tolist(), strict=True)), luck.uniform(*SHARPNESS_RANGE)
            plan = decode(preferences, sharpness)
            if (text := plan.to_json()) not in known:
                found.setdefault(text, Candidate(preferences=preferences, sharpness=sharpness, plan=plan))
        return list(found.values())

    def _moved(self, around: Mapping[str, float], luck: np.random.Generator) -> np.ndarray:
        moves = luck.normal(0, STEP, len(self._groups)) * (luck.random(len(self._groups)) < MOVED_SHARE)
        moved: np.ndarray = np.array([around[name] for name in self._groups]) + moves
        return moved

    def _drawn(self, luck: np.random.Generator) -> np.ndarray:
        spread = np.exp(luck.uniform(*np.log(SPREAD_RANGE)))
        drawn: np.ndarray = spread * luck.uniform(-1, 1, len(self._groups))
        return drawn
