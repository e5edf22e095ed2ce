"""Budgets as the records spell them, in one spelling and on one axis."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sconv_search.budget import Budget
from sconv_search.records import Cost


def budget_share(text: Any, dense_flops: Any) -> float | None:
    """A budget such as ``50% flops`` in % of the dense FLOPs; None where it has no place on that axis."""
    if pd.isna(text) or pd.isna(dense_flops) or dense_flops <= 0:
        return None
    amount, _, quantity = str(text).partition(" ")
    if quantity not in ("", "flops"):
        return None
    try:
        budget = Budget.parse(amount, dense=Cost(macs=0, adds=int(dense_flops), params=0))
    except ValueError:  # above the dense network or not an amount: no line; the text itself stands in the provenance
        return None
    return 100 * budget.limit / int(dense_flops)


def budget_group(text: Any, dense_flops: Any) -> str | None:
    """The budget in one spelling, so that ``50%`` and the amount that it means are one: ``50 % FLOPs`` of the dense
    ones.
    """
    if pd.isna(text):
        return None
    share = budget_share(text, dense_flops)
    if share is not None:
        return f"{share:.1f}".removesuffix(".0") + " % FLOPs"
    amount, _, quantity = str(text).partition(" ")
    known = {"flops": "FLOPs", "macs": "MACs", "params": "parameters"}.get(quantity, quantity)
    if amount.endswith("%") and known:
        return f"{amount.removesuffix('%')} % {known}"
    return f"{amount} {known}".strip()


def first_number(text: str) -> float:
    """For sorting budgets by size as far as their texts tell."""
    head = text.partition(" ")[0]
    try:
        return float(head)
    except ValueError:
        return float("inf")
