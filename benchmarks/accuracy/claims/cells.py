"""Which networks are trained for how long, in the order of what they tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sconv_search.budget import Budgets
from sconv_search.plan import CompressionPlan
from sconv_search.search_space.heuristics import RULES
from sconv_search.search_space.space import SearchSpace
from sconv_search.structured.paper_plans import paper_plan

TASK, PAPER_PLAN = "cifar10/resnet20", "cifar/resnet20/A"
DENSE, PLAN_A, UNIFORM = "dense", "structured, plan A", "structured, uniform"
STRUCTURED, SPATIAL_SVD, PRUNING, MIXED = "structured", "spatial SVD", "channel pruning", "mixed"
METHODS: Mapping[str, tuple[str, ...]] = {
    UNIFORM: ("structured_conv",),
    STRUCTURED: ("structured_conv",),
    SPATIAL_SVD: ("spatial_svd",),
    PRUNING: ("channel_pruning",),
    MIXED: ("structured_conv", "spatial_svd", "channel_pruning"),
}
"""Kind of network -> the methods that its plan may choose. The kinds that are not named here need no search space."""
EVERY_METHOD = METHODS[MIXED]
RATE, BATCH = 0.02, 128
FIRST = (PLAN_A, UNIFORM, SPATIAL_SVD, PRUNING, MIXED)
WEIGHTS = (0.0, 0.1, 1.0, 10.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A network to train.

    Args:
        kind: which network, a name of this module.
        budget: percent of the dense FLOPs that a plan may have; plan A has 45.6 by itself.
        epochs: all phases together.
        weight: of the structural loss in the first half of the epochs, after which the network is decomposed; None
            trains the compressed network alone, from reconstructed blocks.
    """

    kind: str
    budget: int
    epochs: float
    seed: int = 0
    weight: float | None = None

    @property
    def name(self) -> str:
        """For files and lines of the terminal."""
        weight = "" if self.weight is None else f", weight {self.weight:g}"
        return f"{self.kind}, {self.budget} %, {self.epochs:g} epochs, seed {self.seed}{weight}"

    def key(self) -> dict[str, Any]:
        """What a row says of the cell."""
        return {
            "kind": self.kind,
            "budget": self.budget,
            "epochs": self.epochs,
            "seed": self.seed,
            "weight": self.weight,
        }


def all_cells() -> list[Cell]:
    """Every cell of the study; those that tell most for their time come first."""
    one_epoch = [Cell(kind=kind, budget=45, epochs=1) for kind in FIRST]
    five_epochs = [Cell(kind=kind, budget=45, epochs=5) for kind in FIRST]
    structural_loss = [Cell(kind=PLAN_A, budget=45, epochs=2, weight=weight) for weight in WEIGHTS]
    quarter = [Cell(kind=kind, budget=25, epochs=5) for kind in (STRUCTURED, SPATIAL_SVD, MIXED, PRUNING)]
    references = [Cell(kind=kind, budget=100, epochs=1) for kind in (DENSE,)]
    long = [Cell(kind=kind, budget=45, epochs=15, seed=seed) for seed in range(3) for kind in (*FIRST, STRUCTURED)]
    longest = [Cell(kind=PLAN_A, budget=45, epochs=60)]
    return [*one_epoch, *references, *five_epochs, *structural_loss, *quarter, *long, *longest]


def restricted(space: SearchSpace, methods: tuple[str, ...]) -> SearchSpace:
    """The space with the options of these methods alone."""
    sites = {
        name: kept
        for name, options in space.sites.items()
        if (kept := tuple(option for option in options if option.choice.method in methods))
    }
    pruned = "channel_pruning" in methods
    couplings = [pair for pair in space.couplings if pair.first in sites and pair.second in sites] if pruned else []
    narrowings = {name: one for name, one in space.narrowings.items() if name in sites} if pruned else {}
    return SearchSpace(dense=space.dense, sites=sites, couplings=tuple(couplings), narrowings=narrowings)


def plans_by_rule(kind: str, budget: int, network: Any, space: SearchSpace | None) -> dict[str, CompressionPlan]:
    """The plans from which a kind's is chosen, by the rule that makes them."""
    if kind == DENSE:
        return {"dense": CompressionPlan(sites={})}
    if kind == PLAN_A:
        return {"paper": paper_plan(PAPER_PLAN, network)}
    assert space is not None
    own = restricted(space, METHODS[kind])
    budgets = Budgets.parse(f"{budget}%", dense=own.dense)
    rules = {"uniform": RULES["uniform"]} if kind == UNIFORM else RULES
    found = {name: rule(own, budgets) for name, rule in rules.items()}
    return {name: plan for name, plan in found.items() if plan is not None}
