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
BATCH = 128
RATES: Mapping[float, float] = {1: 0.005}
"""Epochs -> greatest learning rate. One at 0.02 leaves the spatial SVD with less than its reconstructed blocks."""
LONG_RATE = 0.02
FIRST = (STRUCTURED, SPATIAL_SVD, MIXED, PLAN_A, PRUNING, UNIFORM)
WEIGHTS = (0.0, 0.1, 1.0, 10.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A network to train.

    Args:
        kind: which network, a name of this module.
        budget: percent of the dense FLOPs that a plan may have; plan A has 45.6 by itself.
        epochs: all phases together.
        rate: the greatest learning rate.
        weight: of the structural loss in the first half of the epochs, after which the network is decomposed; None
            trains the compressed network alone.
        constant: whether that weight is the same all the time, or rises to it from 0.
        reconstructed: whether training starts from reconstructed blocks, or from layers that are fitted alone.
    """

    kind: str
    budget: int
    epochs: float
    rate: float
    seed: int = 0
    weight: float | None = None
    constant: bool = False
    reconstructed: bool = True

    @property
    def name(self) -> str:
        """For files and lines of the terminal."""
        weight = "" if self.weight is None else f", {'constant ' * self.constant}weight {self.weight:g}"
        start = "" if self.reconstructed else ", blocks not reconstructed"
        return f"{self.kind}, {self.budget} %, {self.epochs:g} epochs at {self.rate:g}, seed {self.seed}{weight}{start}"

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.name

    def key(self) -> dict[str, Any]:
        """What a row says of the cell."""
        key = {
            "kind": self.kind,
            "budget": self.budget,
            "epochs": self.epochs,
            "rate": self.rate,
            "seed": self.seed,
            "weight": self.weight,
            "reconstructed": self.reconstructed,
        }
        return key if self.weight is None else {**key, "constant": self.constant}


def all_cells() -> list[Cell]:
    """Every cell of the study; those that tell most for their time come first."""
    first = [_cell(PLAN_A, 1, rate=0.02), _cell(SPATIAL_SVD, 1, rate=0.02)]
    # as long as reconstruction and one epoch together
    equal_time = [_cell(kind, 1.7, rate=RATES[1], reconstructed=False) for kind in FIRST[:3]]
    one_epoch, five_epochs = ([_cell(kind, epochs) for kind in FIRST] for epochs in (1, 5))
    structural_loss = [_cell(PLAN_A, 2, weight=weight) for weight in WEIGHTS]
    structural_loss += [_cell(PLAN_A, 2, weight=weight, constant=True) for weight in reversed(WEIGHTS) if weight]
    quarter = [_cell(kind, 5, budget=25) for kind in (STRUCTURED, SPATIAL_SVD, MIXED, PRUNING)]
    reference = [_cell(DENSE, 1, budget=100)]
    long = [_cell(kind, 15, seed=seed) for seed in range(3) for kind in FIRST]
    main = [*first, *one_epoch[:3], *equal_time, *five_epochs[:3]]
    main += [*structural_loss[:7], *long[:3], *structural_loss[7:]]
    others = [*one_epoch[3:], *reference, *quarter, long[5], long[3], long[4], *five_epochs[3:], *long[6:]]
    return [*main, *others, _cell(STRUCTURED, 60)]


def _cell(kind: str, epochs: float, *, budget: int = 45, rate: float | None = None, **more: Any) -> Cell:
    rate = RATES.get(epochs, LONG_RATE) if rate is None else rate
    return Cell(kind=kind, budget=budget, epochs=epochs, rate=rate, **more)


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
