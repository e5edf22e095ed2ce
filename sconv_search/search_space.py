"""What a sampler may choose: options a site, their cost and predicted damage, and plans that fill a budget.

A plan is decoded from one *preference* a site. Starting from dense, the site whose next step saves most for its predicted
damage is compressed further, until the budget is met; a site's preference multiplies its damage by ``exp(preference)``,
and damages are raised to a power, the *sharpness*: at 1 their sum counts (the greedy plan), at 4 nearly the largest alone
(the minimax plan). So every suggestion fits the budget, and lands just below it.

Costs add up over sites because each option is measured on its own layer, built; the study checks the sum on the whole network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Budget, Cost

FORMAT = "sconv-search space 1"
SHARPNESS_RANGE = (1.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice at one site.

    Args:
        cost: cost of the whole network minus the dense network's, if only this site takes the choice.
        damage: predicted damage, at least 0: how far the network's outputs move if only this site takes the choice.
    """

    choice: Choice
    cost: Cost
    damage: float


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All options of a network, with the cost of the dense one.

    Raises:
        ValueError: no site has an option.
    """

    dense: Cost
    sites: Mapping[str, tuple[Option, ...]]

    def __post_init__(self) -> None:
        if not any(self.sites.values()):
            raise ValueError("no layer of the network can be compressed by the methods named")

    @property
    def plans(self) -> float:
        """Number of different plans."""
        return float(np.prod([1.0 + len(options) for options in self.sites.values()]))

    def cost(self, plan: CompressionPlan) -> Cost:
        """The plan's predicted cost: dense plus the sites' differences."""
        total = self.dense
        for name, choice in plan.sites.items():
            total = total + next(option.cost for option in self.sites[name] if option.choice == choice)
        return total

    def floor(self, budget: Budget) -> Cost:
        """The cost of the plan that has the least of the budgeted quantity."""
        return self.cost(self.cheapest(budget))

    def cheapest(self, budget: Budget) -> CompressionPlan:
        """The plan that has the least of the budgeted quantity, by prediction."""
        cheapest = {name: min(options, key=lambda option: budget.of(option.cost)) for name, options in self.sites.items()}
        return CompressionPlan(sites={name: o.choice for name, o in cheapest.items() if budget.of(o.cost) < 0})

    def require_reachable(self, budget: Budget) -> None:
        """Refuses a budget that no plan meets.

        Raises:
            ValueError: the floor is named, as an amount and as a share.
        """
        least, dense = budget.of(self.floor(budget)), budget.of(self.dense)
        if least > budget.limit:
            raise ValueError(
                f"a budget of {budget.limit:,} {budget.quantity} ({budget.limit / dense:.1%} of dense) cannot be met: "
                f"the cheapest plan needs {least:,} ({least / dense:.1%})"
            )

    def greedy(self, budget: Budget) -> CompressionPlan:
        """The plan of least predicted damage for what it saves, every site alike."""
        return self.decode(dict.fromkeys(self.sites, 0.0), budget)

    def decode(self, preferences: Mapping[str, float], budget: Budget, sharpness: float = 1.0) -> CompressionPlan:
        """The plan that a vector of preferences stands for; it fits the budget and fills it.

        Args:
            preferences: site -> how much dearer its damage counts, as an exponent; sites that are absent have 0.
            sharpness: power of the damages.

        Raises:
            ValueError: no plan meets the budget.
        """
        self.require_reachable(budget)
        wanted = {name: preferences.get(name, 0.0) for name in self.sites}
        ladders = [_Ladder(name, options, wanted[name], sharpness, budget) for name, options in self.sites.items()]
        excess = budget.of(self.dense) - budget.limit
        while excess > 0:
            ladder, step = min(((ladder, ladder.best_step()) for ladder in ladders), key=lambda pair: pair[1][0])
            excess -= ladder.take(step[1])
        for _ in range(10 * len(ladders)):  # each return undoes damage, so it ends by itself; this bounds rounding
            best = max(((ladder, *ladder.best_return(-excess)) for ladder in ladders), key=lambda item: item[1])
            if best[1] <= 0:
                break
            excess -= best[0].take(best[2])
        return CompressionPlan(sites={ladder.name: choice for ladder in ladders if (choice := ladder.choice) is not None})

    def uniform(self, budget: Budget) -> CompressionPlan:
        """The plan in which every site saves the same share of what it could, or more where that harms less.

        The share is the least that fits the budget.
        """
        self.require_reachable(budget)
        savings = {name: -min(budget.of(option.cost) for option in options) for name, options in self.sites.items()}
        for depth in np.linspace(0, 1, 201):
            plan = self._saving_share(float(depth), savings, budget)
            if budget.excess(self.cost(plan)) <= 0:
                return plan
        return self.cheapest(budget)

    def _saving_share(self, depth: float, savings: Mapping[str, int], budget: Budget) -> CompressionPlan:
        """Each site saves at least ``depth`` of what it could, by the least harmful option that does."""
        sites = {}
        for name, options in self.sites.items():
            saved = {option: -budget.of(option.cost) / savings[name] for option in options if savings[name] > 0}
            enough = [option for option in saved if saved[option] >= depth]
            if depth > 0 and enough:
                sites[name] = min(enough, key=lambda option: (option.damage, saved[option])).choice
        return CompressionPlan(sites=sites)

    def to_json(self) -> str:
        """The space as JSON text."""
        sites = {name: [_option_entry(option) for option in options] for name, options in self.sites.items()}
        return json.dumps({"format": FORMAT, "dense": asdict(self.dense), "sites": sites}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> SearchSpace:
        """The space that ``to_json`` wrote.

        Raises:
            ValueError: the text is not such a space.
        """
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise ValueError(f"its 'format' must be {FORMAT!r}, got {document['format']!r}")
            sites = {name: tuple(_option_of(entry) for entry in entries) for name, entries in document["sites"].items()}
            return cls(dense=Cost(**document["dense"]), sites=sites)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a search space: {error}") from error


class _Ladder:
    """One site while a plan is decoded: dense and its options as (saving, weighted damage), and where it stands."""

    def __init__(self, name: str, options: tuple[Option, ...], preference: float, sharpness: float, budget: Budget) -> None:
        self.name = name
        self._choices = [None, *(option.choice for option in options)]
        self._saving = np.array([0, *(-budget.of(option.cost) for option in options)])
        damage = np.array([0.0, *(option.damage for option in options)])
        self._damage = damage**sharpness * np.exp(preference)
        self._at = 0

    @property
    def choice(self) -> Choice | None:
        return self._choices[self._at]

    def take(self, position: int) -> int:
        """Moves there; returns what that saves (negative on the way back)."""
        saved = int(self._saving[position] - self._saving[self._at])
        self._at = position
        return saved

    def best_step(self) -> tuple[float, int]:
        """Least damage for a unit saved among the cheaper options, and that option; infinite if none is cheaper."""
        saved = self._saving - self._saving[self._at]
        rate = np.full(len(saved), np.inf)
        np.divide(np.maximum(self._damage - self._damage[self._at], 1e-15), saved, out=rate, where=saved > 0)
        position = int(rate.argmin())
        return float(rate[position]), position

    def best_return(self, slack: int) -> tuple[float, int]:
        """Most damage undone within the slack, and the option that does it."""
        undone = np.where(self._saving[self._at] - self._saving <= slack, self._damage[self._at] - self._damage, -np.inf)
        position = int(undone.argmax())
        return float(undone[position]), position


def _option_entry(option: Option) -> dict[str, Any]:
    choice = {"method": option.choice.method, "structure": dict(option.choice.structure)}
    return {**choice, "cost": asdict(option.cost), "damage": option.damage}


def _option_of(entry: Mapping[str, Any]) -> Option:
    choice = Choice(method=entry["method"], structure=entry["structure"])
    return Option(choice=choice, cost=Cost(**entry["cost"]), damage=float(entry["damage"]))
