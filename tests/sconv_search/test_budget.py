"""Budgets of several quantities and ranges; a single share or amount is tested with the records."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search.budget import Budget, Budgets, quantities_of
from sconv_search.records import Cost

DENSE = Cost(macs=1_000_000, adds=500_000, params=7_001, activations=30_000, latency_ms=8.5)


def parsed(text: str, quantity: str = "flops") -> dict[str, tuple[float | None, float]]:
    """Quantity -> (least, limit)."""
    found = Budgets.parse(text, dense=DENSE, quantity=quantity)
    return {one.quantity: (one.least, one.limit) for one in found.limits}


@pytest.mark.parametrize(
    ("text", "quantity", "wanted"),
    [
        ("50%", "flops", {"flops": (None, 1_250_000)}),
        ("flops=50%,params=60%", "flops", {"flops": (None, 1_250_000), "params": (None, 4_200)}),
        (" params = 60% , 50% ", "macs", {"params": (None, 4_200), "macs": (None, 500_000)}),
        ("activations=12k,macs=0.5M", "flops", {"activations": (None, 12_000), "macs": (None, 500_000)}),
        ("latency_ms=4.25ms,70%", "flops", {"latency_ms": (None, 4.25), "flops": (None, 1_750_000)}),
        ("50%", "latency_ms", {"latency_ms": (None, 4.25)}),
        ("30%..90%", "flops", {"flops": (750_000, 2_250_000)}),
        ("30..90%", "flops", {"flops": (750_000, 2_250_000)}),
        ("30% .. 2M", "flops", {"flops": (750_000, 2_000_000)}),
        ("100", "params", {"params": (None, 100)}),
        ("1..2k", "params", {"params": (1_000, 2_000)}),
        ("2..4ms", "latency_ms", {"latency_ms": (2.0, 4.0)}),
        ("macs=30%..90%,params=5k", "flops", {"macs": (300_000, 900_000), "params": (None, 5_000)}),
    ],
)
def test_every_form_is_read(text: str, quantity: str, wanted: dict[str, tuple[float | None, float]]) -> None:
    assert parsed(text, quantity) == wanted
    assert list(parsed(text, quantity)) == list(wanted), "in the order written"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not understood; write a share of the dense network"),
        ("50%,", "budget '' is not understood"),
        ("50%;60%", "budget '50%;60%' is not understood"),
        ("50%...60%", "is not understood"),
        ("..60%", "is not understood"),
        ("-5%", "is not understood"),
        ("1e6", "is not understood"),
        ("memory=50%", "names 'memory'; quantities are flops, macs, params, activations, latency_ms"),
        ("5ms", r"latency_ms is given in '%' or 'ms', other quantities in '%', '', 'k', 'M' or 'G'"),
        ("latency_ms=5", r"latency_ms is given in '%' or 'ms'"),
        ("latency_ms=3M", r"latency_ms is given in '%' or 'ms'"),
        (
            "latency_ms=9ms",
            r"budget 'latency_ms=9ms' is 106% of the dense network's 8\.50 ms; at most 100% makes sense",
        ),
        ("params=8k", r"is 114% of the dense network's 7,001 params"),
        ("50", "budget '50' is 50 flops; did you mean '50%'"),
        ("0.5", "budget '0.5' is 0.5 flops; did you mean '50%'"),
        ("params=12.5", r"budget 'params=12.5' is 12.5 params; did you mean 'params=12\.5%'"),
        ("30..90", "budget '30..90' is 30 flops; did you mean '30%..90%'"),
        ("macs=0.3..0.9", "did you mean 'macs=30%..90%'"),
        ("0", "leaves nothing"),
        ("latency_ms=0ms", "leaves nothing"),
        ("0%..50%", "leaves nothing"),
        ("params=0.01%", "leaves nothing"),
        ("90%..30%", "a range of budgets must rise above 0, got 2250000 to 750000 flops"),
        ("50%..50%", "a range of budgets must rise above 0"),
        ("50%,40%", "flops is limited twice; give one limit for each quantity"),
        ("50%,flops=40%", "flops is limited twice"),
        ("30%..50%,params=30%..50%", "one budget of several may be a range, not two"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budgets.parse(text, dense=DENSE)


def test_no_budget_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="a search needs a budget; write"):
        Budgets(limits=())


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match=f"a budget must be positive, got {limit} flops"):
        Budget(limit=limit)


WHOLE = st.integers(1, 10**12)


@given(WHOLE, WHOLE, st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_a_place_of_a_range_lies_between_its_ends_and_rises(one: int, other: int, first: float, second: float) -> None:
    least, limit = sorted((one, other + one))
    budget = Budget(limit=limit, least=least)
    assert (budget.at(0.0).limit, budget.at(1.0).limit) == (least, limit)
    low, high = sorted((first, second))
    assert least <= budget.at(low).limit <= budget.at(high).limit <= limit
    assert budget.at(low).least is None
    assert budget.at(low).limit == int(budget.at(low).limit)


def test_a_range_is_even_on_a_log_scale() -> None:
    assert Budget(limit=1600, least=100).at(0.5).limit == 400
    assert Budget(limit=8.0, least=2.0, quantity="latency_ms").at(0.25).limit == pytest.approx(2 * 2**0.5)


def test_a_place_moves_the_ranged_limit_alone() -> None:
    budgets = Budgets.parse("30%..90%,params=5k", dense=DENSE)
    assert budgets.ranged == budgets.limits[0]
    assert budgets.at(0.0) == Budgets(limits=(Budget(limit=750_000), Budget(limit=5_000, quantity="params")))
    assert budgets.at(0.0).ranged is None
    fixed = Budgets.parse("50%", dense=DENSE)
    assert fixed.at(0.3) == fixed


def test_the_excess_is_that_of_the_limit_exceeded_most() -> None:
    budgets = Budgets.parse("flops=50%,params=4k,latency_ms=4ms", dense=DENSE)
    assert budgets.excess(Cost(macs=500_000, adds=0, params=4_000, latency_ms=4.0)) == 0
    assert budgets.excess(Cost(macs=500_000, adds=0, params=5_000, latency_ms=4.4)) == 0.25
    assert budgets.excess(Cost(macs=500_000, adds=0, params=2_000, latency_ms=2.0)) == 1_000_000 / 1_250_000 - 1


def test_what_is_exceeded_is_said_in_words() -> None:
    budgets = Budgets.parse("flops=50%,params=4k,latency_ms=4ms", dense=DENSE)
    assert budgets.exceeded(Cost(macs=0, adds=0, params=0)) == ""
    assert budgets.exceeded(Cost(macs=1_000_000, adds=1, params=1, latency_ms=4.126)) == (
        "measured 2,000,001 flops against a budget of 1,250,000 flops; measured 4.13 ms against a budget of 4.00 ms"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("50%", ["macs"]),
        ("params=50%,latency_ms=5ms", ["params", "latency_ms"]),
        ("latency_ms=5ms, 30%..50%", ["macs", "latency_ms"]),
    ],
)
def test_the_quantities_are_known_without_a_network(text: str, wanted: list[str]) -> None:
    assert quantities_of(text, "macs") == wanted
