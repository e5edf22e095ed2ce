"""Suggestions by the surrogate: preferences around the best plan and at random, of which the model takes the most
promising.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sconv_search.plan import CompressionPlan
from sconv_search.records import TrialRecord
from sconv_search.search_space.decoder import SHARPNESS_RANGE, Filling
from sconv_search.search_space.heuristics import imitating
from sconv_search.search_space.tables import Array, Positions, SpaceArrays
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.surrogate import Surrogate

CANDIDATES = 48
SPREAD_RANGE = (0.25, 2.0)
STEP, MOVED_SHARE = 0.5, 0.25
Decode = Callable[[Array, Array], Positions]
"""From preferences (P, G) and sharpnesses (P,) to plans as positions (P, S)."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plan with the preferences, by name, and the sharpness that it was decoded from."""

    random_keys: Mapping[str, float]
    sharpness: float
    plan: CompressionPlan


class Informed:
    """Learns from records what plans score, and suggests the next; equal records give equal suggestions.

    Legend of shapes: P candidates, G preferences, S sites.

    Args:
        preferences: those that are suggested.
        screened: whether all plans are scored untrained first, which then is what is predicted.
    """

    def __init__(self, arrays: SpaceArrays, random_keys: RandomKeys, seed: int, *, screened: bool) -> None:
        self._arrays, self._preferences, self._seed, self._screened = arrays, random_keys, seed, screened
        self._surrogate = Surrogate(arrays)
        self._without_score: set[bytes] = set()
        self._running: dict[int, Positions] = {}
        self._imitated: tuple[bytes, Filling, Array] | None = None

    def learn(self, record: TrialRecord) -> None:
        """Notes what a trial gave."""
        if record.number is not None:
            self._running.pop(record.number, None)
        if record.plan is None:
            return
        at_S = self._arrays.positions(CompressionPlan.from_json(record.plan))
        score = record.screen_quality if self._screened else record.quality
        if score is None or record.status not in ("complete", "screened"):
            self._without_score.add(at_S.tobytes())
        else:
            self._surrogate.learn(at_S, score)

    def began(self, number: int, plan: CompressionPlan) -> None:
        """Notes that a plan is being evaluated: others keep away from it."""
        self._running[number] = self._arrays.positions(plan)

    def suggest(self, number: int, filling: Filling, decode: Decode) -> Candidate | None:
        """The candidate that promises most; None while too little is known, or nothing new was found.

        Args:
            filling: what imitates the best plan by preferences, under the trial's budgets.
        """
        if not self._surrogate.is_ready:
            return None
        rng, around_G = np.random.default_rng([self._seed, number]), self._around(filling)
        drawn = [
            (self._moved(around_G, rng) if index % 2 else self._drawn(rng), rng.uniform(*SHARPNESS_RANGE))
            for index in range(CANDIDATES)
        ]
        values_PG, sharpness_P = (
            np.stack([values_G for values_G, _ in drawn]),
            np.array([sharpness for _, sharpness in drawn]),
        )
        at_PS = decode(values_PG, sharpness_P)
        new = self._new(at_PS)
        if not new:
            return None
        best = new[self._surrogate.pick(at_PS[new], np.array(list(self._running.values())))]
        random_keys = dict(zip(self._preferences.names, values_PG[best].tolist(), strict=True))
        return Candidate(
            random_keys=random_keys, sharpness=float(sharpness_P[best]), plan=self._arrays.plan(at_PS[best])
        )

    def _new(self, at_PS: Positions) -> list[int]:
        """Plans that are neither known nor running, each once."""
        running = {at_S.tobytes() for at_S in self._running.values()}
        index_by_plan: dict[bytes, int] = {}
        for index, at_S in enumerate(at_PS):
            key = at_S.tobytes()
            if key not in running and key not in self._without_score and not self._surrogate.knows(at_S):
                index_by_plan.setdefault(key, index)
        return list(index_by_plan.values())

    def _around(self, filling: Filling) -> Array:
        """Preferences that come near the best plan; the same until another is the best."""
        best_S = self._surrogate.best
        if self._imitated is None or self._imitated[:2] != (best_S.tobytes(), filling):
            by_name = self._preferences.by_name(imitating(filling, best_S))
            self._imitated = best_S.tobytes(), filling, np.array(list(by_name.values()))
        return self._imitated[2]

    def _moved(self, around_G: Array, rng: np.random.Generator) -> Array:
        count = len(around_G)
        moves_G = rng.normal(0, STEP, count) * (rng.random(count) < MOVED_SHARE)
        moved_G: Array = around_G + moves_G
        return moved_G

    def _drawn(self, rng: np.random.Generator) -> Array:
        spread = np.exp(rng.uniform(*np.log(SPREAD_RANGE)))
        drawn_G: Array = spread * rng.uniform(-1, 1, len(self._preferences.names))
        return drawn_G
