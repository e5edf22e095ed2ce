"""Measured speed-ups: which count, and one dense reference for all of them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from sconv_search.records import TrialRecord
from sconv_search.reports import summarize
from tests.reports.conftest import confirm, to_table

CONDITIONS = {"machine": "CPU X", "threads": 2, "dtype": "float32", "latency_batch": 16}


def timed(ms: float, dense_ms: float, seed: int = 0, plan: str = "P", **columns: Any) -> TrialRecord:
    known = {"latency_ms": ms, "dense_latency_ms": dense_ms, "plan": plan, "flops": 5}
    return confirm(90, seed, **known | CONDITIONS | columns)


def plans(*rows: TrialRecord) -> dict[str, pd.Series[Any]]:
    return {str(row["plan"]): row for _, row in summarize(to_table(rows)).iterrows()}


def test_the_speed_up_is_mean_and_deviation_over_measurements() -> None:
    row = plans(timed(2.0, 4.0), timed(2.0, 3.6, 1), timed(2.0, 3.8, 2))["P"]
    assert (row["speed_up"], row["speed_up_spread"], row["timing"]) == (
        pytest.approx(1.9),
        pytest.approx(0.1),
        "measured",
    )


def test_one_measurement_has_the_spread_of_its_rounds() -> None:
    assert plans(timed(2.0, 4.0, speed_up_spread=0.03))["P"]["speed_up_spread"] == 0.03
    assert plans(timed(2.0, 4.0))["P"]["speed_up_spread"] is pd.NA


def test_all_plans_stand_beside_one_dense_network() -> None:
    """Plan Q was measured while the machine was a tenth slower, for the dense network too."""
    found = plans(timed(2.0, 4.0), timed(2.2, 4.4, plan="Q"))
    assert found["P"]["speed_up"] == found["Q"]["speed_up"] == 2
    assert found["P"]["latency_ms"] == found["Q"]["latency_ms"] == pytest.approx(4.2 / 2)


@pytest.mark.parametrize("busy", [{"busy_share": 0.3}, {"latency_ms": 1.0, "dense_latency_ms": 9.0}])
def test_measurements_of_a_busy_machine_are_left_out_where_there_are_others(busy: dict[str, float]) -> None:
    """A dense network that takes more than twice its time elsewhere says as much as a count of the others' work."""
    row = plans(timed(2.0, 4.0), timed(2.0, 4.0, 1), timed(1.0, 4.0, 2, **busy))["P"]
    assert (row["speed_up"], row["timing"]) == (2, "measured")
    row = plans(timed(2.0, 4.0, plan="Q"), timed(1.0, 4.0, **busy))["P"]
    assert row["timing"] == "busy"


def test_a_machine_with_a_little_other_work_is_not_busy() -> None:
    assert plans(timed(2.0, 4.0, busy_share=0.05))["P"]["timing"] == "measured"


def test_other_conditions_are_not_compared() -> None:
    found = plans(timed(2.0, 4.0), timed(2.0, 4.0, 1), timed(0.5, 4.0, plan="Q", threads=8))
    assert (found["P"]["timing"], found["Q"]["timing"]) == ("measured", "other conditions")


def test_without_a_measurement_all_is_missing() -> None:
    row = plans(confirm(90, plan="P", flops=5))["P"]
    assert row[["speed_up", "speed_up_spread", "latency_ms", "timing"]].isna().all()
