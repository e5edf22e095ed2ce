"""Values by the key that a user typed."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


def named(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """The table's value of that name.

    Raises:
        KeyError: there is none; the nearest and all names are given.
    """
    if name not in table:
        near = ", ".join(get_close_matches(name, table)) or "none alike"
        raise KeyError(f"unknown {kind} {name!r}; nearest: {near}; known: {', '.join(table)}")
    return table[name]
