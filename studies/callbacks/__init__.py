"""Callbacks for other training libraries: each module is loaded, with its library, when it is first used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

MODULES = ("lightning", "transformers")


def __getattr__(name: str) -> ModuleType:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
