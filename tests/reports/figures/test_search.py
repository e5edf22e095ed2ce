"""Progress, importances, λ, residuals, compression, rank agreement and latency: what is shown, without a pixel."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from sconv_search.records import TrialRecord
from sconv_search.reports import summarize
from sconv_search.reports.analysis.method_comparison import verdicts
from sconv_search.reports.drawing.chart import Chart, Figure, HeatMap, Nothing
from sconv_search.reports.drawing.styles import styles
from sconv_search.reports.figures.compression_loss import compression_loss_figure, compression_losses
from sconv_search.reports.figures.damage import damage_figure
from sconv_search.reports.figures.importance import DIRECT, WEIGHT, importance_figure, importances
from sconv_search.reports.figures.latency import latency_figure
from sconv_search.reports.figures.plan import layers_of, plan_figure, protection_figure
from sconv_search.reports.figures.rank_agreement import estimates, rank_agreement_figure, rank_correlations
from sconv_search.reports.figures.regularization import residual_figure, weight_figure
from sconv_search.reports.figures.search_progress import hypervolumes, progress_figures, search_progress
from sconv_search.reports.figures.sites import plan_damage, site_tables
from sconv_search.reports.reading.runs import OptionFacts, RunFacts, read_facts
from tests.reports.conftest import (
    COURSE,
    DENSE_FLOPS,
    LAYERS,
    LOSS,
    OF_LOSS,
    SCORES,
    confirm,
    plan,
    record,
    space,
    spec,
    to_table,
)

TASK = "cifar10/resnet20"
METHOD = "structured_conv"


@pytest.fixture
def facts(tmp_path) -> RunFacts:
    (tmp_path / "spec.json").write_text(json.dumps(spec(METHOD)))
    (tmp_path / "space.json").write_text(json.dumps(space(METHOD)))
    found, complaints = read_facts(tmp_path, "study")
    assert complaints == []
    return found


def trial(number: int, score: float, places: tuple[int, int, int] = (0, 0, 0), **columns: Any) -> TrialRecord:
    origin = {
        "number": number,
        "flops": 40_000_000,
        "budget": "50% flops",
        "wall_s": 10.0,
        "plan": plan(METHOD, places),
    }
    return record(val_score=score, **origin | columns)


def progress(table: pd.DataFrame, runs: list[RunFacts]) -> list[Figure]:
    return progress_figures(table, runs, TASK, SCORES, search_progress(table, TASK, SCORES))


def test_best_so_far_and_seconds_count_failures_too() -> None:
    rows = [trial(0, 80.0), record(status="failed", wall_s=5.0), trial(1, 70.0), trial(2, 90.0)]
    found = search_progress(to_table(rows), TASK, SCORES)
    assert found["best"].to_list() == [80, 80, 90]
    assert found["training"].to_list() == [1, 2, 3]
    assert found["seconds"].to_list() == [10, 25, 35]
    share = 40_000_000 / DENSE_FLOPS
    assert found["area"].to_list() == pytest.approx([80 * (1 - share), 80 * (1 - share), 90 * (1 - share)])


def test_samplers_stand_side_by_side_and_random_is_dotted(facts: RunFacts) -> None:
    other = RunFacts(name="chance", family=METHOD, sampler="random", seed=1, spec={"a": 1})
    table = to_table([trial(0, 80.0), trial(1, 85.0), trial(0, 70.0, study="chance"), trial(1, 75.0, study="chance")])
    (figure,) = progress(table, [facts, other])
    assert list(figure.drawings) == ["best, by training", "best, by second", "hypervolume, by training"]
    found = figure.drawings["best, by training"]
    assert isinstance(found, Chart)
    assert {trace.name: (trace.dash, list(trace.y)) for trace in found.traces} == {
        "structured convolution, tpe, seed 0": ("solid", [80, 85]),
        "structured convolution, random, seed 1": ("dot", [70, 75]),
    }
    assert "at random" in figure.caption


def test_without_a_random_run_the_caption_says_so(facts: RunFacts) -> None:
    (figure,) = progress(to_table([trial(0, 80.0)]), [facts])
    assert "No run here was sampled at random" in figure.caption


def test_a_uniform_trial_of_the_search_is_a_line(facts: RunFacts) -> None:
    (figure,) = progress(to_table([trial(0, 80.0), trial(1, 78.5, origin="uniform")]), [facts])
    found = figure.drawings["best, by training"]
    assert isinstance(found, Chart)
    assert [rule.at for rule in found.rules] == [78.5]


def test_hypervolumes_by_hand() -> None:
    rows = [trial(0, 80.0, flops=DENSE_FLOPS // 2), confirm(90, flops=DENSE_FLOPS // 4, plan="P")]
    table = to_table(rows)
    (row,) = hypervolumes(table, summarize(table), TASK, SCORES).to_dict("records")
    assert (row["confirmed_area"], row["searched_area"]) == (pytest.approx(67.5), pytest.approx(40))


def test_importance_is_the_rank_correlation_with_the_share_left(facts: RunFacts) -> None:
    """The first site's saving decides the score here; option 3 saves least."""
    rows = [trial(number, 50 + 10 * (number % 4), (number % 4, 3 - number % 4, 0)) for number in range(12)]
    (table,) = site_tables(to_table(rows), [facts], TASK)
    found = importances(table)
    assert found["conv1"] == pytest.approx(1)
    assert found["layer1.conv1"] == pytest.approx(-1)
    assert (found["layer2.conv1"], found[WEIGHT], found[DIRECT]) == (None, None, None)
    drawing = importance_figure([table]).drawings[""]
    assert isinstance(drawing, HeatMap)
    assert drawing.rows == ["conv1", "layer1.conv1"]
    few = [
        trial(number, 50 + number, regularization=0.1 * number + 0.1 if number < 2 else None) for number in range(12)
    ]
    assert importances(site_tables(to_table(few), [facts], TASK)[0])[WEIGHT] is None  # two weights correlate by chance
    assert drawing.diverging


