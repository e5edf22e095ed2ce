"""Plans that a user wants tried before all others: the paper's by name, or any from a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import nn

from sconv_search.budget import Budgets
from sconv_search.compressor import site
from sconv_search.plan import Choice, CompressionPlan, read_plan
from sconv_search.search_space.space import SearchSpace
from sconv_search.structured.paper_plans import paper_plan
from sconv_search.studies.methods import method_named
from sconv_search.studies.spec import Selection

PAPER_METHODS = ("structured_natural", "structured_conv")
"""Methods that carry the paper's plans out, the first of a study's own."""


def given_plan(text: str, network: nn.Module, methods: Sequence[str]) -> CompressionPlan:
    """The plan in a JSON file of that path, whatever its name, else the paper's of that name, by one of the study's
    methods.

    Raises:
        FileNotFoundError: a path that ends in ``.json`` names no file.
        KeyError: the text is neither a file nor a plan's name; the names are given.
        ValueError: the file holds no plan, the rule finds no layer, or the study has no method of structured
            convolutions.
    """
    if text.endswith(".json") or os.path.isfile(text):
        return read_plan(Path(text))
    method = next((name for name in PAPER_METHODS if name in methods), PAPER_METHODS[0])
    plan = paper_plan(text, network, method)
    if method not in methods:
        raise ValueError(f"plan {text!r} is one of structured convolutions; add --method {method}")
    return plan


def with_given(
    offers: Mapping[str, Sequence[Choice]],
    plans: Iterable[CompressionPlan],
    network: nn.Module,
    methods: Sequence[str],
    selection: Selection,
) -> dict[str, list[Choice]]:
    """What is offered, and the plans' own choices where they are not among it.

    Raises:
        KeyError: a plan names a site that the network lacks.
        ValueError: a choice is of no method of the study, its site is excluded, or it is out of range for its layer.
    """
    choices_by_site = {name: list(choices) for name, choices in offers.items()}
    for plan in plans:
        for name, choice in plan.sites.items():
            _require_possible(name, choice, network, methods, selection)
            if choice not in choices_by_site.setdefault(name, []):
                choices_by_site[name].append(choice)
    order = {name: number for number, (name, _) in enumerate(network.named_modules(remove_duplicate=False))}
    return dict(sorted(choices_by_site.items(), key=lambda item: order[item[0]]))


def _require_possible(
    name: str, choice: Choice, network: nn.Module, methods: Sequence[str], selection: Selection
) -> None:
    if choice.method not in methods:
        raise ValueError(
            f"a plan to be tried first has {choice} at {name!r}; the study searches {', '.join(methods)} alone"
        )
    if reason := selection.refusal(name):
        raise ValueError(f"a plan to be tried first has a choice at {name!r}, which is {reason}")
    limits = method_named(choice.method).limits(site(network, name))
    if wrong := [entry for entry, most in limits.items() if not 1 <= choice.structure.get(entry, 0) <= most]:
        raise ValueError(
            f"a plan to be tried first has {choice} at {name!r}, where {wrong[0]} is 1 to {limits[wrong[0]]}"
        )


def require_fit(plans: Iterable[CompressionPlan], space: SearchSpace, budgets: Budgets) -> None:
    """Refuses a plan that is over the budget: it would never be trained.

    Raises:
        ValueError: by how much, in the budget's quantity.
    """
    loosest = budgets.at(1.0)
    for plan in plans:
        if loosest.excess(cost := space.cost(plan)) > 0:
            raise ValueError(f"a plan to be tried first is over the budget: {loosest.exceeded(cost)}")
