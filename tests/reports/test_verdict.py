"""Verdicts by hand: which plan, what difference, how sure, in which words."""

from __future__ import annotations

import pytest
from scipy import stats
from sconv_search.reports.table import to_table
from sconv_search.reports.verdict import Verdict, verdicts

from sconv_search.records import TrialRecord
from sconv_search.reports import summarize
from tests.reports.conftest import confirm, record

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
        f" 0.5 ± 0.2. The difference is not significant (paired t-test, p = {p:.2f}, n = 3)."
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
