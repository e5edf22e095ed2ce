"""Packages whose names are loaded when they are first used, so that importing one costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` (PEP 562), which imports a name's module when the name is first asked for.

    Args:
        package: dotted name of the package.
        homes: name -> the module within the package that defines it, such as ``cost.counting``; ``module:other`` where
            it has another name there.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, _, other = homes[name].partition(":")
        value = getattr(import_module(f"{package}.{home}"), other or name)
        setattr(sys.modules[package], name, value)  # the next look finds it without this function
        return value

    return load
