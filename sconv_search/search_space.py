"""What a sampler may choose: the options of each site, with their cost and predicted damage.

Costs add up over sites because each option is measured on its own layer, built. Where one choice changes another's layer
(pruned channels are outputs of one layer and inputs of the next), a *coupling* corrects the sum: a layer's cost is a product
of its inputs and outputs, so the correction is a constant times the product of what both choices drop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from sconv_search.budget import AnyBudget
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost

FORMAT = "sconv-search space 2"
EMPHASES = (1.0, 4.0, 16.0, 64.0)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice at one site.

    Args:
        cost: cost of the whole network minus the dense network's, if only this site takes the choice.
        damage: predicted damage, at least 0: how far the network's outputs move if only this site takes the choice.
        error: relative error of the layer's own outputs; None where the choice changes their shape.
        dropped: channels that the choice removes, for couplings; 0 where it changes its own layer alone.
    """

    choice: Choice
    cost: Cost
    damage: float
    error: float | None = None
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """Two sites whose choices change one layer: ``cost`` is added for every pair of channels that they drop."""

    first: str
    second: str
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All options of a network, with the cost of the dense one.

    Raises:
        ValueError: no site has an option.
    """

    dense: Cost
    sites: Mapping[str, tuple[Option, ...]]
    couplings: tuple[Coupling, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.sites.values()):
            raise ValueError("no layer of the network can be compressed by the methods named")

    @property
    def plans(self) -> float:
        """Number of different plans."""
        return float(np.prod([1.0 + len(options) for options in self.sites.values()]))

    def option(self, name: str, choice: Choice) -> Option:
        """The option of a site that stands for a choice.

        Raises:
            ValueError: the space does not offer it.
        """
        return self.sites[name][self.place(name, choice)]

    def place(self, name: str, choice: Choice) -> int:
        """The place among a site's options of the one that stands for a choice.

        Raises:
            ValueError: the space does not offer it.
        """
        found = self._places.get(name, {}).get(choice)
        if found is None:
            raise ValueError(f"the search space offers no {choice.method} {dict(choice.structure)} at site {name!r}")
        return found

    @cached_property
    def _places(self) -> Mapping[str, Mapping[Choice, int]]:
        """By site and choice; of equal choices the first counts."""
        return {
            name: {options[place].choice: place for place in reversed(range(len(options)))}
            for name, options in self.sites.items()
        }

    def cost(self, plan: CompressionPlan) -> Cost:
        """The plan's predicted cost: dense, the sites' differences, and what couplings correct.

        Raises:
            ValueError: the space lacks a choice of the plan.
        """
        taken = {name: self.option(name, choice) for name, choice in plan.sites.items()}
        total = sum((option.cost for option in taken.values()), start=self.dense)
        for pair in self.couplings:
            if pair.first in taken and pair.second in taken:
                total = total + pair.cost.times(taken[pair.first].dropped * taken[pair.second].dropped)
        return total

    def damage(self, plan: CompressionPlan) -> float:
        """The plan's predicted damage, in nat: the sum over its sites."""
        return sum(self.option(name, choice).damage for name, choice in plan.sites.items())

    def floor(self, budget: AnyBudget) -> Cost:
        """The cost of the plan that has the least of the budgeted quantities."""
        return self.cost(self.cheapest(budget))

    def cheapest(self, budget: AnyBudget) -> CompressionPlan:
        """The plan that has the least of the budgeted quantity, by prediction; under several budgets, nearly.

        Several quantities, each in units of its limit, are weighed in many ways, of which the best is taken.
        """
        limits = budget.limits
        weights_BW = np.array(list(product(EMPHASES, repeat=len(limits))) if len(limits) > 1 else [(1.0,)]).T
        found: list[dict[str, Choice]] = [{} for _ in range(weights_BW.shape[1])]
        for name, options in self.sites.items():
            if options:
                shares_OB = np.array([[one.of(option.cost) / one.limit for one in limits] for option in options])
                amounts_OW = shares_OB @ weights_BW
                for way, best in enumerate(amounts_OW.argmin(axis=0).tolist()):
                    if amounts_OW[best, way] < 0:
                        found[way][name] = options[best].choice
        plans = dict.fromkeys(CompressionPlan(sites=sites) for sites in found)
        return min(plans, key=lambda plan: budget.excess(self.cost(plan)))

    def require_reachable(self, budget: AnyBudget) -> None:
        """Refuses a budget that no plan meets; of a range, one whose lower end no plan meets.

        Raises:
            ValueError: the floor is named, as an amount and as a share.
        """
        for one in budget.limits:
            least, dense = one.of(self.floor(one)), one.of(self.dense)
            bound = one.limit if one.least is None else one.least
            if least > bound:
                raise ValueError(
                    f"a budget of {one.words(bound)} ({bound / dense:.1%} of dense) cannot be met: "
                    f"the cheapest plan needs {one.words(least)} ({least / dense:.1%})"
                )
        hardest = budget.at(0.0)
        if len(budget.limits) > 1 and (excess := hardest.excess(self.floor(hardest))) > 0:
            raise ValueError(f"the budgets cannot be met together: the nearest plan found exceeds one by {excess:.1%}")

    def to_json(self) -> str:
        """The space as JSON text."""
        sites = {name: [option_entry(option) for option in options] for name, options in self.sites.items()}
        couplings = [asdict(pair) for pair in self.couplings]
        return json.dumps({"format": FORMAT, "dense": asdict(self.dense), "sites": sites, "couplings": couplings}, indent=1)

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
            sites = {name: tuple(option_of(entry) for entry in entries) for name, entries in document["sites"].items()}
            couplings = tuple(Coupling(**{**entry, "cost": Cost(**entry["cost"])}) for entry in document["couplings"])
            return cls(dense=Cost(**document["dense"]), sites=sites, couplings=couplings)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a search space: {error}") from error


def option_entry(option: Option) -> dict[str, Any]:
    """The option as JSON knows it."""
    choice = {"method": option.choice.method, "structure": dict(option.choice.structure)}
    return {**choice, "cost": asdict(option.cost), "damage": option.damage, "error": option.error, "dropped": option.dropped}


def option_of(entry: Mapping[str, Any]) -> Option:
    """The option that ``option_entry`` wrote."""
    choice = Choice(method=entry["method"], structure=entry["structure"])
    error = None if entry["error"] is None else float(entry["error"])
    cost, damage = Cost(**entry["cost"]), float(entry["damage"])
    return Option(choice=choice, cost=cost, damage=damage, error=error, dropped=int(entry["dropped"]))
