"""Which networks are trained for how long, in the order of what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sconv_search.budget import Budgets
from sconv_search.plan import CompressionPlan
from sconv_search.search_space.heuristics import RULES
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.structured.paper_plans import paper_plan

TASK, PAPER_PLAN = "cifar10/resnet20", "cifar/resnet20/A"
DENSE, PLAN_A, UNIFORM = "dense", "structured, plan A", "structured, uniform"
STRUCTURED, SPATIAL_SVD, PRUNING, MIXED = "structured", "spatial SVD", "channel pruning", "mixed"
METHODS: Mapping[str, tuple[str, ...]] = {
    UNIFORM: ("structured_conv",),
    STRUCTURED: ("structured_conv",),
    SPATIAL_SVD: ("spatial_svd",),
    PRUNING: ("channel_pruning",),
    MIXED: ("structured_conv", "spatial_svd"),
}
"""Kind of network -> the methods that its plan may choose. The kinds that are not named here need no search space."""
UNIFORM_RULE, ERROR_RULE = "uniform", "least_squares"
RATE, BATCH = 0.02, 128
FIRST = (PLAN_A, SPATIAL_SVD, STRUCTURED, MIXED, PRUNING, UNIFORM)
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
    long = [Cell(kind=kind, budget=45, epochs=15, seed=seed) for seed in range(3) for kind in FIRST]
    longest = [Cell(kind=PLAN_A, budget=45, epochs=60)]
    return [*one_epoch, *references, *five_epochs, *structural_loss, *quarter, *long, *longest]


def merged(spaces: Sequence[SearchSpace]) -> SearchSpace:
    """One space with the options of all, whose damages are the relative errors of their layers' outputs."""
    sites: dict[str, tuple[Option, ...]] = {}
    for space in spaces:
        for name, options in space.sites.items():
            sites[name] = (*sites.get(name, ()), *(replace(option, error=option.damage) for option in options))
    return SearchSpace(dense=spaces[0].dense, sites=sites)


def plan_of(cell_kind: str, budget: int, network: nn.Module, spaces: Sequence[SearchSpace]) -> CompressionPlan:
    """The plan of a kind of network.

    Args:
        spaces: of the kind's methods; none for the dense network and the paper's plan.
    """
    if cell_kind == DENSE:
        return CompressionPlan(sites={})
    if cell_kind == PLAN_A:
        return paper_plan(PAPER_PLAN, network)
    rule = RULES[UNIFORM_RULE if cell_kind in (UNIFORM, PRUNING) else ERROR_RULE]
    plan = rule(merged(spaces), Budgets.parse(f"{budget}%", dense=spaces[0].dense))
    if plan is None:
        raise ValueError(f"no plan of {cell_kind} fits {budget} % of the dense FLOPs")
    return plan
