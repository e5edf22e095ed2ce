"""Reading run folders: every line is a row or a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reports import read_runs
from reports.table import to_table
from sconv_search.records import COLUMNS
from tests.reports.conftest import record

Write = Callable[..., Path]


def test_a_row_a_record_with_the_schema_s_columns(write_run: Write) -> None:
    folder = write_run("a", [record(number=3, flops=41_000_000, val_top1=88.5), record()])
    table = read_runs([folder]).table
    assert [*table] == [*COLUMNS, "flops_share"]
    assert table["flops_share"][0] == 50
    assert table["number"].dtype == "Int64"
    assert table["val_top1"].dtype == "Float64"
    assert table["val_top1"].isna().to_list() == [False, True]


def test_a_share_of_nothing_is_missing() -> None:
    assert to_table([record(flops=3, dense_flops=0), record(dense_flops=4)])["flops_share"].isna().all()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"study": "a", ', "not JSON"),
        ("[]", "not a record"),
        (record().to_json().replace('"schema": 1', '"schema": 9'), "schema 1"),
        (record().to_json().replace("null", "NaN", 1), "wrong type"),
        (record(val_top1=1.5).to_json().replace("1.5", "NaN"), "finite number"),
        (record(val_top1=1.5).to_json().replace("1.5", "1e999"), "finite number"),
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
    assert read_runs([write_run("a", [record()]), empty]).dropped == (f"{empty / 'trials.jsonl'} holds no readable record",)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is missing.*sconv-search search"):
        read_runs([tmp_path / "nowhere"])


def test_a_file_in_the_place_of_a_folder_is_named(write_run: Write) -> None:
    with pytest.raises(FileNotFoundError, match=r"trials.jsonl is a file, not a run folder"):
        read_runs([write_run("a", [record()]) / "trials.jsonl"])


def test_a_folder_without_trials_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no trials.jsonl; run `sconv-search search` first"):
        read_runs([tmp_path])


def test_nothing_readable_is_an_error_that_says_why(write_run: Write) -> None:
    with pytest.raises(ValueError, match=r"line 1 dropped: not JSON.*sconv-search search"):
        read_runs([write_run("a", ["oops"])])
    with pytest.raises(ValueError, match="no run folder was given"):
        read_runs([])


def test_missing_is_na_not_the_word_none(write_run: Write) -> None:
    assert read_runs([write_run("a", [record()])]).table["reason"][0] is pd.NA
