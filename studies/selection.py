"""Which sites a study may compress, and by which options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from sconv_search.compressor import Compressor, layers
from sconv_search.layer_kinds import KINDS
from sconv_search.plan import Choice
from sconv_search.studies.methods import method_named

SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Patterns of site names, as the shell writes them (``*``, ``?``, ``[...]``), and the rounding of sizes.

    Args:
        include: a site must match one of these; none given, all do.
        exclude: a site must match none of these.
        multiple: ranks and channel counts are offered in multiples of this.

    Raises:
        ValueError: the multiple is not a positive whole number, or a pattern is empty.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    multiple: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.multiple, bool) or not isinstance(self.multiple, int) or self.multiple < 1:
            raise ValueError(f"multiple must be a positive whole number, such as 8, got {self.multiple!r}")
        for kind in ("include", "exclude"):
            if not all(isinstance(pattern, str) and pattern for pattern in getattr(self, kind)):
                raise ValueError(
                    f"{kind} must hold patterns of site names, such as 'layer3.*', got {getattr(self, kind)!r}"
                )

    def refusal(self, name: str) -> str | None:
        """Why a site is not taken, in words; None if it is."""
        if pattern := next((p for p in self.exclude if fnmatchcase(name, p)), None):
            return f"excluded by {pattern!r}"
        if self.include and not any(fnmatchcase(name, pattern) for pattern in self.include):
            return f"not included by {' or '.join(map(repr, self.include))}"
        return None

    def require_matches(self, names: Iterable[str]) -> None:
        """Refuses patterns that match no name: they are misspelled.

        Raises:
            ValueError: the pattern, and the nearest names.
        """
        names = list(names)
        for kind in ("include", "exclude"):
            for pattern in getattr(self, kind):
                if not any(fnmatchcase(name, pattern) for name in names):
                    near = get_close_matches(pattern.replace("*", ""), names, n=SHOWN, cutoff=0.4) or names[:SHOWN]
                    raise ValueError(
                        f"{kind} pattern {pattern!r} matches no site; nearest: {', '.join(near) or 'there is none'}"
                    )


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
        for place, structures in selected_method(name, selection).options(network).items():
            if structures and selection.refusal(place) is None:
                choices.setdefault(place, []).extend(
                    Choice(method=name, structure=structure) for structure in structures
                )
    return choices
