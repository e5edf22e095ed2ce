"""What a search tries next: first the rules' plans, then what the sampler suggests, decoded to fit the budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from statistics import median

import numpy as np

from sconv_search.budget import Budget, Budgets
from sconv_search.plan import CompressionPlan
from sconv_search.records import TrialRecord
from sconv_search.search_space.decoder import SHARPNESS_RANGE, Filling
from sconv_search.search_space.heuristics import RULES, imitating
from sconv_search.search_space.space import SearchSpace
from sconv_search.search_space.tables import Array, Positions, SpaceArrays
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.study import PATIENCE, Sampler
from sconv_search.studies.samplers.surrogate_search import Informed
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.trials.request import TrialRequest

LAST_MEASURED = 15
MARGIN = 1.01
"""By which plans stay below a latency that was corrected: two measurements of one plan differ by about that, and three
that miss the budget for one reason end a search.
"""


@dataclass(frozen=True, kw_only=True)
class First:
    """A plan, by rule or ``given``, with which a study starts, at a place of the range of budgets."""

    rule: str
    plan: CompressionPlan
    regularization: float | None = None
    share: float = 1.0


def first_plans(
    space: SearchSpace,
    budgets: Budgets,
    regularization: tuple[float, float] | None,
    trials: int,
    given: Sequence[CompressionPlan] = (),
) -> list[First]:
    """The plans given, each also trained towards its structure; then the rules' for at most half of the trials (but
    two).

    No two are alike; of a front, the rules' are made at several budgets.
    """
    weights = (None,) if regularization is None else (None, regularization[1] / 2)
    wanted = [
        First(rule="given", plan=plan, regularization=weight) for plan in dict.fromkeys(given) for weight in weights
    ]
    proposals: list[First] = []
    for share in (1.0, 0.5, 0.0) if budgets.ranged else (1.0,):
        here: list[First] = []
        for name, rule in RULES.items():
            plan = rule(space, budgets.at(share))
            if plan is not None and all(plan != other.plan for other in (*wanted, *proposals, *here)):
                here.append(First(rule=name, plan=plan, share=share))
        if regularization is not None and here:
            here.insert(min(len(here), 2), replace(here[0], regularization=regularization[1] / 2))
        proposals += here
    return wanted + proposals[: max(2, trials // 2 - len(wanted))]


class Proposals:
    """Makes jobs of suggestions.

    Args:
        preferences: those that the sampler suggests.
    """

    def __init__(
        self,
        spec: StudySpec,
        space: SearchSpace,
        budgets: Budgets,
        sampler: Sampler,
        random_keys: RandomKeys,
        regularization: tuple[float, float] | None,
    ) -> None:
        self._spec, self._space, self._budgets, self._sampler, self._preferences = (
            spec,
            space,
            budgets,
            sampler,
            random_keys,
        )
        self._first = first_plans(space, budgets, regularization, spec.trials, spec.given)
        self._ratios: list[float] = []
        self._arrays = SpaceArrays(space)
        self._filling = lru_cache(maxsize=4)(partial(Filling, self._arrays))  # most studies have one budget
        self._informed = None
        if spec.sampler == "surrogate":
            self._informed = Informed(self._arrays, random_keys, spec.seed, screened=spec.screening > 1)

    def learn(self, records: Iterable[TrialRecord]) -> None:
        """Notes what plans of the space scored, and how measured latencies compare with the predicted ones."""
        for r in records:
            if r.plan is None or not self._space.offers(CompressionPlan.from_json(r.plan)):
                continue
            if self._informed is not None:
                self._informed.learn(r)
            if r.latency_ms is not None and r.plan is not None and self._spec.times:
                predicted = self._space.cost(CompressionPlan.from_json(r.plan)).latency_ms
                self._ratios.append(r.latency_ms / predicted if predicted > 0 else 1.0)

    def next(self) -> TrialRequest:
        """The job of the next trial."""
        number = self._sampler.upcoming
        first = self._replanned(self._first[number]) if number < len(self._first) else None
        asked = self._sampler.ask(self._informed_parameters(number) if first is None else self._parameters(first))
        budgets = self._budgets.at(asked.budget)
        plan = first.plan if first is not None else self._plan(asked.random_keys, asked.sharpness, budgets)
        if self._informed is not None:
            self._informed.began(asked.number, plan)
        return TrialRequest(
            number=asked.number,
            plan=plan,
            regularization=asked.regularization,
            budgets=budgets,
            regularized_share=asked.regularized_share or self._spec.regularized_share,
            origin=self._spec.sampler if first is None else first.rule,
            predicted=self._space.cost(plan),
            damage=self._space.damage(plan),
            rung="screen" if self._spec.screening > 1 else "train",
        )

    def _replanned(self, first: First) -> First:
        """The rule's plan of the budget as measured latencies correct it; a plan that was given stays."""
        if not self._ratios or first.rule not in RULES:
            return first
        budgets = self._budgets.at(first.share)
        try:
            plan = RULES[first.rule](self._space, self._corrected(budgets))
        except ValueError:  # the corrected latency is out of reach: what the table says may still fit when measured
            plan = self._space.cheapest(budgets)
        return first if plan is None else replace(first, plan=plan)

    def _parameters(self, first: First) -> dict[str, object]:
        """What the sampler is told of a rule's plan: the preferences under which decoding comes near it."""
        sharpness = SHARPNESS_RANGE[first.rule == "minimax"]
        known = {} if first.rule in ("greedy", "minimax") else self._imitating(first)
        parameters = self._sampler.parameters(known, sharpness, first.regularization)
        return {**parameters, "budget": first.share} if self._budgets.ranged else parameters

    def _imitating(self, first: First) -> dict[str, float]:
        filling = self._filling(self._budgets.at(first.share))
        return self._preferences.by_name(imitating(filling, self._arrays.positions(first.plan)))

    def _informed_parameters(self, number: int) -> dict[str, object] | None:
        """What the surrogate suggests, the budget included; the penalty's weight, which it does not know, is left to
        TPE.
        """
        if self._informed is None or self._sampler.repeats >= PATIENCE:
            return None
        share = float(np.random.default_rng([self._spec.seed, number, 1]).random()) if self._budgets.ranged else 1.0
        budgets = self._budgets.at(share)
        chosen = self._informed.suggest(number, self._filling(budgets), partial(self._positions, budgets))
        if chosen is None:
            return None
        parameters = self._sampler.parameters(chosen.random_keys, chosen.sharpness, None)
        parameters.pop("direct", None)
        return {**parameters, "budget": share} if self._budgets.ranged else parameters

    def _plan(self, random_keys: Mapping[str, float], sharpness: float, budgets: Budgets) -> CompressionPlan:
        """The plan of preferences by name."""
        values_1G = np.array([[random_keys[name] for name in self._preferences.names]])
        return self._arrays.plan(self._positions(budgets, values_1G, np.array([sharpness]))[0])

    def _positions(self, budgets: Budgets, values_PG: Array, sharpness_P: Array) -> Positions:
        """The plans (P, S) of preferences (P, G)."""
        try:
            filling = self._filling(self._corrected(budgets))
        except ValueError:  # the corrected latency is out of reach: what the table says may still fit when measured
            return np.tile(self._arrays.positions(self._space.cheapest(budgets)), (len(values_PG), 1))
        return filling.positions(self._preferences.by_option(values_PG), sharpness_P)

    def _corrected(self, budgets: Budgets) -> Budgets:
        """Budgets for the table's sums, whose latencies are off by the ratio that was measured of late."""
        ratio = MARGIN * median(self._ratios[-LAST_MEASURED:]) if self._ratios else 1.0
        return Budgets(limits=tuple(_scaled(limit, ratio) for limit in budgets.limits))


def _scaled(budget: Budget, ratio: float) -> Budget:
    return replace(budget, limit=budget.limit / ratio) if budget.quantity == "latency_ms" else budget


Evaluated = tuple[str | None, float | None, float | None]
"""What makes two evaluations the same: plan, weight, and the share of epochs before compression where there is a
weight.
"""


def evaluated(records: Sequence[TrialRecord], share: float) -> dict[Evaluated, TrialRecord]:
    """What was evaluated -> its record; a training counts more than a screening.

    Args:
        share: that of epochs before compression, for records that do not tell it.
    """
    ranked = sorted(records, key=lambda r: r.status == "complete")
    return {as_evaluated(r.plan, r.regularization, r.regularized_share or share): r for r in ranked}


def as_evaluated(plan: str | None, regularization: float | None, share: float) -> Evaluated:
    """What a job or a record evaluates."""
    return plan, regularization, None if regularization is None else share
