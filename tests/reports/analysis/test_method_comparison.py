"""Verdicts by hand: which plan, what difference, how sure, in which words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats

from sconv_search.records import TrialRecord
from sconv_search.reports import summarize
from sconv_search.reports.analysis.method_comparison import Verdict, verdicts
from tests.reports.conftest import OF_LOSS, confirm, record, to_table

AT = {"budget": "50% flops", "flops": 40_000_000}


def decided(records: list[TrialRecord]) -> list[Verdict]:
    table = to_table(records)
    return verdicts(table, summarize(table))


def seeds(scores: list[float], **columns) -> list[TrialRecord]:
    return [confirm(score, seed, **AT | columns) for seed, score in enumerate(scores)]


DENSE = confirm(92.0, variant="dense", methods=None, flops=82_000_000)
FIRST, SECOND = [91.6, 91.7, 91.8], [91.3, 91.7, 91.5]


def test_the_sentence_is_the_numbers_in_words() -> None:
    (verdict,) = decided([DENSE, *seeds(FIRST), *seeds(SECOND, methods="spatial_svd")])
    p = stats.ttest_rel(SECOND, FIRST).pvalue
    assert (
        verdict.sentence
        == "At 50 % FLOPs, structured convolution loses 0.3 ± 0.1 points against the dense network; spatial SVD loses"
        f" 0.5 ± 0.2 points. The difference is not significant (paired t-test, p = {p:.2f}, n = 3)."
    )
    best, other = verdict.entries
    assert (best.family, best.mean, best.difference) == ("structured_conv", pytest.approx(91.7), pytest.approx(-0.3))
    assert other.p == pytest.approx(p)


def test_a_clear_difference_is_significant() -> None:
    (verdict,) = decided([DENSE, *seeds([91.6, 91.7, 91.8]), *seeds([80.0, 80.2, 80.3], methods="cp")])
    assert "The difference is significant (paired t-test, p < 0.001, n = 3)" in verdict.sentence


def test_two_seeds_are_not_enough_and_it_is_said() -> None:
    (verdict,) = decided([DENSE, *seeds(FIRST[:2]), *seeds(SECOND[:2], methods="cp")])
    assert "cannot be tested: not enough seeds (n = 2)" in verdict.sentence
    assert verdict.entries[1].p is None


def test_three_methods_share_one_level() -> None:
    (verdict,) = decided(
        [DENSE, *seeds(FIRST), *seeds(SECOND, methods="cp"), *seeds([90.0, 90.5, 90.1], methods="tucker")]
    )
    raw = [stats.ttest_rel(scores, FIRST).pvalue for scores in (SECOND, [90.0, 90.5, 90.1])]
    assert verdict.entries[2].p == pytest.approx(min(1, 2 * raw[1]))
    assert verdict.entries[1].p == pytest.approx(max(2 * raw[1], raw[0]))
    assert "The lead is not significant over CP (p = 0.18); significant over Tucker-2 (p = 0.02)" in verdict.sentence
    assert verdict.sentence.endswith("(paired t-tests, Holm-corrected, n = 3).")


def test_the_best_plan_is_chosen_by_validation_not_by_test() -> None:
    lucky = seeds([95.0, 95.0, 95.0], plan="lucky", val_score=80.0)
    (verdict,) = decided([*lucky, *seeds(FIRST, plan="good", val_score=91.0)])
    assert verdict.entries[0].mean == pytest.approx(91.7)
    assert verdict.entries[0].plans == 2


def test_budgets_and_tasks_are_decided_apart() -> None:
    found = decided([DENSE, *seeds(FIRST), *seeds(SECOND, budget="25% flops", plan="Q"), *seeds(FIRST, task="other")])
    assert [(one.task, one.budget) for one in found] == [
        ("cifar10/resnet20", "50 % FLOPs"),
        ("cifar10/resnet20", "25 % FLOPs"),
        ("other", "50 % FLOPs"),
    ]
    assert "no dense network" in found[2].sentence


def test_a_method_that_is_only_searched_is_waited_for() -> None:
    (verdict,) = decided([DENSE, *seeds(FIRST), record(methods="cp", val_score=90.0, **AT)])
    assert verdict.waiting == ("CP",)
    assert verdict.sentence.endswith("Not confirmed yet: CP.")


def test_nothing_confirmed_is_said() -> None:
    (verdict,) = decided([record(val_score=90.0, **AT)])
    assert "no plan is confirmed yet" in verdict.sentence


def test_a_gain_is_called_a_gain() -> None:
    (verdict,) = decided([DENSE, *seeds([92.4, 92.5, 92.6])])
    assert "structured convolution gains 0.5 ± 0.1 points" in verdict.sentence


def test_of_losses_the_lowest_is_best_and_a_rise_is_a_loss() -> None:
    dense = confirm(0.30, variant="dense", methods=None, flops=82_000_000, **OF_LOSS)
    (verdict,) = decided(
        [dense, *seeds([0.40, 0.42, 0.41], **OF_LOSS), *seeds([0.50, 0.52, 0.54], methods="cp", **OF_LOSS)]
    )
    assert [entry.family for entry in verdict.entries] == ["structured_conv", "cp"]
    assert "structured convolution loses 0.11 ± 0.01 nat against the dense network; CP loses 0.22 ± 0.02 nat" in (
        verdict.sentence
    )


def test_the_speed_up_stands_beside_the_score_unless_the_machine_was_busy() -> None:
    timed = [
        confirm(score, seed, **AT, latency_ms=ms, dense_latency_ms=3.0)
        for seed, (score, ms) in enumerate(zip(FIRST, (2.0, 2.5, 2.0), strict=True))
    ]
    (verdict,) = decided([DENSE, *timed])
    assert "against the dense network, 1.40 ± 0.17 times as fast as dense" in verdict.sentence
    assert verdict.entries[0].speed_cell == "1.40 ± 0.17"
    (verdict,) = decided([DENSE, *(replace(row, busy_share=0.5) for row in timed)])
    assert "times as fast" not in verdict.sentence
    assert verdict.entries[0].speed_cell == "1.40 ± 0.17 (busy)"
    (verdict,) = decided([DENSE, *(replace(row, latency_ms=6.0) for row in timed)])
    assert "0.50 ± 0.00 times as fast as dense, so slower" in verdict.sentence
