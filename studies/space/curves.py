"""Options of one layer that differ in their size alone: damage and cost are measured at a few sizes, and follow between
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from sconv_search.plan import Choice
from sconv_search.records import Cost

MEASURED = 4
"""Options of a curve that are measured: both ends, and evenly between them."""


def curves(choices: Sequence[Choice]) -> list[list[Choice]]:
    """The choices of a layer as curves, each of one method and of equal entries but for their size, smallest first.

    The size is the entry with the most values, and with it every entry that follows from it.
    """
    curves: list[list[Choice]] = []
    by_kind: dict[tuple[str, frozenset[str]], list[Choice]] = {}
    for choice in choices:
        by_kind.setdefault((choice.method, frozenset(choice.structure)), []).append(choice)
    for own in by_kind.values():
        size, fixed = _size_of(own)
        by_rest: dict[tuple[int, ...], list[Choice]] = {}
        for choice in own:
            by_rest.setdefault(tuple(choice.structure[entry] for entry in fixed), []).append(choice)
        curves += [sorted(one, key=lambda choice: choice.structure[size]) for one in by_rest.values()]
    return curves


def _size_of(choices: Sequence[Choice]) -> tuple[str, list[str]]:
    """The entry that is the size, and those that are fixed along a curve."""
    entries = sorted(choices[0].structure)
    values = {entry: [choice.structure[entry] for choice in choices] for entry in entries}
    size = max(entries, key=lambda entry: len(set(values[entry])))
    count = len(set(values[size]))

    def follows(entry: str) -> bool:
        """Whether each size has one value of the entry, and each value one size."""
        return len(set(zip(values[size], values[entry], strict=True))) == len(set(values[entry])) == count

    return size, [entry for entry in entries if entry != size and not follows(entry)]


def measured_on(curve: Sequence[Choice]) -> list[Choice]:
    """The choices of a curve that are measured: ``MEASURED``, both ends among them."""
    if len(curve) <= MEASURED:
        return list(curve)
    places = np.unique(np.linspace(0, len(curve) - 1, MEASURED).round().astype(int))
    return [curve[index] for index in places]


def along(curve: Sequence[Choice], measure: Callable[[Choice], float]) -> Mapping[Choice, float]:
    """The damage of every choice of a curve, of which some are measured, and the others lie between.

    Interpolation is monotone (piecewise cubic, Fritsch and Carlson 1980); a curve with a damage that is not finite is
    measured in whole.
    """
    known = {choice: measure(choice) for choice in measured_on(curve)}
    rest = [choice for choice in curve if choice not in known]
    if not rest or not np.isfinite(list(known.values())).all():
        return known | {choice: measure(choice) for choice in rest}
    from scipy.interpolate import PchipInterpolator  # type: ignore[import-untyped]  # here: it takes a while

    size = _size_of(curve)[0]
    between = PchipInterpolator([float(choice.structure[size]) for choice in known], list(known.values()))
    return known | {choice: max(0.0, float(between(choice.structure[size]))) for choice in rest}


def exact_costs(curve: Sequence[Choice], known: Mapping[Choice, Cost]) -> Mapping[Choice, Cost] | None:
    """The cost of every choice of a curve, where it is a polynomial of the size of degree 2 at most; else None.

    A polynomial through all measured costs but one has to give that one too, and whole numbers everywhere.
    """
    size = _size_of(curve)[0]
    x = [choice.structure[size] for choice in known]
    estimates: dict[Choice, dict[str, int]] = {choice: {} for choice in curve}
    for field in ("macs", "adds", "params", "activations"):
        y = [int(getattr(cost, field)) for cost in known.values()]
        for choice in curve:
            value = _through(x, y, choice.structure[size], degree=2)
            if value is None:
                return None
            estimates[choice][field] = value
    return {choice: Cost(**fields) for choice, fields in estimates.items()}


def _through(x: Sequence[int], y: Sequence[int], at: int, *, degree: int) -> int | None:
    """The value of the polynomial through the points; None where it has another degree or value than wanted."""
    if len(x) < degree + 2:
        return None
    value, table, product = Fraction(0), [Fraction(number) for number in y], Fraction(1)
    for order in range(len(x)):  # Newton's divided differences
        if order > degree and table[0] != 0:
            return None
        value += table[0] * product
        product *= at - x[order]
        table = [(b - a) / (x[index + order + 1] - x[index]) for index, (a, b) in enumerate(pairwise(table))]
    return int(value) if value.denominator == 1 else None
