"""Packages that only some work needs: imported when it begins, with a word on how to get one that is missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require_package(name: str, extra: str, needed_for: str) -> ModuleType:
    """The module, imported.

    Args:
        name: of the module, such as ``onnxruntime.quantization``.
        extra: of this project, which brings it.
        needed_for: what needs it, in words.

    Raises:
        ValueError: it is missing; says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        needed = f"{needed_for} the package {name.partition('.')[0]}, which is not installed"
        raise ValueError(f"{needed}; pip install 'sconv-search[{extra}]'") from error