def test_few_trials_give_a_sentence(facts: RunFacts) -> None:
    tables = site_tables(to_table([trial(0, 80.0)]), [facts], TASK)
    for figure in (importance_figure(tables), protection_figure(tables), importance_figure([])):
        assert isinstance(figure.drawings[""], Nothing)


def test_protected_layers_are_those_left_alone_by_the_best(facts: RunFacts) -> None:
    rows = [trial(number, 90.0 + number, (3, 0, 0) if number >= 6 else (0, 3, 0)) for number in range(8)]
    (table,) = site_tables(to_table(rows), [facts], TASK)
    drawing = protection_figure([table]).drawings[""]
    assert isinstance(drawing, HeatMap)
    # option 3 takes one of four possible savings
    assert [row[0] for row in drawing.values] == pytest.approx([75, 0, 0])
    assert "study protects most: conv1 (75 %)" in drawing.notes[0]


def test_damage_is_the_sum_over_sites_and_unknown_choices_have_none(facts: RunFacts) -> None:
    assert plan_damage(facts, plan(METHOD, (0, 1, 3))) == 4 + 3 + 1
    assert plan_damage(facts, plan("other", (0, 1, 3))) is None
    assert plan_damage(facts, "not a plan") is None


def test_lambda_against_residual_and_accuracy() -> None:
    rows = [
        trial(number, 80.0 + number, regularization=0.1 * (number + 1), residual=0.5 - 0.1 * number)
        for number in range(3)
    ]
    figure = weight_figure(to_table([*rows, trial(3, 88.0, residual=0.6)]), TASK, SCORES)
    residual, accuracy = figure.drawings["residual"], figure.drawings["top-1"]
    assert isinstance(residual, Chart)
    assert isinstance(accuracy, Chart)
    assert residual.x.logarithmic
    assert list(residual.traces[0].y) == pytest.approx([0.5, 0.4, 0.3])
    assert [rule.at for rule in accuracy.rules] == [88]


def test_no_regularized_trial_is_said() -> None:
    figure = weight_figure(to_table([trial(0, 80.0)]), TASK, SCORES)
    assert all(isinstance(drawing, Nothing) for drawing in figure.drawings.values())
    assert isinstance(residual_figure(to_table([confirm(80)]), pd.DataFrame(), TASK).drawings[""], Nothing)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"epochs": [0], "sites": {"a": ["x"]}}', '{"epochs": [0, 1], "sites": {"a": [0.1]}}']
)
def test_a_damaged_course_is_no_figure(text: str) -> None:
    figure = residual_figure(to_table([confirm(80, residual_course=text)]), pd.DataFrame(), TASK)
    assert isinstance(figure.drawings[""], Nothing)


def test_each_layer_s_residual_is_a_line() -> None:
    rows = [confirm(80, seed, residual_course=COURSE, regularization=0.5, budget="50% flops") for seed in range(3)]
    figure = residual_figure(to_table(rows), pd.DataFrame(), TASK)
    (found,) = figure.drawings.values()
    assert isinstance(found, Chart)
    assert {trace.name: list(trace.y) for trace in found.traces} == {
        "conv1": [0.6, 0.3, 0.02],
        "layer1.conv1": [0.5, 0.2, 0.01],
    }


