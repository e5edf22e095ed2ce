"""A report's words for scores that are not top-1 accuracies: a task's own metric takes their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import pandas as pd

USUAL = "top-1"
Value = TypeVar("Value")


def metric_of(rows: pd.DataFrame) -> str:
    """What the rows' networks were scored by; several tasks may have several."""
    return " or ".join(sorted(rows["metric"].fillna(USUAL).unique())) or USUAL


def worded(value: Value, metric: str) -> Value:
    """The value, with the metric's name where its texts, however deep inside, say top-1; keys and data frames stay."""
    return value if metric == USUAL else _worded(value, metric)


def _worded(value: Any, metric: str) -> Any:
    if isinstance(value, str):
        return value.replace(USUAL, metric)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_worded(part, metric) for part in value)
    if isinstance(value, Mapping):
        return {key: _worded(part, metric) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _worded(getattr(value, f.name), metric) for f in fields(value) if f.init})
    return value
