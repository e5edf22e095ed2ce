"""Summary numbers by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sconv_search.records import TrialRecord
from sconv_search.reports import summarize
from sconv_search.reports.analysis.summary import counts, failures
from tests.reports.conftest import confirm, record, to_table


def only(summary: pd.DataFrame, label: str) -> pd.Series:
    (row,) = [row for _, row in summary.iterrows() if row["label"] == label]
    return row


def rows() -> list[TrialRecord]:
    plan = {"plan": "P", "flops": 41_000_000, "macs": 20_000_000, "adds": 1_000_000, "params": 9}
    latencies = [(2.0, 4.0), (3.0, 3.0), (4.0, 6.0)]
    scores = [88.0, 90.0, 89.0]
    found = [
        confirm(score, seed, latency_ms=latency, dense_latency_ms=dense, **plan)
        for seed, (score, (latency, dense)) in enumerate(zip(scores, latencies, strict=True))
    ]
    found += [record(plan="P", val_score=87.0), record(plan="P", val_score=87.5), record(plan="Q", val_score=99.0)]
    return [*found, confirm(91.5, variant="dense", methods=None, flops=82_000_000)]


def test_a_confirmed_plan_by_hand() -> None:
    row = only(summarize(to_table(rows())), "structured convolution, searched")
    assert (row["seeds"], row["flops"], row["macs"], row["adds"], row["params"]) == (
        3,
        41_000_000,
        20_000_000,
        1_000_000,
        9,
    )
    assert (row["flops_share"], row["test_score"], row["test_score_std"]) == (50, 89, 1)
    assert row["difference"] == -2.5
    assert row["best_val_score"] == 87.5


def test_one_seed_gives_no_deviation_and_dense_no_distance_to_itself() -> None:
    row = only(summarize(to_table(rows())), "dense")
    assert row["seeds"] == 1
    assert row["test_score_std"] is pd.NA
    assert row["difference"] == 0
    assert row["latency_ms"] is pd.NA
    assert row["speed_up"] is pd.NA
    assert row["best_val_score"] is pd.NA


def test_without_dense_the_distance_is_missing() -> None:
    assert summarize(to_table([confirm(80)]))["difference"][0] is pd.NA


def test_a_seed_confirmed_in_two_studies_is_one_seed() -> None:
    again = [confirm(88, 0, study="a"), confirm(90, 0, study="b"), confirm(91, 1, study="a")]
    (row,) = [row for _, row in summarize(to_table(again)).iterrows()]
    assert (row["seeds"], row["test_score"]) == (2, 90)
    assert row["test_score_std"] == pytest.approx(math.sqrt(2))


def test_one_plan_with_and_without_regularization_makes_two_rows() -> None:
    summary = summarize(to_table([confirm(88, plan="P"), confirm(80, plan="P", regularization=0.5)]))
    assert sorted(summary["test_score"]) == [80, 88]


def test_failed_confirmations_and_missing_scores_give_no_row() -> None:
    assert summarize(to_table([record(stage="confirm", status="failed"), record(stage="confirm")])).empty


def test_order_is_by_task_and_falling_flops() -> None:
    found = [confirm(1, task=task, flops=flops, plan=str(flops)) for task in "ba" for flops in (5, 9, 7)]
    summary = summarize(to_table(found))
    assert list(zip(summary["task"], summary["flops"], strict=True)) == [(t, f) for t in "ab" for f in (9, 7, 5)]


def test_before_confirmation_the_best_search_trials_stand_in_marked() -> None:
    trials = [record(val_score=score, plan=str(score), flops=5) for score in (70, 90, 80, 60)]
    summary = summarize(to_table([*trials, confirm(85, methods="spatial_svd", flops=9)]))
    assert summary["label"].to_list() == [
        "spatial SVD, searched",
        *["structured convolution, searched (validation only)"] * 3,
    ]
    assert sorted(summary["best_val_score"].dropna()) == [70, 80, 90]
    assert summary["test_score"].isna().to_list() == [False, True, True, True]
    assert summary["seeds"].to_list() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("variant", "methods", "label"),
    [
        ("dense", None, "dense"),
        ("dense_finetuned", None, "dense, fine-tuned"),
        ("searched", "structured_conv", "structured convolution, searched"),
        ("uniform", "spatial_svd", "spatial SVD, uniform"),
        ("searched", "spatial_svd,structured_conv", "spatial SVD + structured convolution, searched"),
        ("searched", "my_method", "my method, searched"),
        ("searched", None, "no method, searched"),
    ],
)
def test_labels_are_plain_words(variant: str, methods: str | None, label: str) -> None:
    assert summarize(to_table([confirm(1, variant=variant, methods=methods)]))["label"][0] == label


@pytest.mark.parametrize(
    ("epochs", "label"),
    [(0.0, "dense, batch norms re-estimated"), (0.5, "dense, fine-tuned"), (None, "dense, fine-tuned")],
)
def test_a_dense_network_that_was_not_trained_on_is_not_called_fine_tuned(epochs: float | None, label: str) -> None:
    table = to_table(
        [confirm(80, variant="dense", methods=None), confirm(80, variant="dense_finetuned", epochs=epochs)]
    )
    assert set(summarize(table)["label"]) == {"dense", label}
    assert set(counts(table)["label"]) == {"dense", label}


def test_every_trial_is_counted() -> None:
    statuses = ["complete", "complete", "over_budget", "failed", "failed", "failed"]
    found = [record(status=status, wall_s=10.0, reason="nan") for status in statuses]
    table = to_table([*found, record(study="other", status="failed", reason=None)])
    counted = counts(table)
    assert counted[["complete", "over_budget", "failed"]].to_numpy().tolist() == [[0, 0, 1], [2, 1, 3]]
    assert counted["wall_s"].to_list()[0] is pd.NA
    assert counted["wall_s"].to_list()[1] == 60
    assert counted[["complete", "over_budget", "failed"]].to_numpy().sum() == len(table)
    reasons = failures(table)
    assert list(zip(reasons["run"], reasons["trials"], reasons["reason"].fillna("missing"), strict=True)) == [
        ("other", 1, "missing"),
        ("study", 3, "nan"),
    ]
