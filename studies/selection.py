"""Which sites a study may compress, and by which options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from sconv_search.compressor import Compressor, layers
from sconv_search.layer_kinds import KINDS
from sconv_search.plan import Choice
from sconv_search.studies.methods import method_named
from sconv_search.studies.spec import Selection

EVERYTHING = Selection()


def candidates(network: nn.Module) -> dict[str, nn.Module]:
    """Layers of the kinds that some method may replace, by name, in network order; a shared layer by its first name."""
    return layers(network, KINDS)


def selected_method(name: str, selection: Selection) -> Compressor:
    """The method of that key, offering multiples as selected.

    Raises:
        KeyError: there is none.
    """
    method: Any = method_named(name)
    chosen: Compressor = method if selection.multiple == 1 else replace(method, multiple=selection.multiple)
    return chosen


def offered(network: nn.Module, methods: Sequence[str], selection: Selection = EVERYTHING) -> dict[str, list[Choice]]:
    """The choices of each selected site, method by method, each method's cheapest first; sites without any are absent.

    Raises:
        KeyError: a method is unknown.
        ValueError: a pattern matches no candidate.
    """
    selection.require_matches(candidates(network))
    choices: dict[str, list[Choice]] = {}
    for name in methods:
        for site, structures in selected_method(name, selection).options(network).items():
            if structures and selection.refusal(site) is None:
                choices.setdefault(site, []).extend(
                    Choice(method=name, structure=structure) for structure in structures
                )
    return choices