def test_layers_of_a_deep_network_keep_apart_and_come_in_order() -> None:
    """Both libraries take color and marker from the style, and the line from the dash: no two layers may share all."""
    sites = [f"layer{place}.conv" for place in range(1, 21)]
    course = json.dumps({"epochs": [0.0, 1.0], "sites": {site: [0.5, 0.1] for site in sorted(sites)}})
    figure = residual_figure(to_table([confirm(80, residual_course=course)]), pd.DataFrame(), TASK)
    (found,) = figure.drawings.values()
    assert isinstance(found, Chart)
    assert [trace.name for trace in found.traces] == sites
    given = styles(trace.style for trace in found.traces)
    assert len({(given[trace.style], trace.dash) for trace in found.traces}) == len(sites)


def test_loss_by_compression_is_before_minus_after() -> None:
    scores = {"val_score_after": 80.0, "val_score": 91.0, "budget": "50% flops", "plan": "P"}
    rows = [confirm(90, seed, val_score_before=92.0 + seed, **scores) for seed in range(3)]
    (row,) = compression_losses(to_table(rows), TASK, SCORES).to_dict("records")
    assert (row["lost"], row["lost_std"], row["seeds"]) == (13, 1, 3)
    assert row["key"] == summarize(to_table(rows))["key"].item()
    found = compression_loss_figure(to_table(rows), TASK, SCORES).drawings["50 % FLOPs"]
    assert isinstance(found, Chart)
    (strong,) = [trace for trace in found.traces if trace.kind == "strong"]
    assert list(strong.y) == [93, 80, 91]
    assert isinstance(compression_loss_figure(to_table([confirm(1)]), TASK, SCORES).drawings[""], Nothing)


def test_estimates_pair_damage_short_training_and_full_schedule(facts: RunFacts) -> None:
    places = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (3, 3, 3)]
    rows = [trial(number, 80.0 + number, one, screen_score=60.0 + 2 * number) for number, one in enumerate(places)]
    rows += [
        confirm(90.0 - number, seed, plan=plan(METHOD, one)) for number, one in enumerate(places) for seed in range(2)
    ]
    table = to_table(rows)
    found = estimates(table, [facts], site_tables(table, [facts], TASK), TASK)
    assert len(found) == 5
    rho = {row["estimates"]: (row["rho"], row["n"]) for row in rank_correlations(found).to_dict("records")}
    assert rho == {
        "predicted damage against short training": (pytest.approx(-1), 5),
        "untrained score against short training": (pytest.approx(1), 5),
        "short training against full schedule": (pytest.approx(-1), 5),
        "predicted damage against full schedule": (pytest.approx(1), 5),
    }
    assert all(isinstance(drawing, Chart) for drawing in rank_agreement_figure(found, SCORES).drawings.values())


def test_estimates_of_old_runs_are_a_sentence() -> None:
    found = estimates(to_table([confirm(80, plan="old"), record(plan="old", val_score=70.0)]), [], [], TASK)
    assert all(isinstance(drawing, Nothing) for drawing in rank_agreement_figure(found, SCORES).drawings.values())
    assert len(estimates(to_table([record(status="failed")]), [], [], TASK)) == 0


def test_latency_is_relative_to_the_dense_network_measured_in_turn() -> None:
    dense = confirm(92, variant="dense", methods=None, flops=DENSE_FLOPS, macs=40)
    measured = {"machine": "CPU X", "threads": 2, "dtype": "float32", "latency_batch": 16}
    table = to_table([dense, confirm(90, flops=5, macs=10, latency_ms=3.0, dense_latency_ms=4.0, **measured)])
    figure = latency_figure(summarize(table), TASK)
    found = figure.drawings[""]
    assert isinstance(found, Chart)
    assert (list(found.traces[0].x), list(found.traces[0].y)) == ([25], [pytest.approx(75)])
    assert "device CPU X, threads 2, number type float32, inputs at once 16" in figure.caption
    assert isinstance(latency_figure(summarize(to_table([confirm(1)])), TASK).drawings[""], Nothing)


def test_the_plan_s_heat_map_is_the_share_of_each_layer_s_flops() -> None:
    rows = [confirm(90, layers=LAYERS, plan=plan(METHOD, (0, 1, 2)), budget="50% flops", flops=5)]
    table = to_table(rows)
    summary = summarize(table)
    found = plan_figure(summary, verdicts(table, summary)).drawings["50 % FLOPs"]
    assert isinstance(found, HeatMap)
    assert found.rows == ["conv1", "layer1.conv1", "layer2.conv1"]
    assert found.values[0] == [pytest.approx(100 * 810_000 / 2_000_000)]
    assert found.texts[0] == ["40 · rank=1"]
    assert "rank=2" in found.hovers[1][0]
    layers = layers_of(summary.iloc[0])
    assert [layer.choice for layer in layers] == [f"structured convolution, rank={place}" for place in (1, 2, 3)]


