"""Reading run folders: every line is a row or a message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sconv_search.records import COLUMNS
from sconv_search.reports import read_runs
from sconv_search.reports.reading.records_table import DERIVED
from tests.reports.conftest import OF_LOSS, record, spec, to_table

Write = Callable[..., Path]


def test_a_row_a_record_with_the_schema_s_columns(write_run: Write) -> None:
    folder = write_run("a", [record(number=3, flops=41_000_000, val_score=88.5), record()])
    table = read_runs([folder]).table
    assert [*table] == [*COLUMNS, *DERIVED]
    assert table["flops_share"][0] == 50
    assert table["number"].dtype == "Int64"
    assert table["val_score"].dtype == "Float64"
    assert table["val_score"].isna().to_list() == [False, True]


def test_a_share_of_nothing_is_missing() -> None:
    assert to_table([record(flops=3, dense_flops=0), record(dense_flops=4)])["flops_share"].isna().all()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"study": "a", ', "not JSON"),
        ("[]", "not a record"),
        (record().to_json().replace('"schema": 2', '"schema": 9'), "schemas 1 and 2 are read, got 9"),
        (record().to_json().replace("null", "NaN", 1), "wrong type"),
        (record(val_score=1.5).to_json().replace("1.5", "NaN"), "finite number"),
        (record(val_score=1.5).to_json().replace("1.5", "1e999"), "finite number"),
        (record(flops=7).to_json().replace('"flops": 7', f'"flops": {10**30}'), "'flops' is too large"),
        (record(reason="x").to_json().replace('"x"', '"\\ud800"'), "surrogates"),
    ],
)
def test_a_damaged_line_is_dropped_and_named(write_run: Write, line: str, why: str) -> None:
    folder = write_run("a", [record(), line, "", record()])
    reading = read_runs([folder])
    assert len(reading.table) == 2
    (message,) = reading.dropped
    assert message.startswith(f"{folder / 'trials.jsonl'} line 2 dropped: ")
    assert why in message


def test_a_record_whose_plan_is_none_is_dropped_and_named(write_run: Write) -> None:
    folder = write_run("a", [record(), record(number=1, plan='{"format": "sconv-search plan 1", "sites": {"a": 3}}')])
    reading = read_runs([folder])
    assert len(reading.table) == 1
    (message,) = reading.dropped
    assert message.startswith(f"{folder / 'trials.jsonl'} line 2 dropped: field 'plan' must hold a plan as JSON: ")


def test_bytes_that_are_not_utf8_are_dropped(write_run: Write) -> None:
    folder = write_run("a", [record()])
    with open(folder / "trials.jsonl", "ab") as file:
        file.write(b"\xff\xfe\n")
    assert "line 2 dropped: 'utf-8' codec" in read_runs([folder]).dropped[0]


def test_a_line_separator_within_a_text_does_not_cut_the_line(write_run: Write) -> None:
    assert read_runs([write_run("a", [record(reason="one\u2028two")])]).table["reason"][0] == "one\u2028two"


def test_a_folder_named_twice_counts_once(write_run: Write) -> None:
    folder = write_run("a", [record()])
    assert len(read_runs([folder, folder / ".." / "a"]).table) == 1


def test_a_run_without_readable_records_is_reported_beside_others(write_run: Write) -> None:
    empty = write_run("empty", [])
    assert read_runs([write_run("a", [record()]), empty]).dropped == (
        f"{empty / 'trials.jsonl'} holds no readable record",
    )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is missing.*sconv-search search"):
        read_runs([tmp_path / "nowhere"])


def test_a_file_in_the_place_of_a_folder_is_named(write_run: Write) -> None:
    with pytest.raises(FileNotFoundError, match=r"trials.jsonl is a file, not a run folder"):
        read_runs([write_run("a", [record()]) / "trials.jsonl"])


def test_a_folder_without_trials_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no trials.jsonl; search first"):
        read_runs([tmp_path])


def test_nothing_readable_is_an_error_that_says_why(write_run: Write) -> None:
    with pytest.raises(ValueError, match=r"line 1 dropped: not JSON.*sconv-search search"):
        read_runs([write_run("a", ["oops"])])
    with pytest.raises(ValueError, match="no run folder was given"):
        read_runs([])


def test_missing_is_na_not_the_word_none(write_run: Write) -> None:
    assert read_runs([write_run("a", [record()])]).table["reason"][0] is pd.NA


def test_a_run_s_spec_says_which_methods_were_searched(write_run: Write) -> None:
    """A plan of a mixed search may hold one method alone; it still is the mixed search's."""
    folder = write_run("mixed", [record(methods="spatial_svd"), record(variant="dense", methods=None)])
    (folder / "spec.json").write_text(
        json.dumps({"methods": ["structured_conv", "spatial_svd"], "trials": 7, "seed": 3})
    )
    reading = read_runs([folder])
    assert reading.table["family"].to_list() == ["spatial_svd,structured_conv", ""]
    (facts,) = reading.runs
    assert (facts.sampler, facts.trials, facts.seed) == ("tpe", 7, 3)


