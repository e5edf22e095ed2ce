from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search import COLUMNS, Budget, Cost, TrialRecord, strict_json
from sconv_search.records import Metric, read_lines
from sconv_search.strict_json import LARGEST

some = settings(max_examples=50, deadline=None, derandomize=True)
DENSE = Cost(macs=1_000_000_000, adds=500_000_000, params=1_001)  # 2.5 GFLOP
RECORD = TrialRecord(
    study="s", task="digits", stage="search", variant="searched", status="complete", macs=3, val_score=91.5
)


@some
@given(*[st.integers(0, 10**12)] * 3)
def test_flops_are_two_for_a_mac_and_one_for_an_addition(macs: int, adds: int, params: int) -> None:
    assert Cost(macs=macs, adds=adds, params=params).flops == macs + macs + adds


def test_costs_add_and_subtract_by_column() -> None:
    one, two = Cost(macs=1, adds=20, params=300), Cost(macs=5, adds=60, params=700)
    assert one + two == Cost(macs=6, adds=80, params=1000)
    assert two - one == Cost(macs=4, adds=40, params=400)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("41M", 41_000_000),
        ("1.2G", 1_200_000_000),
        ("350000", 350_000),
        ("12k", 12_000),
        (" 12 k ", 12_000),
        ("2.03k", 2_030),
        ("50%", 1_250_000_000),
        ("33.3%", 832_500_000),
        ("100%", 2_500_000_000),
        ("2.5G", 2_500_000_000),
    ],
)
def test_a_budget_is_an_amount_or_a_share(text: str, limit: int) -> None:
    assert Budget.parse(text, dense=DENSE) == Budget(limit=limit, quantity="flops")


@some
@given(st.integers(1, 2000), st.sampled_from([("k", 10**3), ("M", 10**6)]))
def test_a_decimal_amount_is_exact(hundredths: int, unit: tuple[str, int]) -> None:
    amount = Decimal(hundredths) / 100
    assert Budget.parse(f"{amount}{unit[0]}", dense=DENSE).limit == amount * unit[1]


@pytest.mark.parametrize(("quantity", "limit"), [("flops", 1_250_000_000), ("macs", 500_000_000), ("params", 500)])
def test_a_share_is_of_the_chosen_quantity_rounded_down(quantity: Any, limit: int) -> None:
    assert Budget.parse("50%", dense=DENSE, quantity=quantity) == Budget(limit=limit, quantity=quantity)


@pytest.mark.parametrize(
    "text", ["0", "0%", "0.00001%", "fifty", "-5", "-50%", "", "%", "M", "1e6", "5 0%", "41m", "nan", "inf"]
)
def test_a_budget_of_nothing_or_without_sense_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=rf"budget {text!r} .*write a share of the dense network"):
        Budget.parse(text, dense=Cost(macs=1000, adds=0, params=10))


def test_a_bare_number_that_was_meant_as_a_share_is_asked_about() -> None:
    with pytest.raises(ValueError, match=r"budget '0\.5' is 0\.5 flops; did you mean '50%'\?"):
        Budget.parse("0.5", dense=Cost(macs=1000, adds=0, params=10))


@pytest.mark.parametrize(("text", "share"), [("200%", "200%"), ("5G", "200%"), ("100.1%", "100%")])
def test_a_budget_above_dense_is_refused_with_its_share(text: str, share: str) -> None:
    with pytest.raises(ValueError, match=rf"budget '{text}' is {share} of the dense network's 2,500,000,000 flops"):
        Budget.parse(text, dense=DENSE)


def test_a_budget_is_checked_at_birth() -> None:
    with pytest.raises(ValueError, match="positive, got 0 flops"):
        Budget(limit=0)
    with pytest.raises(ValueError, match="'latency'"):
        Budget(limit=1, quantity="latency")


@pytest.mark.parametrize(("limit", "excess"), [(2500, 0.0), (2000, 0.25), (5000, -0.5)])
def test_excess_is_the_relative_overshoot(limit: int, excess: float) -> None:
    assert Budget(limit=limit).excess(Cost(macs=1000, adds=500, params=7)) == excess


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "int": st.integers(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "Direction": st.sampled_from(["higher", "lower"]),
    "Stage": st.sampled_from(["search", "confirm"]),
    "Status": st.sampled_from(["complete", "over_budget", "failed"]),
    "None": st.none(),
}
records = st.builds(
    TrialRecord,
    **{
        f.name: st.one_of([VALUES[kind] for kind in str(f.type).split(" | ")])
        for f in fields(TrialRecord)
        if f.name != "schema"
    },
)


