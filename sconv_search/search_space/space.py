"""What a sampler may choose: the options of each site, with their cost and predicted damage.

Costs add up over sites because each option is measured on its own layer, built. Where one choice changes another's
layer (pruned channels are outputs of one layer and inputs of the next), a *coupling* corrects the sum: a layer's cost
is a product of its inputs and outputs, so the correction is a constant times the product of what both choices drop.
Where the layer between has a choice of its own, a *narrowing* says what that choice costs on what is left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sconv_search.budget import AnyBudget, Budget
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost, Quantity
from sconv_search.search_space.interactions import Interplay
from sconv_search.search_space.narrowing import Narrowing, narrowing_entry, narrowing_of
from sconv_search.strict_json import built, parsed, shown, table, typed

FORMAT = "sconv-search space 2"
MOST_HARM = 1e100
"""Of a damage or an error in a file: more is never measured, and its square or sum is no number."""
EMPHASES = (1.0, 4.0, 16.0, 64.0)
Array = NDArray[np.float64]


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
    """Two sites whose choices change one layer: ``cost`` is added for so many pairs of channels that they drop.

    Args:
        pairs: more than 1 in a grouped convolution, of which each filter reads the channels of its group alone.
    """

    first: str
    second: str
    cost: Cost
    pairs: int = 1

    def of(self, dropped: int) -> Cost:
        """What is added where the two sites drop so many pairs of channels."""
        amounts = {f.name: getattr(self.cost, f.name) for f in fields(Cost) if f.name != "latency_ms"}
        return Cost(**{name: amount * dropped // self.pairs for name, amount in amounts.items()})


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All options of a network, with the cost of the dense one.

    Args:
        measured_of: what the space was measured of, each as a text; empty where that is not known. It makes no
            difference.

    Raises:
        ValueError: no site has an option.
    """

    dense: Cost
    sites: Mapping[str, tuple[Option, ...]]
    couplings: tuple[Coupling, ...] = ()
    narrowings: Mapping[str, Narrowing] = field(default_factory=dict)
    measured_of: Mapping[str, str] = field(default_factory=dict, compare=False)

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
        position = self._places.get(name, {}).get(choice)
        if position is None:
            raise ValueError(f"the search space offers no {choice.method} {dict(choice.structure)} at site {name!r}")
        return position

    def offers(self, plan: CompressionPlan) -> bool:
        """Whether the plan can be chosen here."""
        return all(choice in self._places.get(name, {}) for name, choice in plan.sites.items())

    @cached_property
    def _places(self) -> Mapping[str, Mapping[Choice, int]]:
        """By site and choice; of equal choices the first counts."""
        return {
            name: {options[index].choice: index for index in reversed(range(len(options)))}
            for name, options in self.sites.items()
        }

    def cost(self, plan: CompressionPlan) -> Cost:
        """The plan's predicted cost: dense, the sites' differences, and what couplings and narrowings correct.

        Raises:
            ValueError: the space lacks a choice of the plan.
        """
        taken = {name: self.option(name, choice) for name, choice in plan.sites.items()}
        total = sum((option.cost for option in taken.values()), start=self.dense)
        for pair in self.couplings:
            if pair.first in taken and pair.second in taken:
                total = total + pair.of(taken[pair.first].dropped * taken[pair.second].dropped)
        dropped = {name: option.dropped for name, option in taken.items() if option.dropped}
        for name, narrowing in self.narrowings.items() if dropped else ():
            if name in taken and taken[name].choice in narrowing.beyond:
                total = total + narrowing.correction(taken[name].choice, dropped)
        return total

    def interplay(self, limits: tuple[Budget, ...]) -> Interplay | None:
        """What single moves save of the limits' quantities; None without narrowings."""
        if not self.narrowings:
            return None
        key = tuple(limit.quantity for limit in limits)
        if key not in self._interplays:
            self._interplays[key] = Interplay(self, limits)
        return self._interplays[key]

    @cached_property
    def _interplays(self) -> dict[tuple[Quantity, ...], Interplay]:
        return {}

    def damage(self, plan: CompressionPlan) -> float:
        """The plan's predicted damage, in nat: the sum over its sites."""
        return sum(self.option(name, choice).damage for name, choice in plan.sites.items())

    def floor(self, budget: AnyBudget) -> Cost:
        """The cost of the plan that has the least of the budgeted quantities."""
        return self.cost(self.cheapest(budget))

    def cheapest(self, budget: AnyBudget) -> CompressionPlan:
        """The plan that has the least of the budgeted quantity, by prediction; under several budgets, nearly.

        Several quantities, each in units of its limit, are weighed in many ways, of which the best is taken. With
        narrowings it is a plan that no other choice at a single site makes cheaper.
        """
        limits = budget.limits
        weights_WB = np.array(list(product(EMPHASES, repeat=len(limits))) if len(limits) > 1 else [(1.0,)])
        plans = self._least_sums(limits, weights_WB.T)
        if self.narrowings:
            plans = self._descended(limits, weights_WB, plans)
        return min(dict.fromkeys(plans), key=lambda plan: budget.excess(self.cost(plan)))

    def _least_sums(self, limits: tuple[Budget, ...], weights_BW: Array) -> list[CompressionPlan]:
        """For each weighing, the plan of the options that cost least, each by itself."""
        plans: list[dict[str, Choice]] = [{} for _ in range(weights_BW.shape[1])]
        for name, options in self.sites.items():
            if options:
                shares_OB = np.array([[limit.of(option.cost) / limit.limit for limit in limits] for option in options])
                amounts_OW = shares_OB @ weights_BW
                for way, best in enumerate(amounts_OW.argmin(axis=0).tolist()):
                    if amounts_OW[best, way] < 0:
                        plans[way][name] = options[best].choice
        return [CompressionPlan(sites=sites) for sites in plans]

    def _descended(
        self, limits: tuple[Budget, ...], weights_WB: Array, starts: Sequence[CompressionPlan]
    ) -> list[CompressionPlan]:
        """For each weighing, the cheaper of the plans that single moves lead to from its start and from the dense
        network.
        """
        key = limits[0].quantity if len(limits) == 1 else limits
        if key not in self._descents:
            interplay = self.interplay(limits)
            assert interplay is not None
            self._descents[key] = []
            for start, share_B in zip(starts, weights_WB / [limit.limit for limit in limits], strict=True):
                plans = [interplay.descended(plan, share_B) for plan in (CompressionPlan(), start)]
                amounts = [float(share_B @ [limit.of(self.cost(plan)) for limit in limits]) for plan in plans]
                self._descents[key].append(plans[int(np.argmin(amounts))])
        return self._descents[key]

    @cached_property
    def _descents(self) -> dict[Quantity | tuple[Budget, ...], list[CompressionPlan]]:
        return {}

    def require_reachable(self, budget: AnyBudget) -> None:
        """Refuses a budget that no plan meets; of a range, one whose lower end no plan meets.

        Raises:
            ValueError: the floor is named, as an amount and as a share.
        """
        for limit in budget.limits:
            least, dense = limit.of(self.floor(limit)), limit.of(self.dense)
            bound = limit.limit if limit.least is None else limit.least
            if least > bound:
                raise ValueError(
                    f"a budget of {limit.words(bound)} ({bound / dense:.1%} of dense) cannot be met: "
                    f"the cheapest plan needs {limit.words(least)} ({least / dense:.1%})"
                )
        hardest = budget.at(0.0)
        if len(budget.limits) > 1 and (excess := hardest.excess(self.floor(hardest))) > 0:
            raise ValueError(f"the budgets cannot be met together: the nearest plan found exceeds one by {excess:.1%}")

    def to_json(self) -> str:
        """The space as JSON text."""
        sites = {name: [option_entry(option) for option in options] for name, options in self.sites.items()}
        document: dict[str, Any] = {"format": FORMAT, "dense": asdict(self.dense), "sites": sites}
        document["measured_of"] = dict(self.measured_of)
        document["couplings"] = [asdict(pair) for pair in self.couplings]
        if not self.narrowings:
            return json.dumps(document, indent=1)
        document["narrowings"] = {name: narrowing_entry(narrowing) for name, narrowing in self.narrowings.items()}
        return json.dumps(document)  # of tables, which a number a line would make hard to read

    @classmethod
    def from_json(cls, text: str) -> SearchSpace:
        """The space that ``to_json`` wrote.

        Raises:
            ValueError: the text is not such a space.
        """
        try:
            document = parsed(text)
            file_format = document.get("format") if isinstance(document, dict) else document
            if file_format != FORMAT:
                raise ValueError(f"its 'format' must be {FORMAT!r}, got {shown(file_format)}")
            if missing := [name for name in ("dense", "sites", "couplings") if name not in document]:
                raise ValueError(f"it lacks {missing[0]!r}")
            sites = {
                name: tuple(
                    option_of(entry, f"sites.{name}[{index}]")
                    for index, entry in enumerate(_listed(entries, f"sites.{name}"))
                )
                for name, entries in table(document["sites"], "sites").items()
            }
            narrowed = table(document.get("narrowings", {}), "narrowings")
            measured_of = table(document.get("measured_of", {}), "measured_of")
            return cls(
                dense=built(Cost, document["dense"], "dense"),
                sites=sites,
                couplings=typed(document["couplings"], tuple[Coupling, ...], "couplings"),
                narrowings={name: narrowing_of(entry, f"narrowings.{name}") for name, entry in narrowed.items()},
                measured_of={str(name): str(value) for name, value in measured_of.items()},
            )
        except ValueError as error:
            raise ValueError(f"not a search space: {error}") from error