def test_a_plan_of_old_records_is_a_sentence() -> None:
    table = to_table([confirm(90, budget="50% flops", flops=5)])
    summary = summarize(table)
    assert isinstance(plan_figure(summary, verdicts(table, summary)).drawings["50 % FLOPs"], Nothing)
    assert layers_of({"layers": '{"a": 3}', "plan": "{}"}) == []


def test_the_damage_of_a_layer_is_that_of_its_mildest_option_which_saves_enough(facts: RunFacts) -> None:
    """Options save 1 to 4 MMACs for damages of 1 to 4 nat, but for one that a milder and cheaper one makes useless."""
    cheaper = {("structured_conv", (("rank", 9),)): OptionFacts(saving=6_500_000, damage=0.01)}
    changed = replace(facts, options={**facts.options, "conv1": {**facts.options["conv1"], **cheaper}})
    figure = damage_figure(to_table([trial(0, 80.0)]), [changed], TASK)
    ((name, found),) = figure.drawings.items()
    assert name == "structured convolution"
    assert isinstance(found, HeatMap)
    assert list(found.rows) == ["conv1", "layer1.conv1", "layer2.conv1"]
    assert found.texts == [["0.01", "0.01", "0.01", "4"], ["1", "2", "3", "4"], ["1", "2", "3", "4"]]
    assert found.values[0] == pytest.approx([4, 4, 4, math.log10(4e6)])
    assert not found.diverging
    assert found.hovers[0][0] == "conv1\n0.01 nat: structured_conv rank=9"


def test_each_space_is_drawn_once_and_those_of_one_method_are_told_apart(facts: RunFacts) -> None:
    table = to_table([trial(0, 80.0), trial(0, 80.0, study="again"), trial(0, 80.0, study="fewer")])
    again = replace(facts, name="again")
    fewer = replace(facts, name="fewer", options={"conv1": facts.options["conv1"]})
    elsewhere = replace(facts, name="elsewhere", options={})
    figure = damage_figure(table, [facts, again, fewer, elsewhere], TASK)
    assert list(figure.drawings) == ["structured convolution (study)", "structured convolution (fewer)"]
    assert isinstance(damage_figure(table, [elsewhere], TASK).drawings[""], Nothing)
    assert isinstance(damage_figure(table, [facts], "another task").drawings[""], Nothing)


def test_the_best_loss_so_far_is_the_lowest_and_has_no_area(facts: RunFacts) -> None:
    table = to_table([trial(0, 0.5, **OF_LOSS), trial(1, 0.9, **OF_LOSS), trial(2, 0.4, **OF_LOSS)])
    found = search_progress(table, TASK, LOSS)
    assert found["best"].to_list() == [0.5, 0.5, 0.4]
    assert found["area"].isna().all()
    (figure,) = progress_figures(table, [facts], TASK, LOSS, found)
    assert list(figure.drawings) == ["best, by training", "best, by second"]
    assert "no fixed reference point" in figure.caption
    assert hypervolumes(table, summarize(table), TASK, LOSS)["searched_area"].isna().all()


def test_a_loss_that_rises_by_compression_is_a_loss() -> None:
    scores = {"val_score_before": 0.4, "val_score_after": 0.9, "val_score": 0.5, **OF_LOSS}
    (row,) = compression_losses(to_table([confirm(0.5, budget="50% flops", **scores)]), TASK, LOSS).to_dict("records")
    assert row["lost"] == pytest.approx(0.5)


def test_layers_that_good_losses_protect_are_those_of_the_lowest(facts: RunFacts) -> None:
    rows = [trial(n, 0.1 * n, (3, 0, 0) if n < 4 else (0, 3, 0), **OF_LOSS) for n in range(8)]
    (table,) = site_tables(to_table(rows), [facts], TASK)
    assert importances(table)["conv1"] > 0.8
    drawing = protection_figure([table]).drawings[""]
    assert isinstance(drawing, HeatMap)
    assert [row[0] for row in drawing.values] == pytest.approx([75, 0, 0])


def test_latencies_of_a_busy_machine_are_left_out_and_it_is_said() -> None:
    dense = confirm(92, variant="dense", methods=None, flops=DENSE_FLOPS, macs=40)
    known = {"flops": 5, "macs": 10, "latency_ms": 3.0, "dense_latency_ms": 4.0}
    table = to_table([dense, confirm(90, plan="P", **known), confirm(90, plan="Q", busy_share=0.5, **known)])
    figure = latency_figure(summarize(table), TASK)
    found = figure.drawings[""]
    assert isinstance(found, Chart)
    assert sum(len(trace.x) for trace in found.traces if trace.keys) == 1
    assert "1 measured on a busy machine" in figure.caption