@some
@given(records)
def test_a_record_survives_json_as_one_line(record: TrialRecord) -> None:
    line = record.to_json()
    assert "\n" not in line
    assert TrialRecord.from_json(line) == record


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(RECORD, val_loss=value).to_json()
    with pytest.raises(ValueError, match="'val_loss' must be a finite number"):
        TrialRecord.from_json(json.dumps({**json.loads(RECORD.to_json()), "val_loss": value}))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"unheard": 1}, "unknown field 'unheard'"),
        ({"schema": 3}, "schemas 1 and 2 are read, got 3"),
        ({"schema": True}, "schemas 1 and 2 are read, got True"),
        ({"metric_better": "more"}, "field 'metric_better' must be one of lower, higher, got 'more'"),
        ({"reason": 10**60}, "'reason' has the wrong type: a whole number of 200 bits"),
        ({"macs": "3"}, "field 'macs' has the wrong type: '3'"),
        ({"macs": 3.5}, "field 'macs' has the wrong type: 3.5"),
        ({"macs": True}, "field 'macs' has the wrong type: True"),
        ({"val_score": "high"}, "field 'val_score' has the wrong type: 'high'"),
        ({"val_score": False}, "field 'val_score' has the wrong type: False"),
        ({"study": None}, "field 'study' has the wrong type: None"),
        ({"stage": "rehearsal"}, "field 'stage' must be one of search, confirm, got 'rehearsal'"),
        ({"status": "pruned"}, "field 'status' must be one of complete, screened, over_budget, failed, got 'pruned'"),
    ],
)
def test_a_malformed_field_is_refused_by_name(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TrialRecord.from_json(json.dumps({**json.loads(RECORD.to_json()), **changed}))


@pytest.mark.parametrize("name", ["study", "task", "stage", "variant", "status", "schema"])
def test_a_record_without_a_required_field_is_refused_by_name(name: str) -> None:
    entry = json.loads(RECORD.to_json())
    del entry[name]
    with pytest.raises(ValueError, match=name):
        TrialRecord.from_json(json.dumps(entry))


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_a_truncated_line_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        TrialRecord.from_json(RECORD.to_json()[:length])


@pytest.mark.parametrize("line", ["[]", "3", "null"])
def test_a_line_that_is_no_object_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a record"):
        TrialRecord.from_json(line)


VALUES = (
    *("0.1", "-1e18", "1e30", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "NaN", "1e999"),
    *("18446744073709551616", "1" + "0" * 30, "1" * 5000, "-Infinity", "true", "null", '"x"', "[1]", '{"a": 1e30}'),
    *('"\\ud800"', '"\\ud83d\\ude00"', '"\u2028\u0085"', '"confirm"', '"lower"', "2", "1", "3", "[" * 100_000),
)


@pytest.mark.parametrize("largest", [LARGEST, math.inf])
@pytest.mark.parametrize(
    "name", ["schema", "stage", "metric_better", "macs", "val_loss", "machine", "number", "unknown"]
)
def test_a_line_is_read_alike_with_and_without_the_fast_parser(
    name: str, largest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(line: str) -> str:
        try:
            return repr(TrialRecord.fields_of(line, largest=largest))
        except ValueError as error:
            return str(error)

    entry = json.loads(RECORD.to_json())
    entry.pop(name, None)
    lines = [json.dumps(entry)[:-1] + f', "{name}": {value}}}' for value in VALUES]
    lines += [f'{line[:-1]}, "{name}": 4}}' for line in lines[:4]]  # the last of a repeated name counts
    fast = [outcome(line) for line in lines]
    monkeypatch.setattr(strict_json, "orjson", None)
    assert fast == [outcome(line) for line in lines]
    assert any(line.startswith("{") for line in fast) == (name != "unknown")


def test_values_are_frozen() -> None:
    for value, name in ((DENSE, "macs"), (Budget(limit=1), "limit"), (RECORD, "status")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


def test_every_field_is_a_column_with_label_unit_and_direction() -> None:
    assert list(COLUMNS) == [f.name for f in fields(TrialRecord)]
    for facts in COLUMNS.values():
        assert set(facts) == {"label", "unit", "better"}
        assert facts["label"]
        assert facts["better"] in ("lower", "higher", "by metric", "")


def test_scores_are_better_by_their_metric_and_costs_lower() -> None:
    scores = {name for name, facts in COLUMNS.items() if facts["better"] == "by metric"}
    assert scores == {"val_score_before", "val_score_after", "val_score", "test_score", "screen_score"}
    assert {COLUMNS[name]["better"] for name in ("macs", "adds", "flops", "params", "latency_ms", "val_loss")} == {
        "lower"
    }


def test_missing_values_are_none() -> None:
    assert TrialRecord.from_json(RECORD.to_json()).test_score is None
    assert json.loads(RECORD.to_json())["test_score"] is None


OLD = {
    "study": "s",
    "task": "digits",
    "stage": "confirm",
    "variant": "searched",
    "status": "complete",
    "schema": 1,
    "number": 3,
    "val_top1_before": 92.0,
    "val_top1_after": 80.0,
    "val_top1": 91.0,
    "test_top1": 90.5,
    "screen_top1": 50.0,
}
"""A line of version 0.1."""


def test_a_line_of_schema_1_is_a_record_of_today() -> None:
    found = TrialRecord.from_json(json.dumps(OLD))
    assert (found.schema, found.score_metric) == (2, Metric("top-1", unit="%"))
    scores = ("val_score_before", "val_score_after", "val_score", "test_score", "screen_score")
    assert [getattr(found, name) for name in scores] == [92, 80, 91, 90.5, 50]
    assert found.plan_name == "3"
    assert TrialRecord.from_json(json.dumps({**OLD, "metric": "mean IoU"})).metric == "mean IoU"
    assert TrialRecord.from_json(found.to_json()) == found


def test_a_column_of_schema_1_is_unknown_in_schema_2() -> None:
    with pytest.raises(ValueError, match="unknown field 'val_top1"):
        TrialRecord.from_json(json.dumps({**OLD, "schema": 2}))


@pytest.mark.parametrize(
    ("metric", "quality", "text"),
    [
        (Metric("top-1", unit="%"), 12.3456, "12.35 %"),
        (Metric("val loss", better="lower", unit="nat"), -12.3456, "12.35 nat"),
        (Metric("PSNR", unit="dB"), 12.3456, "12.35 dB"),
        (Metric("loss", better="lower"), -12.3456, "12.35"),
    ],
)
def test_a_metric_says_which_way_is_better_and_in_what_unit(metric: Metric, quality: float, text: str) -> None:
    assert (metric.quality(12.3456), metric.text(12.3456)) == (quality, text)


def test_a_metric_is_checked_at_birth() -> None:
    with pytest.raises(ValueError, match="'more'"):
        Metric("a", better="more")
    with pytest.raises(ValueError, match="needs a name"):
        Metric(" ")


def test_quality_follows_the_metric_and_is_missing_with_the_score() -> None:
    loss = replace(RECORD, metric="val loss", metric_better="lower", metric_unit="nat", val_score=0.5)
    assert (RECORD.quality, loss.quality, replace(loss, val_score=None).quality) == (91.5, -0.5, None)
    assert replace(loss, screen_score=0.7).screen_quality == -0.7


def test_every_line_of_a_file_is_a_record_or_a_reason(tmp_path: Path) -> None:
    """Lines end at line feeds alone; the last may lack its own."""
    lines = [
        RECORD.to_json().encode(),
        b"",
        b"oops",
        replace(RECORD, reason="one\u2028two\x85three").to_json().encode(),
        b'{"schema": 2}\r',
        b"\xff",
        b"[" * 100_000,
        json.dumps(OLD).encode(),
        json.dumps({**OLD, "reason": "\ud800"}).encode(),
        json.dumps({**OLD, "macs": 2**80}).encode(),
        RECORD.to_json().encode(),
    ]
    (tmp_path / "trials.jsonl").write_bytes(b"\n".join(lines))
    found = dict(read_lines(tmp_path / "trials.jsonl", largest=2**63 - 1))
    assert [number for number, entry in found.items() if isinstance(entry, dict)] == [1, 4, 8, 11]
    reasons = {number: entry for number, entry in found.items() if isinstance(entry, str)}
    words = {3: "not JSON", 5: "incomplete", 6: "utf-8", 7: "too deep", 9: "surrogates", 10: "'macs' is too large"}
    assert set(reasons) == set(words)
    assert all(words[number] in reason and len(reason) < 500 for number, reason in reasons.items())