def option_entry(option: Option) -> dict[str, Any]:
    """The option as JSON knows it."""
    choice = {"method": option.choice.method, "structure": dict(option.choice.structure)}
    return {
        **choice,
        "cost": asdict(option.cost),
        "damage": option.damage,
        "error": option.error,
        "dropped": option.dropped,
    }


@dataclass(frozen=True, kw_only=True)
class _OptionEntry:
    method: str
    structure: Mapping[str, int]
    cost: Cost
    damage: float
    error: float | None
    dropped: int


def option_of(entry: Any, where: str = "") -> Option:
    """The option that ``option_entry`` wrote.

    Args:
        where: what the entry is, for errors.

    Raises:
        ValueError: a field is missing, unknown, of a wrong type, or outside of what it can be.
    """
    own = built(_OptionEntry, entry, where)
    for name, value in (("damage", own.damage), ("error", own.error), ("dropped", own.dropped)):
        if value is not None and value < 0:
            raise ValueError(f"field {shown(f'{where}.{name}'.strip('.'))} must be at least 0, got {shown(value)}")
        if value is not None and value > MOST_HARM:
            raise ValueError(
                f"field {shown(f'{where}.{name}'.strip('.'))} must be at most {MOST_HARM:g}, got {shown(value)}"
            )
    choice = Choice(method=own.method, structure=own.structure)
    error = None if own.error is None else float(own.error)
    return Option(choice=choice, cost=own.cost, damage=float(own.damage), error=error, dropped=own.dropped)


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"field {shown(where)} must be a list, got {shown(value)}")
    return value
