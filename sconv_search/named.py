"""Values by the key that a user typed."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


class UnknownNameError(KeyError):
    """A name that is none of those known; its text stands as it was given, where a ``KeyError`` puts it in quotes."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def named(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """The table's value of that name.

    Raises:
        UnknownNameError: there is none; the nearest and all names are given.
    """
    if name not in table:
        alike = dict.fromkeys([*get_close_matches(name, table), *(key for key in table if name and name in key)])
        near = ", ".join(alike) or "none alike"
        raise UnknownNameError(f"unknown {kind} {name!r}; nearest: {near}; known: {', '.join(table)}")
    return table[name]
