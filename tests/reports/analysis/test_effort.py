"""Equal effort, and the words for unequal effort."""

from __future__ import annotations

from sconv_search.reports.analysis.effort import effort, inequalities, unfinished, unrecorded
from sconv_search.reports.reading.runs import RunFacts
from tests.reports.conftest import confirm, record, spec, to_table

AT = {"budget": "50% flops", "flops": 40_000_000}


def spent(counts: dict[str, int], epochs: dict[str, float] | None = None, **entries):
    rows, runs = [], []
    for method, count in counts.items():
        origin = AT | {"study": method, "methods": method}
        rows += [
            record(val_score=90.0, epochs=(epochs or {}).get(method, 2.0), wall_s=10.0, **origin) for _ in range(count)
        ]
        rows += [
            record(status="failed", wall_s=1.0, **origin),
            record(status="over_budget", **origin),
            confirm(90, epochs=6.0, **origin),
        ]
        facts = spec(method, trials=10) | {name: value[method] for name, value in entries.items()}
        runs.append(RunFacts(name=method, family=method, trials=facts["trials"], spec=facts))
    return effort(to_table(rows, runs=runs), runs)


def test_equal_effort_is_equal() -> None:
    found = spent({"cp": 10, "tucker": 10})
    assert inequalities(found) == []
    assert unfinished(found) == []
    assert found["complete"].to_list() == [10, 10]
    assert found["failed"].to_list() == found["over_budget"].to_list() == [1, 1]
    assert found["search_wall_s"].to_list() == [101, 101]


def test_fewer_trainings_are_named_with_their_numbers_and_called_unfinished() -> None:
    found = spent({"cp": 10, "tucker": 7})
    (sentence,) = inequalities(found)
    assert sentence.startswith("Unequal effort in cifar10/resnet20 at 50 % FLOPs.")
    assert "trainings complete: CP 10, Tucker-2 7" in sentence
    assert unfinished(found) == ["In progress: Tucker-2 in cifar10/resnet20 at 50 % FLOPs has 7 of 10 trainings."]


def test_other_epochs_weights_and_data_are_named() -> None:
    (sentence,) = inequalities(
        spent({"cp": 10, "tucker": 10}, {"cp": 4.0}, weights_sha256={"cp": "c" * 64, "tucker": "d" * 64})
    )
    assert "epochs of one search training: CP 4, Tucker-2 2" in sentence
    assert f"start weights (SHA-256): CP {'c' * 12}, Tucker-2 {'d' * 12}" in sentence


def test_one_method_alone_is_equal_to_itself() -> None:
    assert inequalities(spent({"cp": 3})) == []


def test_what_a_run_does_not_record_is_named_and_called_neither_equal_nor_not() -> None:
    assert unrecorded(spent({"cp": 10, "tucker": 10})) == []
    found = spent({"cp": 10, "tucker": 10}, weights_sha256=dict.fromkeys(("cp", "tucker")))
    assert inequalities(found) == []
    assert unrecorded(found) == ["start weights (SHA-256)"]
