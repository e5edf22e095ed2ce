"""What a run folder says of its study beside the records: ``spec.json`` and ``space.json``, read leniently."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sconv_search.strict_json import LARGEST, content_of, parsed, shortened, shown

Key = tuple[str, tuple[tuple[str, int], ...]]
"""A choice at a site: its method, and its structure as sorted pairs."""


@dataclass(frozen=True, kw_only=True)
class OptionFacts:
    """An option of a site: the FLOPs that it saves on the whole network, and its predicted damage."""

    saving: int
    damage: float


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A study's facts; what its files do not say is None or empty.

    Args:
        folder: as it was given.
        family: the methods searched among, joined by commas.
        options: by site, in the network's order, the options that the search had.
    """

    name: str
    folder: Path = Path()
    family: str = ""
    sampler: str = "tpe"
    seed: int | None = None
    trials: int | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    dense: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Mapping[Key, OptionFacts]] = field(default_factory=dict)


def read_facts(folder: Path, name: str) -> tuple[RunFacts, list[str]]:
    """The folder's facts, and a message for each file that is there but cannot be read."""
    complaints: list[str] = []
    spec = _json(folder / "spec.json", complaints)
    space = _json(folder / "space.json", complaints)
    try:
        options = {str(site): _options(entries) for site, entries in space.get("sites", {}).items()}
        dense = {str(key): _whole(value) for key, value in space.get("dense", {}).items()}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        complaints.append(f"{folder / 'space.json'} is not read: {type(error).__name__} {shortened(str(error), 200)}")
        options, dense = {}, {}
    methods = spec.get("methods")
    family = ",".join(sorted(map(str, methods))) if isinstance(methods, list) else ""
    seed, trials = (value if type(value := spec.get(key)) is int else None for key in ("seed", "trials"))
    sampler = str(spec.get("sampler") or "tpe")
    facts = RunFacts(
        name=name,
        folder=folder,
        family=family,
        sampler=sampler,
        seed=seed,
        trials=trials,
        spec=spec,
        dense=dense,
        options=options,
    )
    return facts, complaints


def plan_choices(text: Any) -> dict[str, Key]:
    """Site -> choice of a record's plan; empty where the text is no plan."""
    try:
        sites = json.loads(text)["sites"]
        return {str(site): choice_key(entry) for site, entry in sites.items()}
    except (TypeError, ValueError, KeyError, AttributeError):
        return {}


def choice_key(entry: Mapping[str, Any]) -> Key:
    """The choice in a form that can be looked up."""
    return str(entry["method"]), tuple(sorted((str(name), int(size)) for name, size in entry["structure"].items()))


def structure_words(key: Key) -> str:
    """A choice's structure as ``c=8, n=2``."""
    return ", ".join(f"{name}={size}" for name, size in key[1])


def _options(entries: Any) -> dict[Key, OptionFacts]:
    facts = {}
    for entry in entries:
        cost = entry["cost"]
        saving = -(2 * _whole(cost["macs"]) + _whole(cost["adds"]))
        damage = float(entry["damage"])
        if not math.isfinite(damage):
            raise ValueError(f"field 'damage' must be a finite number, got {shown(damage)}")
        facts[choice_key(entry)] = OptionFacts(saving=saving, damage=damage)
    return facts


def _whole(value: Any) -> int:
    if not -LARGEST <= (whole := int(value)) <= LARGEST:
        raise ValueError(f"a number must have at most 64 bits, got {shown(whole)}")
    return whole


def _json(file: Path, complaints: list[str]) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        document = parsed(content_of(file))
    except (OSError, ValueError) as error:
        complaints.append(f"{file} is not read: {shortened(str(error), 300)}")
        return {}
    if not isinstance(document, dict):
        complaints.append(f"{file} is not read: it holds no table")
        return {}
    return document
