"""Which network to take: the smallest and the fastest within a tolerance of dense."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sconv_search.records import TrialRecord
from sconv_search.reports import summarize
from sconv_search.reports.analysis.choice import Choice, answer_at, answers, choices, question, unanswered
from sconv_search.reports.reading.runs import RunFacts
from tests.reports.conftest import DENSE_FLOPS, OF_LOSS, confirm, record, to_table

DENSE = confirm(92.0, variant="dense", methods=None, flops=DENSE_FLOPS)
SMALL = {"flops": DENSE_FLOPS // 4, "plan": "small", "number": 3, "latency_ms": 5.0, "dense_latency_ms": 4.0}
LARGE = {"flops": DENSE_FLOPS // 2, "plan": "large", "number": 8, "latency_ms": 2.0, "dense_latency_ms": 4.0}


def choice(rows: Sequence[TrialRecord], runs: Sequence[RunFacts] = ()) -> Choice:
    (found,) = choices(summarize(to_table(rows)), runs)
    return found


def seeds(scores: Sequence[float], **columns: Any) -> list[TrialRecord]:
    return [confirm(score, seed, **columns) for seed, score in enumerate(scores)]


def test_the_answer_changes_with_the_tolerance() -> None:
    found = choice([DENSE, *seeds((90.4, 90.6), **SMALL), *seeds((91.4, 91.6), **LARGE)])
    given = answers(found)
    assert [answer.least for answer in given] == [None, pytest.approx(0.5), pytest.approx(1.5)]
    assert answer_at(given, 0.4).smallest.startswith("none of the 2 confirmed networks. The nearest: structured")
    middle = answer_at(given, 1.0)
    assert middle.smallest == (
        "structured convolution, plan 8 of run study: 50.0 % of the FLOPs, 2.00 ± 0.00 times as fast as dense, "
        "test top-1 91.50 ± 0.14 % (0.5 points worse than dense, 2 seeds)."
    )
    assert middle.fastest == ""
    last = answer_at(given, 1.5)
    assert "plan 3 of run study: 25.0 % of the FLOPs, 0.80 ± 0.00 times as fast as dense, so slower" in last.smallest
    assert last.fastest.startswith("The fastest within that: structured convolution, plan 8 of run study")
    assert answer_at(given, 50.0) == last


def test_the_question_names_tolerance_metric_and_dense_score() -> None:
    found = choice([DENSE, *seeds((91.4, 91.6), **LARGE)])
    assert question(found) == ("The smallest network within", "points of dense (top-1 92.00 %):")
    assert (found.tolerance, found.tolerance_text, found.step) == (1.0, "1.0", 0.1)


def test_a_network_better_than_dense_is_within_any_tolerance() -> None:
    (none, only) = answers(choice([DENSE, *seeds((93.0, 93.0), **LARGE)]))
    assert none.least is None
    assert only.least == pytest.approx(-1.0)
    assert "1.0 ± 0.0" not in only.smallest
    assert "1.0 points better than dense" in only.smallest


def test_where_none_is_faster_it_is_said() -> None:
    found = choice([DENSE, *seeds((91.9, 91.9), **SMALL)])
    assert answer_at(answers(found), 1.0).fastest == "It is not faster than the dense one."


def test_a_busy_machine_s_speed_decides_nothing() -> None:
    fast = LARGE | {"latency_ms": 0.1, "busy_share": 0.6}
    found = choice([DENSE, *seeds((91.9, 91.9), **fast), *seeds((91.8, 91.8), **SMALL | {"latency_ms": 2.0})])
    answer = answer_at(answers(found), 1.0)
    assert "plan 3" in answer.smallest
    assert answer.fastest == "It is the fastest within that, too."
    busy = choice([DENSE, *seeds((91.9, 91.9), **fast)])
    assert "speed not known (the machine was busy when it was measured)" in answers(busy)[-1].smallest
    assert answers(busy)[-1].fastest == "How fast they are is not known: no speed was measured undisturbed."


def test_of_losses_less_is_better_and_the_tolerance_is_a_hundredth() -> None:
    dense = confirm(0.40, variant="dense", methods=None, flops=DENSE_FLOPS, **OF_LOSS)
    found = choice([dense, *seeds((0.402, 0.402), **LARGE, **OF_LOSS), *seeds((0.38, 0.38), **SMALL, **OF_LOSS)])
    assert (found.tolerance, found.tolerance_text) == (pytest.approx(0.004), "0.0040")
    assert question(found)[1] == "nat of dense (val loss 0.4 nat):"
    answer = answer_at(answers(found), found.tolerance)
    assert "plan 3" in answer.smallest
    assert "0.02 nat better than dense" in answer.smallest


def test_without_dense_or_without_plans_there_is_no_answer() -> None:
    for rows, words in (
        (seeds((90.0, 91.0), **LARGE), "no dense network is confirmed"),
        ([DENSE], "no plan is confirmed"),
        ([record(val_score=90.0, flops=5)], "no dense network is confirmed"),
    ):
        found = choice(rows)
        assert answers(found) == []
        assert words in unanswered(found)


def test_path_and_command_are_those_of_the_run_folder(tmp_path: Path) -> None:
    run = RunFacts(name="study", folder=tmp_path / "a run")
    for seed in (10, 2):
        (run.folder / "confirmed" / f"searched-8-seed{seed}").mkdir(parents=True)
    rows = [DENSE, *seeds((91.9, 91.9), **LARGE), *seeds((91.8, 91.8), **SMALL)]
    (small, large) = choice(rows, [run]).options
    assert large.path == str(run.folder / "confirmed" / "searched-8-seed2")
    assert large.command == f"sconv-search export '{run.folder}' --plan 8 --to onnx"
    assert (small.path, small.command) == ("", "")


@pytest.mark.parametrize(
    ("task", "flags"),
    [
        ("corners", ""),
        ("images?size=32@timm:resnet18", " --network timm:resnet18"),
        ("mine:task@mine:net", " --task mine:task --network mine:net"),
        (None, ""),
        (5, ""),
    ],
)
def test_the_command_names_the_code_of_the_runs_task_again(tmp_path: Path, task: object, flags: str) -> None:
    run = RunFacts(name="study", folder=tmp_path, spec={"task": task})
    (tmp_path / "confirmed" / "searched-8-seed0").mkdir(parents=True)
    (option,) = choice([DENSE, *seeds((91.9,), **LARGE)], [run]).options
    assert option.command == f"sconv-search export {tmp_path} --plan 8 --to onnx{flags}"


def test_a_uniform_plan_has_its_name_of_the_run(tmp_path: Path) -> None:
    run = RunFacts(name="study", folder=tmp_path)
    (tmp_path / "confirmed" / "uniform-low-seed0").mkdir(parents=True)
    rows = [DENSE, confirm(91.9, variant="uniform", name="uniform-low", plan="U", flops=DENSE_FLOPS // 2)]
    (option,) = choice(rows, [run]).options
    assert option.command == f"sconv-search export {tmp_path} --plan uniform-low --to onnx"
    assert option.words.startswith("structured convolution, uniform plan uniform-low of run study")
