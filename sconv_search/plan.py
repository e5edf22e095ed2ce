"""What is chosen where: the value that turns a trained network into a compressed one, and its JSON form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sconv_search.strict_json import LARGEST, content_of, parsed, shown

FORMAT = "sconv-search plan 1"
Structure = Mapping[str, int]
"""A method's own numbers for one site: ``{"c": 8, "n": 2}``, ``{"rank": 12}``, ``{"keep": 24}``."""

_NAME = r'"[^"\\\x00-\x1f]++"'
_ENTRY = rf"{_NAME}: (?:0|-?[1-9][0-9]{{0,17}}+)"
_SITE = rf'{_NAME}: \{{"method": {_NAME}, "structure": \{{{_ENTRY}(?:, {_ENTRY})*+\}}\}}'
_WRITTEN = re.compile(rf'\{{"format": "{FORMAT}", "sites": \{{(?:{_SITE}(?:, {_SITE})*+)?\}}\}}')
"""Plans as ``CompressionPlan.to_json`` writes them; a tenth of the time that reading one takes."""


def _checked_structure(structure: object) -> Structure:
    if not isinstance(structure, Mapping) or not structure:
        raise ValueError(f"a choice's structure must be a non-empty table of whole numbers, got {shown(structure)}")
    for name, value in structure.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"structure entry {shown(name)} must be a whole number, got {shown(value)}")
    return MappingProxyType(dict(structure))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One site's method and structure.

    Args:
        method: key of the method in ``studies.METHODS``, such as ``structured_conv``.
        structure: the method's whole numbers, such as ``{"c": 8, "n": 2}``.

    Raises:
        ValueError: the method's name is empty, or the structure is not a table of whole numbers.
    """

    method: str
    structure: Structure

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or not self.method:
            raise ValueError(f"Choice.method must be the name of a method, got {shown(self.method)}")
        object.__setattr__(self, "structure", _checked_structure(self.structure))

    def __hash__(self) -> int:
        return hash((self.method, frozenset(self.structure.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return _choice, (self.method, dict(self.structure))  # a mapping proxy itself cannot be pickled

    def __str__(self) -> str:
        return f"{self.method}({', '.join(f'{name}={value}' for name, value in self.structure.items())})"


@dataclass(frozen=True, kw_only=True)
class CompressionPlan:
    """All that is needed, beside the trained network, to rebuild its compressed form.

    Args:
        sites: exact module name -> choice. A site that is absent stays dense; methods may mix.
    """

    sites: Mapping[str, Choice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choice in self.sites.items():
            if not isinstance(choice, Choice):
                raise ValueError(f"plan site {name!r} must hold a Choice, got {shown(choice)}")
        object.__setattr__(self, "sites", MappingProxyType(dict(sorted(self.sites.items()))))

    def __hash__(self) -> int:
        return hash(tuple(self.sites.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _plan, (dict(self.sites),)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods which the plan uses, sorted, each once."""
        return tuple(sorted({choice.method for choice in self.sites.values()}))

    def only(self, method: str) -> CompressionPlan:
        """The part of the plan that one method carries out."""
        return CompressionPlan(sites={name: choice for name, choice in self.sites.items() if choice.method == method})

    def to_json(self, *, indent: int | None = None) -> str:
        """The plan as JSON text, sites in alphabetical order, so that equal plans give equal text."""
        sites = {name: {"method": c.method, "structure": dict(c.structure)} for name, c in self.sites.items()}
        return json.dumps({"format": FORMAT, "sites": sites}, indent=indent)

    @classmethod
    def from_json(cls, text: str) -> CompressionPlan:
        """The plan that ``to_json`` wrote.

        Raises:
            ValueError: the text is not JSON, not of this format, or a site's entry is malformed; the entry is named.
        """
        try:
            document: Any = parsed(text)
        except ValueError as error:
            raise ValueError(f"the plan is {error}") from error
        file_format = document.get("format") if isinstance(document, dict) else document
        if not isinstance(document, dict) or file_format != FORMAT:
            raise ValueError(f"the plan's 'format' must be {FORMAT!r}, got {shown(file_format)}")
        sites = document.get("sites")
        if not isinstance(sites, dict):
            raise ValueError(f"the plan's 'sites' must be a table of site name -> choice, got {shown(sites)}")
        return cls(sites={name: _choice_of(name, entry) for name, entry in sites.items()})


def _choice_of(name: str, entry: object) -> Choice:
    if not isinstance(entry, dict) or set(entry) != {"method", "structure"}:
        raise ValueError(f"plan site {shown(name)} must hold exactly 'method' and 'structure', got {shown(entry)}")
    try:
        return Choice(method=entry["method"], structure=entry["structure"])
    except ValueError as error:
        raise ValueError(f"plan site {shown(name)}: {error}") from error


def plan_of_file(text: str) -> CompressionPlan:
    """The plan of a text that stood in a file; its numbers have at most 64 bits.

    Raises:
        ValueError: as ``CompressionPlan.from_json``, or a number is larger.
    """
    plan = CompressionPlan.from_json(text)
    for name, choice in plan.sites.items():
        for entry, value in choice.structure.items():
            if abs(value) > LARGEST:
                raise ValueError(
                    f"plan site {shown(name)}: structure entry {shown(entry)} is too large: {shown(value)}"
                )
    return plan


def require_plan(text: str) -> None:
    """Refuses a record's plan that is none; the texts that ``to_json`` writes are known at sight, of very many too.

    Raises:
        ValueError: as ``plan_of_file``.
    """
    if _WRITTEN.fullmatch(text) is None:
        try:
            plan_of_file(text)
        except ValueError as error:
            raise ValueError(f"field 'plan' must hold a plan as JSON: {error}") from error


def read_plan(path: Path) -> CompressionPlan:
    """The plan of a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no regular file, or holds no plan; file and entry are named.
    """
    content = content_of(path, "plan file")
    try:
        return plan_of_file(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"plan file {str(path)!r}: {error}") from error


def _choice(method: str, structure: dict[str, int]) -> Choice:
    return Choice(method=method, structure=structure)


def _plan(sites: dict[str, Choice]) -> CompressionPlan:
    return CompressionPlan(sites=sites)
