"""The options of a network, what they cost together, and plans that fill a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.search_space.decoder import SHARPNESS_RANGE, Filling, fill, greedy
    from sconv_search.search_space.heuristics import RULES, imitating, uniform
    from sconv_search.search_space.multilinear import Multilinear, spanning
    from sconv_search.search_space.narrowing import AMOUNTS, Narrowing, Side
    from sconv_search.search_space.space import Coupling, Option, SearchSpace, option_entry, option_of
    from sconv_search.search_space.tables import Array, Positions, SpaceArrays

_HOMES = {
    "Filling": "decoder",
    "SHARPNESS_RANGE": "decoder",
    "fill": "decoder",
    "greedy": "decoder",
    "RULES": "heuristics",
    "imitating": "heuristics",
    "uniform": "heuristics",
    "Multilinear": "multilinear",
    "spanning": "multilinear",
    "AMOUNTS": "narrowing",
    "Narrowing": "narrowing",
    "Side": "narrowing",
    "Coupling": "space",
    "Option": "space",
    "SearchSpace": "space",
    "option_entry": "space",
    "option_of": "space",
    "Array": "tables",
    "Positions": "tables",
    "SpaceArrays": "tables",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "AMOUNTS",
    "Array",
    "Coupling",
    "Filling",
    "Multilinear",
    "Narrowing",
    "Option",
    "Positions",
    "RULES",
    "SHARPNESS_RANGE",
    "SearchSpace",
    "Side",
    "SpaceArrays",
    "fill",
    "greedy",
    "imitating",
    "option_entry",
    "option_of",
    "spanning",
    "uniform",
]
