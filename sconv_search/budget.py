"""What a compressed network may cost: one limit or several at once, as amounts or as shares of the dense network."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import get_args

from sconv_search.records import Cost, Quantity
from sconv_search.strict_json import shown

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "ms": 1}
_FORMS = (
    "a share of the dense network ('50%') or an amount ('41M', '1.2G', '350000', '8.5ms'), after a quantity where there"
    " are several ('flops=50%,params=60%'); a range such as '30%..90%' asks for the whole front"
)
_AMOUNT = r"(\d+(?:\.\d+)?)\s*(%|k|M|G|ms|)"
_MOST_LETTERS = 100
_ENTRY = re.compile(rf"\s*(?:(\w+)\s*=)?\s*(?:{_AMOUNT}\s*\.\.)?\s*{_AMOUNT}\s*")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a compressed network may cost of one quantity.

    Args:
        limit: largest allowed amount, in ms where the quantity is ``latency_ms``.
        least: lower end of a range of limits, of which each trial draws one; None for one fixed limit.

    Raises:
        ValueError: the limit is not positive, the range is empty, or the quantity is unknown.
    """

    limit: float
    quantity: Quantity = "flops"
    least: float | None = None

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise ValueError(f"Budget.quantity must be one of {', '.join(QUANTITIES)}, got {self.quantity!r}")
        if not self.limit > 0:  # as NaN is not
            raise ValueError(f"a budget must be positive, got {self.limit} {self.quantity}")
        if self.least is not None and not 0 < self.least < self.limit:
            raise ValueError(f"a range of budgets must rise above 0, got {self.least} to {self.limit} {self.quantity}")

    @classmethod
    def parse(cls, text: str, *, dense: Cost, quantity: Quantity = "flops") -> Budget:
        """The budget that a user wrote; a quantity before ``=`` takes precedence over the argument.

        Raises:
            ValueError: the text is not understood, not above 0, or above the dense network's own cost.
        """
        match = _ENTRY.fullmatch(text) if len(text) <= _MOST_LETTERS else None
        if match is None:
            raise ValueError(f"budget {shown(text)} is not understood; write {_FORMS}")
        named, low, low_unit, high, unit = match.groups()
        if named and named not in QUANTITIES:
            raise ValueError(f"budget {text!r} names {named!r}; quantities are {', '.join(QUANTITIES)}")
        chosen: Quantity = named or quantity
        least = None if low is None else _amount(text, low, low_unit or unit, dense, chosen)
        return cls(limit=_amount(text, high, unit, dense, chosen), quantity=chosen, least=least)

    @property
    def limits(self) -> tuple[Budget, ...]:
        """All limits: this one."""
        return (self,)

    def of(self, cost: Cost) -> float:
        """The cost's amount of the budgeted quantity."""
        return (
            float(getattr(cost, self.quantity)) if self.quantity == "latency_ms" else int(getattr(cost, self.quantity))
        )

    def excess(self, cost: Cost) -> float:
        """Relative overshoot: 0.2 is 20 % over, at most 0 fits."""
        return self.of(cost) / self.limit - 1.0

    def at(self, share: float) -> Budget:
        """The fixed limit at a place of the range, 0 for its lower end and 1 for its upper, even on a log scale."""
        if self.least is None:
            return self
        # rounding misses the upper end
        drawn = self.limit if share == 1 else self.least * (self.limit / self.least) ** share
        limit = drawn if self.quantity == "latency_ms" else math.floor(drawn)
        return replace(self, limit=min(limit, self.limit), least=None)

    def words(self, amount: float) -> str:
        """An amount of the quantity, to read."""
        return f"{amount:.2f} ms" if self.quantity == "latency_ms" else f"{int(amount):,} {self.quantity}"


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """Several limits that hold at once.

    Raises:
        ValueError: there is none, a quantity is limited twice, or more than one is a range.
    """

    limits: tuple[Budget, ...]

    def __post_init__(self) -> None:
        names = [budget.quantity for budget in self.limits]
        if not names:
            raise ValueError(f"a search needs a budget; write {_FORMS}")
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is limited twice; give one limit for each quantity")
        if sum(budget.least is not None for budget in self.limits) > 1:
            raise ValueError("one budget of several may be a range, not two")

    @classmethod
    def parse(cls, text: str, *, dense: Cost, quantity: Quantity = "flops") -> Budgets:
        """The budgets that a user wrote, separated by commas.

        Raises:
            ValueError: as ``Budget.parse``, or as at birth.
        """
        return cls(limits=tuple(Budget.parse(part, dense=dense, quantity=quantity) for part in text.split(",")))

    @property
    def ranged(self) -> Budget | None:
        """The limit that is a range, where one is."""
        return next((budget for budget in self.limits if budget.least is not None), None)

    def excess(self, cost: Cost) -> float:
        """Relative overshoot of the limit that is exceeded most; at most 0 fits all."""
        return max(budget.excess(cost) for budget in self.limits)

    def at(self, share: float) -> Budgets:
        """The limits with the range's at a place of it."""
        return Budgets(limits=tuple(budget.at(share) for budget in self.limits))

    def exceeded(self, cost: Cost) -> str:
        """Each limit that the cost exceeds, in words."""
        over = [budget for budget in self.limits if budget.excess(cost) > 0]
        return "; ".join(f"measured {b.words(b.of(cost))} against a budget of {b.words(b.limit)}" for b in over)


AnyBudget = Budget | Budgets


def quantities_of(text: str, quantity: Quantity) -> Sequence[Quantity]:
    """The quantities that a budget's text limits, whatever the network costs."""
    names = [part.split("=")[0].strip() if "=" in part else quantity for part in text.split(",")]
    return [name for name in QUANTITIES if name in names]


def _as_shares(text: str) -> str:
    """The budget with its bare numbers as shares: those up to 1 as fractions, others in %."""

    def share(number: re.Match[str]) -> str:
        value = float(number[0])
        return f"{100 * value if value <= 1 else value:g}%"

    name, mark, amounts = text.rpartition("=")
    return name + mark + re.sub(r"\d+(?:\.\d+)?(?=\s*(?:\.\.|$))", share, amounts.strip())


def _amount(text: str, number: str, unit: str, dense: Cost, quantity: Quantity) -> float:
    whole = Fraction(getattr(dense, quantity))
    if (quantity == "latency_ms" and unit not in ("%", "ms")) or (quantity != "latency_ms" and unit == "ms"):
        raise ValueError(
            f"budget {text!r}: latency_ms is given in '%' or 'ms', other quantities in '%', '', 'k', 'M' or 'G'"
        )
    value = Fraction(number)  # a float makes 2.01k one less
    limit = whole * value / 100 if unit == "%" else value * _MULTIPLES[unit]
    counted = quantity != "latency_ms"
    if counted and not whole:
        raise ValueError(f"budget {text!r}: the network has no {quantity}, so nothing can be compressed")
    if counted and not unit and 0 < value <= 100 and limit < whole / 100:
        raise ValueError(f"budget {text!r} is {float(value):g} {quantity}; did you mean {_as_shares(text)!r}?")
    if limit <= 0 or (counted and limit < 1):
        raise ValueError(f"budget {text!r} leaves nothing; write {_FORMS}")
    if limit > whole:
        have = f"{int(whole):,} {quantity}" if counted else f"{float(whole):.2f} ms"
        share = float(limit / max(whole, Fraction(1, 10**9)))
        raise ValueError(f"budget {shown(text)} is {share:.0%} of the dense network's {have}; at most 100% makes sense")
    return math.floor(limit) if counted else float(limit)
