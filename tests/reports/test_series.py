"""What the figure shows, without a pixel."""

from __future__ import annotations

import pandas as pd
import pytest

from reports import summarize
from reports.series import ParetoData, pareto_data
from reports.table import to_table
from sconv_search.records import TrialRecord
from tests.reports.conftest import DENSE_FLOPS, METHODS, confirm, record

TASK = "cifar10/resnet20"


def data(records: list[TrialRecord]) -> ParetoData:
    table = to_table(records)
    return pareto_data(table, summarize(table), TASK)


def test_every_scored_trial_and_confirmed_plan_is_there(table: pd.DataFrame) -> None:
    made = pareto_data(table, summarize(table), TASK)
    searched = table[(table["stage"] == "search") & (table["status"] == "complete")]
    assert sum(len(series.shares) for series in made.trials) == len(searched)
    assert sum(len(series.shares) for series in made.confirmed) == len(METHODS) * 4
    assert {reference.name for reference in made.references} == {"dense", "dense, fine-tuned"}
    assert made.budget_shares == (50,)


def test_a_confirmed_point_is_mean_and_deviation() -> None:
    (series,) = data([confirm(88, 0, flops=DENSE_FLOPS // 4), confirm(90, 1, flops=DENSE_FLOPS // 4)]).confirmed
    assert (series.name, series.shares, series.scores) == ("structured convolution", (25,), (89,))
    assert series.deviations == (pytest.approx(2**0.5),)
    assert not series.uniform


def test_one_seed_has_no_error_bar_and_uniform_says_so() -> None:
    (series,) = data([confirm(88, variant="uniform", flops=5)]).confirmed
    assert series.deviations == (None,)
    assert series.uniform


def test_a_front_needs_two_points_and_leaves_out_the_beaten() -> None:
    plans = [(10, 80.0), (20, 79.0), (30, 90.0)]
    points = [confirm(score, flops=flops, plan=str(flops)) for flops, score in plans]
    (front,) = data([*points, confirm(70, methods="cp", flops=5)]).fronts
    assert (front.methods, front.scores) == ("structured_conv", (80, 90))


def test_collapsed_search_trials_do_not_squash_the_axis_and_are_counted() -> None:
    made = data(
        [
            confirm(90, flops=40),
            record(val_top1=10.0, flops=30),
            record(val_top1=89.8, flops=30),
            record(val_top1=95.0, flops=30),
        ]
    )
    assert made.limits is not None
    low, high = made.limits
    assert made.below == 1
    assert 80 < low < 89.8
    assert high > 95


def test_confirmed_plans_are_never_clipped() -> None:
    made = data([confirm(10, flops=40), confirm(90, flops=50, plan="P"), record(val_top1=89.0, flops=30)])
    assert made.limits is not None
    assert made.limits[0] < 10
    assert made.below == 0


def test_an_unconfirmed_dense_network_is_a_line_that_says_validation() -> None:
    (line,) = data([record(variant="dense", methods=None, val_top1=91.0, flops=DENSE_FLOPS)]).references
    assert (line.name, line.score, line.deviation) == ("dense (validation only)", 91, None)


@pytest.mark.parametrize(
    ("budget", "shares"),
    [
        ("50% flops", (50,)),
        ("41M flops", (50,)),
        ("41M", (50,)),
        ("50% params", ()),
        ("20M macs", ()),
        ("2G flops", ()),
        ("a lot", ()),
        (None, ()),
    ],
)
def test_only_a_budget_in_flops_has_a_place_on_the_axis(budget: str | None, shares: tuple[float, ...]) -> None:
    assert data([record(budget=budget, val_top1=1.0, flops=2)]).budget_shares == shares


def test_other_tasks_stay_out_and_nothing_is_a_figure_too() -> None:
    made = data([confirm(90, task="other", flops=4), record(status="failed")])
    assert (made.trials, made.confirmed, made.references, made.limits, made.below) == ((), (), (), None, 0)