@pytest.mark.parametrize("name", ["spec.json", "space.json"])
@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_damaged_spec_or_space_is_reported_and_the_records_are_read(write_run: Write, name: str, text: str) -> None:
    folder = write_run("a", [record()])
    (folder / name).write_bytes(text.encode("latin-1"))
    reading = read_runs([folder])
    assert len(reading.table) == 1
    (message,) = reading.dropped
    assert f"{folder / name} is not read" in message


def test_a_space_of_another_form_is_reported(write_run: Write) -> None:
    folder = write_run("a", [record()])
    (folder / "space.json").write_text(json.dumps({"sites": {"conv": [{"choice": 3}]}}))
    assert "space.json is not read: KeyError" in read_runs([folder]).dropped[0]


def test_two_folders_of_one_name_keep_apart(write_run: Write) -> None:
    first, second = write_run("one/same", [record()]), write_run("two/same", [record()])
    assert read_runs([first, second]).table["run"].nunique() == 2


@pytest.mark.parametrize(
    ("budget", "group"),
    [
        ("50% flops", "50 % FLOPs"),
        ("50%", "50 % FLOPs"),
        ("41M flops", "50 % FLOPs"),
        ("33.3% flops", "33.3 % FLOPs"),
        ("50% params", "50 % parameters"),
        ("20M macs", "20M MACs"),
        ("a lot", "a lot"),
        ("8.5ms latency_ms", "8.5ms latency_ms"),
    ],
)
def test_one_budget_has_one_spelling(budget: str, group: str) -> None:
    assert to_table([record(budget=budget)])["budget_group"].to_list() == [group]


def test_references_belong_to_every_budget() -> None:
    assert to_table([record(variant="dense", budget="50% flops")])["budget_group"].isna().all()


def test_records_of_schema_1_are_read(write_run: Write) -> None:
    """What the earlier file did not hold is missing; its scores were top-1 accuracies unless it said otherwise."""
    added = ("metric_unit", "metric_better", "name", "speed_up_spread", "busy_share", "threads", "dtype", "command")
    earlier = {name: value for name, value in json.loads(record(val_score=88.5).to_json()).items() if name not in added}
    earlier |= {"schema": 1, "val_top1": earlier.pop("val_score"), "metric": None, "number": 3}
    lines = [json.dumps(earlier), json.dumps(earlier | {"metric": "mean IoU", "task": "other", "number": None})]
    table = read_runs([write_run("a", lines)]).table
    assert table["val_score"].to_list() == [88.5, 88.5]
    assert table["metric"].to_list() == ["top-1", "mean IoU"]
    assert (set(table["metric_unit"]), set(table["metric_better"])) == ({"%"}, {"higher"})
    assert table["name"].to_list() == ["3", "searched"]
    assert table[["threads", "dtype", "command", "busy_share"]].isna().all(axis=None)


def test_a_whole_last_line_without_its_end_is_read(write_run: Write) -> None:
    folder = write_run("a", [record()])
    with open(folder / "trials.jsonl", "a") as file:
        file.write(record(number=7).to_json())
    assert read_runs([folder]).table["number"].to_list() == [pd.NA, 7]


def test_brackets_without_end_cost_their_line_alone(write_run: Write) -> None:
    reading = read_runs([write_run("a", ["[" * 100_000, record()])])
    assert len(reading.table) == 1
    assert len(reading.dropped[0]) < 500


def test_more_records_than_a_part_keep_their_order(write_run: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sconv_search.reports.reading.records_table._PART", 3)
    folder = write_run("a", [record(number=number, reason="same") for number in range(8)])
    table = read_runs([folder]).table
    assert table["number"].to_list() == list(range(8))
    assert table["reason"].to_list() == ["same"] * 8


def test_tasks_of_one_name_and_other_metrics_keep_apart(write_run: Write) -> None:
    rows = [record(val_score=90.0), record(val_score=0.3, **OF_LOSS)]
    assert read_runs([write_run("a", rows)]).table["task"].to_list() == [
        "cifar10/resnet20 (top-1, %, higher is better)",
        "cifar10/resnet20 (val loss, nat, lower is better)",
    ]


def test_tasks_of_one_name_and_other_data_keep_apart(write_run: Write) -> None:
    folders = [write_run(name, [record(study=name)]) for name in ("a", "b", "c")]
    for folder, checksum in zip(folders[:2], ("1" * 64, "2" * 64), strict=True):
        (folder / "spec.json").write_text(json.dumps(spec("cp", data_sha256=checksum)))
    assert read_runs(folders).table["task"].to_list() == [
        f"cifar10/resnet20 (data {words})" for words in ("11111111", "22222222", "not recorded")
    ]
    assert read_runs(folders[:1]).table["task"].to_list() == ["cifar10/resnet20"]
