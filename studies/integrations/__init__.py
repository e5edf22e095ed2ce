"""Callbacks that let other libraries' training loops train towards a plan; each is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

LIBRARIES = ("lightning", "transformers")


def __getattr__(name: str) -> ModuleType:
    if name not in LIBRARIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
