"""What the Pareto figures show, without a pixel."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest

from sconv_search.records import TrialRecord
from sconv_search.reports import summarize
from sconv_search.reports.analysis.choice import choices
from sconv_search.reports.drawing.chart import Chart, Nothing, Trace
from sconv_search.reports.figures.pareto import COSTS, MOST_SHOWN, front_figure, search_figure
from tests.reports.conftest import DENSE_FLOPS, LOSS, METHODS, OF_LOSS, SCORES, confirm, record, to_table

TASK = "cifar10/resnet20"


def chart(records: list[TrialRecord], metric: str = "flops") -> Chart | Nothing:
    table = to_table(records)
    name = next(one.name for one in COSTS if one.key == metric)
    summary = summarize(table)
    if metric == "latency":
        (choice,) = choices(summary, ())
        found = front_figure(table, summary, choice).drawings[name]
    else:
        found = search_figure(table, summary, TASK, LOSS if "val loss" in set(table["metric"]) else SCORES).drawings[
            name
        ]
    assert isinstance(found, Chart | Nothing)
    return found


def drawn(records: list[TrialRecord], metric: str = "flops") -> Chart:
    found = chart(records, metric)
    assert isinstance(found, Chart)
    return found


def traces(found: Chart, *kinds: str) -> list[Trace]:
    return [trace for trace in found.traces if trace.kind in kinds]


def test_every_scored_trial_and_confirmed_plan_is_there_for_every_cost(table: pd.DataFrame) -> None:
    figure = search_figure(table, summarize(table), TASK, SCORES)
    assert list(figure.drawings) == ["FLOPs", "MACs", "additions", "parameters"]
    searched = table[(table["stage"] == "search") & (table["status"] == "complete")]
    for found in figure.drawings.values():
        assert isinstance(found, Chart)
        strong = sum(len(trace.x) for trace in found.traces if trace.keys)
        faint = sum(len(trace.x) for trace in found.traces if not trace.keys and trace.kind in ("faint", "below"))
        assert strong == len(METHODS) * 4
        assert faint == len(searched)


def test_the_first_figure_holds_confirmed_plans_alone_and_the_tolerance(table: pd.DataFrame) -> None:
    summary = summarize(table)
    (choice,) = choices(summary, ())
    figure = front_figure(table, summary, choice)
    assert list(figure.drawings) == ["FLOPs", "MACs", "additions", "parameters", "latency"]
    for found in figure.drawings.values():
        assert isinstance(found, Chart)
        assert {trace.kind for trace in found.traces} <= {"strong", "hollow", "below", "steps"}
        assert sum(len(trace.x) for trace in found.traces if trace.keys) == len(METHODS) * 4
        (rule,) = [rule for rule in found.rules if rule.moves]
        assert rule.at == pytest.approx(91.7 - 1.0)


def test_of_losses_less_is_better() -> None:
    plans = [(10, 0.50), (20, 0.55), (30, 0.40)]
    rows = [confirm(score, flops=flops, plan=str(flops), **OF_LOSS) for flops, score in plans]
    rows += [confirm(9.0, flops=5, plan="bad", **OF_LOSS)]
    rows += [confirm(0.39, flops=DENSE_FLOPS, variant="dense", methods=None, **OF_LOSS)]
    found = drawn(rows)
    (front,) = traces(found, "steps")
    assert list(front.y) == [0.50, 0.40]
    assert found.y.label == "test val loss (nat)"
    assert found.y.limits is not None
    assert found.y.limits[0] < 0.39 < 0.55 < found.y.limits[1] < 2
    (arrow,) = traces(found, "above")
    assert (arrow.x, arrow.y) == ([pytest.approx(100 * 5 / DENSE_FLOPS)], [found.y.limits[1]])
    assert found.notes == [f"▲ 1 point above {found.y.limits[1]:.4g} nat, drawn at the edge"]


def test_a_confirmed_point_is_mean_and_deviation() -> None:
    (trace,) = traces(drawn([confirm(88, 0, flops=DENSE_FLOPS // 4), confirm(90, 1, flops=DENSE_FLOPS // 4)]), "strong")
    assert (trace.name, list(trace.x), list(trace.y)) == ("structured convolution", [25], [89])
    assert trace.errors == [pytest.approx(2**0.5)]
    assert "test top-1 89.00 ± 1.41 % (n = 2)" in trace.texts[0]


def test_one_seed_has_no_error_bar_and_uniform_is_hollow() -> None:
    (trace,) = traces(drawn([confirm(88, variant="uniform", flops=5)]), "strong", "hollow")
    assert trace.errors == [None]
    assert trace.kind == "hollow"


def test_a_front_needs_two_points_and_leaves_out_the_beaten() -> None:
    plans = [(10, 80.0), (20, 79.0), (30, 82.0)]
    points = [confirm(score, flops=flops, plan=str(flops)) for flops, score in plans]
    (front,) = traces(drawn([*points, confirm(78, methods="cp", flops=5)]), "steps")
    assert (front.style, list(front.y)) == ("structured_conv", [80, 82])


def test_a_collapsed_run_does_not_squash_the_axis_and_becomes_an_arrow() -> None:
    """One plan at 69 ± 24 %, three within a point: the axis must show the three."""
    good = [confirm(score, flops=flops, plan=str(flops)) for flops, score in ((30, 96.5), (40, 97.0), (50, 97.4))]
    collapsed = [confirm(score, seed, flops=20, plan="bad") for seed, score in enumerate((45.0, 69.0, 93.0))]
    found = drawn([*good, *collapsed, confirm(97.7, variant="dense", methods=None, flops=DENSE_FLOPS)])
    assert found.y.limits is not None
    low, high = found.y.limits
    assert 90 < low < 96.5
    assert 97.7 < high < 100
    (arrow,) = traces(found, "below")
    assert list(arrow.y) == [low]
    assert "69.00 ± 24.00" in arrow.texts[0]
    assert found.notes == [f"▼ 1 point below {low:.2f} %, drawn at the edge"]


def test_typical_plans_are_all_inside_however_far_below_dense() -> None:
    found = drawn(
        [confirm(92, variant="dense", methods=None, flops=DENSE_FLOPS)]
        + [confirm(score, flops=flops, plan=str(flops)) for flops, score in ((10, 60.0), (20, 70.0), (30, 80.0))]
    )
    assert traces(found, "below") == []


def test_collapsed_search_trials_are_arrows_too() -> None:
    found = drawn([confirm(90, flops=40), record(val_score=10.0, flops=30), record(val_score=89.8, flops=30)])
    assert sum(len(trace.x) for trace in traces(found, "faint")) == 1
    (arrow,) = traces(found, "below")
    assert arrow.keys == ()


def test_an_unconfirmed_dense_network_is_a_line_that_says_validation() -> None:
    found = drawn(
        [record(variant="dense", methods=None, val_score=91.0, flops=DENSE_FLOPS), record(val_score=90.0, flops=5)]
    )
    (rule,) = [rule for rule in found.rules if rule.axis == "y"]
    assert rule.at == 91
    assert rule.name.startswith("dense (validation only)")


@pytest.mark.parametrize(
    ("budget", "metric", "places"),
    [
        ("50% flops", "flops", [50]),
        ("41M flops", "flops", [50]),
        ("50% params", "flops", []),
        ("2G flops", "flops", []),
        ("a lot", "flops", []),
        (None, "flops", []),
        ("40% params", "params", [40]),
        ("50% flops", "params", []),
    ],
)
def test_a_budget_is_marked_where_it_has_a_place(budget: str | None, metric: str, places: list[float]) -> None:
    found = drawn([record(budget=budget, val_score=1.0, flops=2, params=7)], metric)
    assert [rule.at for rule in found.rules if rule.axis == "x"] == places


def test_costs_are_in_percent_of_the_dense_network_where_it_is_known() -> None:
    dense = confirm(92, variant="dense", methods=None, flops=DENSE_FLOPS, macs=40, adds=10, params=8)
    plan = confirm(90, flops=5, macs=10, adds=15, params=2, latency_ms=3.0, dense_latency_ms=4.0)
    for metric, place in (("macs", 25), ("additions", 50), ("params", 25), ("latency", 75)):
        (trace,) = traces(drawn([dense, plan], metric), "strong")
        assert list(trace.x) == pytest.approx([place])
    (alone,) = traces(drawn([plan], "macs"), "strong")
    assert list(alone.x) == [10]


def test_what_was_not_measured_is_a_sentence() -> None:
    found = chart([confirm(90, flops=5)], "latency")
    assert isinstance(found, Nothing)
    assert "latency" in found.reason


def test_many_trials_are_thinned_the_best_stay_and_it_is_said() -> None:
    count = 10 * MOST_SHOWN
    rows = [
        record(val_score=80 + 5 * (number % 97) / 97, flops=1000 + number, number=number) for number in range(count)
    ]
    rows[777] = record(val_score=89.0, flops=900, number=777)
    found = drawn(rows)
    (faint,) = traces(found, "faint")
    assert len(faint.x) < 1.2 * MOST_SHOWN
    assert max(faint.y) == 89
    assert found.notes == [
        f"Thinned: drawn are structured convolution {len(faint.x)} of {count:,} search trials; the tables hold all"
    ]


def test_latencies_of_a_busy_machine_are_not_drawn() -> None:
    measured = {"latency_ms": 3.0, "dense_latency_ms": 4.0}
    rows = [confirm(90, flops=5, plan="P", **measured), confirm(91, flops=6, plan="Q", **measured, busy_share=0.4)]
    assert sum(len(trace.x) for trace in traces(drawn(rows, "latency"), "strong")) == 1
    found = chart(rows[1:], "latency")
    assert isinstance(found, Nothing)
    assert "on an idle machine" in found.reason


def test_labels_of_methods_keep_apart(table: pd.DataFrame) -> None:
    found = search_figure(table, summarize(table), TASK, SCORES).drawings["FLOPs"]
    assert isinstance(found, Chart)
    assert found.y.limits is not None
    heights = sorted(label.y for label in found.labels)
    gap = 0.07 * (found.y.limits[1] - found.y.limits[0])
    assert len(heights) == len(METHODS)
    assert all(second - first >= gap for first, second in pairwise(heights))
    assert found.y.limits[0] <= heights[0] <= heights[-1] <= found.y.limits[1]
